//! PGP for mail that leaves: a signed form made while the sender is logged in, encrypted for one recipient at each attempt.
//!
//! ```text
//!  submit --> prepare (identity key open) --> Outgoing, stored in the queue under the job's data key
//!  queue attempt --> wrap (no secret key) --> what goes on the wire to that recipient, or why it must wait
//! ```

#![allow(dead_code, reason = "called by the queue")]

use crate::access::OpenUser;
use crate::core::Shared;
use mesyx_sdk::{Content, Envelope, Error, MailAddress, UserId};

/// A submitted message, as the queue keeps it for recipients elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    /// What the client submitted, byte for byte: what goes to a recipient without a certificate.
    pub(crate) original: Content,
    /// The signed form, with protected headers inside (RFC 9788); absent where nothing is to be signed or no key was open.
    pub(crate) signed: Option<Content>,
}

/// What goes to one recipient in one attempt.
#[derive(Debug)]
pub(crate) enum Wrapped {
    /// As it is: the same bytes for every recipient who gets it so.
    Plain(Content),
    /// Encrypted to this recipient.
    Encrypted(Content),
    /// Not now, until something changes: the sender is told why, in one line.
    Hold(String),
}

impl Shared {
    /// Makes what the queue keeps of a message that a logged-in user submits. Called before anything is stored.
    ///
    /// # Errors
    /// Where the user's policy refuses to send the message so.
    pub(crate) fn prepare(&self, _open: &OpenUser, envelope: &Envelope) -> Result<Outgoing, Error> {
        Ok(Outgoing { original: envelope.content.clone(), signed: None })
    }

    /// What goes to `recipient` now. May look up certificates, so it takes its time; never called before the client's 250.
    pub(crate) async fn wrap(&self, _sender: UserId, outgoing: &Outgoing, _recipient: &MailAddress) -> Wrapped {
        Wrapped::Plain(outgoing.original.clone())
    }
}
