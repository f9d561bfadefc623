//! What a conversation asks of whoever owns the socket, and what it is told: the terms of [`super::session`].

use super::shares::{Held, Shares};
use mesyx_sdk::{Accepted, Address, ByteBudget, Envelope, Error, MailAddress, RecipientStatus, Secret, UserId};
use std::sync::Arc;

/// Whom the listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Other hosts, which bring messages for our recipients only.
    Mx,
    /// Our users, who log in before anything else (RFC 6409).
    Submission,
}

/// What one connection may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest message, in bytes.
    pub message_size: usize,
    /// Most recipients of a message.
    pub recipients: usize,
    /// Most refused commands between two taken messages.
    pub errors: u32,
    /// Most commands that bring no message nearer (NOOP, RSET, EHLO, …) between two taken messages.
    pub idle_commands: u32,
    /// Most bytes of commands between two taken messages, where nobody is logged in.
    pub command_bytes: u64,
    /// Most `Received` fields; more means a loop.
    pub received: usize,
}

/// What all connections of a bridge share.
#[derive(Debug)]
pub struct Settings {
    /// Whom it serves.
    pub role: Role,
    /// Our own name.
    pub hostname: String,
    /// The limits.
    pub limits: Limits,
    /// Where the memory of messages comes from.
    pub budget: ByteBudget,
    /// How much of it strangers hold.
    pub shares: Arc<Shares>,
}

/// What protects a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsInfo {
    /// Such as `TLSv1.3`.
    pub version: String,
    /// Such as `TLS13_AES_256_GCM_SHA384`.
    pub cipher: String,
}

/// What must happen next.
#[derive(Debug)]
pub enum Step {
    /// All input was consumed: send [`super::Session::output`], then give more. The other steps want an [`Answer`] first.
    Read,
    /// Is this address ours? Answer with [`Answer::Recipient`].
    Recipient(Address),
    /// May the user write as this address? Answer with [`Answer::Sender`].
    Sender(MailAddress),
    /// Check a login. Answer with [`Answer::Login`].
    Login {
        /// Who.
        name: String,
        /// The password.
        password: Secret,
    },
    /// Take the message. Answer with [`Answer::Taken`] when it is durable.
    Take(Box<Incoming>),
    /// Send [`super::Session::output`], then begin the TLS handshake with the bytes that come from the socket from now on.
    /// Bytes that were read before must not exist. Answer with [`Answer::Tls`].
    StartTls,
    /// Send [`super::Session::output`] and end the connection.
    Close,
}

/// A message that came in whole.
#[derive(Debug)]
pub struct Incoming {
    /// The message, to be accepted or submitted.
    pub envelope: Envelope,
    /// How many bytes at the front of its content are our own headers.
    pub trace: usize,
    /// Its `Message-ID`, where it has one.
    pub message_id: Option<Vec<u8>>,
    /// Its part of the byte budget; to be kept as long as the bytes.
    pub reservation: Option<Held>,
}

/// The answer to a [`Step`].
#[derive(Debug)]
pub enum Answer {
    /// What the address is.
    Recipient(Result<RecipientStatus, Error>),
    /// Whether the user may write as it.
    Sender(Result<bool, Error>),
    /// Who logged in.
    Login(Result<UserId, Error>),
    /// The message is durable, or why it is not.
    Taken(Result<Accepted, Error>),
    /// The handshake is done.
    Tls(TlsInfo),
}
