//! What the queue keeps of a message for recipients elsewhere.

use super::Policy;
use super::compose::Protected;
use super::contact::Contact;
use mesyx_sdk::{Content, Error, ErrorKind};
use minicbor::bytes::ByteSlice;
use minicbor::{Decode, Encode};

/// A submitted message, as the queue keeps it for recipients elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    /// What goes to a recipient without a certificate: what the client submitted, with an Autocrypt header before it and without Bcc.
    pub(crate) original: Content,
    /// What is encrypted; absent where nothing is to be.
    pub(crate) form: Option<Form>,
    /// What the client did to it before.
    pub(crate) protected: Protected,
    /// What the sender's contact book knew of each recipient when the message was submitted.
    pub(crate) recipients: Vec<Known>,
    /// The sender's policy for recipients who are not among these.
    pub(crate) policy: Policy,
}

/// A message ready to be encrypted.
#[derive(Debug, Clone)]
pub(crate) struct Form {
    /// OpenPGP packets: the payload, signed where it could be.
    pub(crate) packets: Content,
    /// The header block outside.
    pub(crate) outer: Content,
    /// Why it is not signed, where that is not as the sender wants it.
    pub(crate) unsigned: Option<String>,
}

/// A recipient at the time of submission.
#[derive(Debug, Clone, Encode, Decode)]
pub(crate) struct Known {
    /// The policy that holds for it.
    #[n(0)]
    pub(crate) policy: Policy,
    #[n(1)]
    pub(crate) contact: Contact,
}

/// The encoded form. Fields may be added, never renumbered.
#[derive(Encode, Decode)]
struct Encoded<'a> {
    #[b(0)]
    original: &'a ByteSlice,
    #[n(1)]
    protected: Protected,
    #[n(2)]
    policy: Policy,
    #[n(3)]
    recipients: Vec<Known>,
    #[b(4)]
    packets: Option<&'a ByteSlice>,
    #[b(5)]
    outer: Option<&'a ByteSlice>,
    #[n(6)]
    unsigned: Option<String>,
}

impl Outgoing {
    /// A message that goes as it is, to whomever: one that Mesyx wrote itself, such as a line.
    pub(crate) fn plain(content: Content) -> Self {
        let (form, protected, recipients) = (None, Protected::No, Vec::new());
        Self { original: content, form, protected, recipients, policy: Policy::Off }
    }

    /// The bytes that the queue seals.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Error> {
        let form = self.form.as_ref();
        let encoded = Encoded {
            original: (&*self.original).into(),
            protected: self.protected,
            policy: self.policy,
            recipients: self.recipients.clone(),
            packets: form.map(|form| (&*form.packets).into()),
            outer: form.map(|form| (&*form.outer).into()),
            unsigned: form.and_then(|form| form.unsigned.clone()),
        };
        let mut out = Vec::with_capacity(self.len() + 256);
        minicbor::encode(encoded, &mut out).map_err(|error| damaged(&error))?;
        Ok(out)
    }

    /// Reads what [`Outgoing::encode`] wrote; the contents share its memory.
    pub(crate) fn decode(bytes: &Content) -> Result<Self, Error> {
        let encoded: Encoded<'_> = minicbor::decode(bytes).map_err(|error| damaged(&error))?;
        let whole = bytes.bytes();
        let piece = |part: &ByteSlice| Content::from(whole.slice_ref(part));
        let form = match (encoded.packets, encoded.outer) {
            (Some(packets), Some(outer)) => {
                Some(Form { packets: piece(packets), outer: piece(outer), unsigned: encoded.unsigned.clone() })
            }
            _ => None,
        };
        Ok(Self {
            original: piece(encoded.original),
            form,
            protected: encoded.protected,
            recipients: encoded.recipients,
            policy: encoded.policy,
        })
    }

    /// About how many bytes it has encoded.
    pub(crate) fn len(&self) -> usize {
        let form = self.form.as_ref().map_or(0, |form| form.packets.len() + form.outer.len());
        let contact =
            |known: &Known| known.contact.certificates.iter().map(|known| known.certificate.len()).sum::<usize>();
        self.original.len() + form + self.recipients.iter().map(contact).sum::<usize>()
    }

    /// What was known of a recipient, by its canonical address.
    pub(crate) fn recipient(&self, address: &str) -> Option<&Known> {
        self.recipients.iter().find(|known| known.contact.address == address)
    }
}

fn damaged(error: &dyn std::fmt::Display) -> Error {
    tracing::error!(%error, "a queued message can't be written or read");
    Error::new(ErrorKind::Unavailable, "a queued message can't be written or read; look into the server's log")
}
