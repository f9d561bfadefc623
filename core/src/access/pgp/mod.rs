//! PGP mail as its reader is shown it (RFC 3156, RFC 9788). What is stored stays as it came; this is a view of it.
//!
//! ```text
//!  stored message of a stranger --> kind: multipart/encrypted or multipart/signed, whole and nothing beside it?
//!     --> look: decrypted whole and its integrity checked, or refused; signatures against the keys known of the shown sender
//!     --> verdict: made once, kept as a sealed record, the same ever after
//!     --> compose: our field Mesyx-PGP, the sender's fields, the decrypted entity as the whole body
//! ```
//!
//! What must hold:
//! - Nothing of a message is shown before all of it was decrypted and its integrity checked (EFAIL, CVE-2017-17688): what has no
//!   protection of its integrity is shown as it is stored. The decrypted entity is a tree of its own: it is never joined with
//!   parts that were not encrypted with it (CVE-2017-17689).
//! - Only the message as a whole is looked at: an encrypted part among others is left to the reader's own program.
//! - The sender that is shown is the one outside, which SPF, DKIM and DMARC spoke for. A signature is good only by a key of that sender.
//! - What a UID shows never changes (RFC 3501, section 2.3.1.1): summary and body are made of the same composed bytes, and the verdict
//!   is durable before either is given.
//! - Messages that the user appended are shown as they were appended.

mod compose;
mod look;
mod verdict;

use super::open::Opener;
use super::unreadable;
use crate::errors::broken;
use crate::id::RecordId;
use crate::records::Put;
use crate::store::RecordKind;
use look::{Look, Signer};
use mesyx_sdk::summary::{MailAddressee, Part, PartKind};
use mesyx_sdk::{Content, Domain, Error, MailAddress, MessageId, Summary, mime};
use std::ops::Range;
use std::sync::Arc;
use verdict::{Form, Verdict};

/// What expands to more than this many times its size, beyond a first megabyte, is a bomb: text shrinks to a tenth at best.
const MOST_EXPANSION: usize = 100;
const FREE_EXPANSION: usize = 1 << 20;

/// A message as it is shown.
pub(super) struct Shown {
    pub(super) content: Content,
    pub(super) summary: Arc<Summary>,
}

/// PGP mail as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// `multipart/encrypted` (RFC 3156, section 4): where the encrypted data stands, and its transfer encoding.
    Encrypted(Range<u64>, Vec<u8>),
    /// `multipart/signed` (RFC 3156, section 5): the signed part with its headers, the signature and its transfer encoding.
    Signed(Range<u64>, Range<u64>, Vec<u8>),
}

/// Whether a message may be PGP mail: a quick look at its headers.
pub(super) fn may_be(content: &[u8]) -> bool {
    mime::fields(content).filter(|field| field.is("Content-Type")).any(|field| {
        let value = field.value.trim_ascii_start();
        let begins =
            |text: &str| value.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text.as_bytes()));
        begins("multipart/encrypted") || begins("multipart/signed")
    })
}

/// What a message that came in is, if it is PGP mail as a whole.
fn kind(summary: &Summary) -> Option<Kind> {
    summary.origin.as_ref()?;
    pgp_of(&summary.structure)
}

fn pgp_of(part: &Part) -> Option<Kind> {
    let PartKind::Multipart(parts) = &part.kind else { return None };
    let [first, second] = parts.as_slice() else { return None };
    let is = |part: &Part, kind: &str, subtype: &str| {
        part.content_type.0.eq_ignore_ascii_case(kind.as_bytes())
            && part.content_type.1.eq_ignore_ascii_case(subtype.as_bytes())
    };
    let protocol = |wanted: &str| {
        let mut named = part.parameters.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"protocol"));
        named.next().is_some_and(|(_, value)| value.eq_ignore_ascii_case(wanted.as_bytes()))
    };
    if is(part, "multipart", "encrypted") && protocol("application/pgp-encrypted") {
        let whole = is(first, "application", "pgp-encrypted") && is(second, "application", "octet-stream");
        return whole.then(|| Kind::Encrypted(second.body.clone(), second.encoding.clone()));
    }
    if is(part, "multipart", "signed")
        && protocol("application/pgp-signature")
        && is(second, "application", "pgp-signature")
    {
        let signed = first.header.start..first.body.end;
        return Some(Kind::Signed(signed, second.body.clone(), second.encoding.clone()));
    }
    None
}

impl Opener {
    /// A stored message as it is shown; `None` where that is as it is stored.
    ///
    /// # Errors
    /// [`mesyx_sdk::ErrorKind::Full`] where the byte budget has no room for what it expands to, and the store's.
    pub(super) async fn show(
        &self,
        message: MessageId,
        stored: &Summary,
        content: &Content,
    ) -> Result<Option<Shown>, Error> {
        let Some(kind) = kind(stored) else { return Ok(None) };
        let record = self.verdict_id(message);
        let known = self.verdict(record).await?;
        if known.as_ref().is_some_and(|verdict| verdict.form() == Form::AsStored) {
            return Ok(None);
        }
        let signers = if known.is_none() { self.signers(stored).await? } else { Vec::new() };
        let limit = self.shared.settings().limits.message_bytes;
        let look = Look {
            kind,
            content: content.clone(),
            keys: Arc::clone(&self.keys),
            signers,
            most: content.len().saturating_mul(MOST_EXPANSION).saturating_add(FREE_EXPANSION).min(limit),
            budget: self.shared.budget.clone(),
        };
        let looked = tokio::task::spawn_blocking(move || look.run()).await.map_err(|error| broken(&error))??;
        let verdict = match known {
            Some(known) => known,
            None => self.keep_verdict(record, verdict::judge(stored, content, &looked)).await?,
        };
        let shown = match verdict.form() {
            Form::AsStored => return Ok(None),
            _ => verdict::apply(&verdict, stored, content, &looked),
        };
        // It was opened once, and can't be any more: a key was thrown away.
        let shown = shown.unwrap_or_else(|| unreadable::damaged(message, stored.internal_date));
        let summary = mime::summarize(&shown, stored.internal_date, stored.origin.clone());
        match summary {
            Ok(summary) => Ok(Some(Shown { content: shown, summary: Arc::new(summary) })),
            Err(_) => Ok(None),
        }
    }

    /// Where the verdict on a message is kept: nothing about the id tells which message it is about.
    fn verdict_id(&self, message: MessageId) -> RecordId {
        let user = self.keys.member.id;
        let name = [&b"verdict"[..], user.as_bytes(), message.as_bytes()].concat();
        let mut id = [0; 16];
        id.copy_from_slice(&self.shared.instance.dedup(&name)[..16]);
        RecordId(id)
    }

    async fn verdict(&self, record: RecordId) -> Result<Option<Verdict>, Error> {
        let opened = self.shared.record(&self.keys.keys, RecordKind::VERDICT, record).await?;
        Ok(opened.and_then(|opened| Verdict::decode(&opened.payload)))
    }

    /// Keeps a verdict, durable when this resolves; where another session was first, its verdict holds.
    async fn keep_verdict(&self, record: RecordId, verdict: Verdict) -> Result<Verdict, Error> {
        let payload = verdict.encode();
        let put = Put { kind: RecordKind::VERDICT, record, payload: &payload, most: None, only_new: true };
        self.shared.put_record(self.keys.member.id, put).await?;
        Ok(self.verdict(record).await?.unwrap_or(verdict))
    }

    /// The certificates known of the sender that is shown.
    async fn signers(&self, stored: &Summary) -> Result<Vec<Signer>, Error> {
        let Some(address) = author(stored) else { return Ok(Vec::new()) };
        let canonical = crate::pgp::contact_name(&address);
        let mut signers = Vec::new();
        if self.shared.directory().addresses.may_send_as(self.keys.member.id, &address) {
            signers.extend(self.keys.keys.identities().iter().map(|cert| Signer {
                certificate: cert.as_ref().clone().strip_secret_key_material(),
                address: canonical.clone(),
                trust: "own".to_owned(),
            }));
        }
        let book = self.shared.open_book(&self.keys).await?;
        if let Some(contact) = book.get(&canonical) {
            // Beside a pinned key no other one counts.
            let counts = |fingerprint: &String| contact.pin.as_ref().is_none_or(|pin| pin == fingerprint);
            // One that came along in an attachment is worth nothing until the user takes it: the forger attached it.
            let worth = |source| contact.pin.is_some() || source > crate::pgp::Source::Seen;
            for known in contact.certificates.iter().filter(|known| counts(&known.fingerprint) && worth(known.source)) {
                if let Ok(certificate) = known.cert() {
                    let trust = match &contact.pin {
                        Some(_) => "pinned".to_owned(),
                        None => known.source.to_string(),
                    };
                    signers.push(Signer { certificate, address: canonical.clone(), trust });
                }
            }
        }
        Ok(signers)
    }
}

/// The one author of a message.
fn author(summary: &Summary) -> Option<MailAddress> {
    let [MailAddressee::Mailbox { local, domain, .. }] = summary.fields.from.as_slice() else { return None };
    let domain: Domain = std::str::from_utf8(domain).ok()?.parse().ok()?;
    MailAddress::new(std::str::from_utf8(local).ok()?, domain).ok()
}

/// What was looked at can't be composed into a message.
type Uncomposed = &'static str;
