//! PGP for mail that leaves: prepared while the sender is logged in, encrypted for one recipient at each attempt.
//!
//! ```text
//!  submit --> prepare: contact book (open keys), protected headers, signature --> Outgoing, stored in the queue under the job's data key
//!  attempt --> wrap (no secret key): policy, certificate known or looked for --> what goes on the wire, or why it must wait
//!  intake --> harvest: Autocrypt, attached keys --> sealed sightings --> folded into the contact book by the next session
//! ```
//!
//! What must hold:
//! - nothing goes in clear to a recipient whose policy is `require`;
//! - a pinned key is never replaced; a key that is expired or revoked holds the message;
//! - no directory is asked before the client has its answer.

mod autocrypt;
mod book;
mod certificate;
mod compose;
mod contact;
mod contacts;
mod crypt;
mod discovery;
mod harvest;
#[cfg(any(test, feature = "conformance"))]
pub mod measure;
mod notice;
mod outgoing;
mod policy;
#[cfg(test)]
mod tests;

pub use contact::Source;
pub use contacts::{ContactReport, KeyReport};
pub use discovery::{KeySource, LookupError};
pub use policy::{LookupFailure, PgpSettings, Policy, Signing};

pub(crate) use book::Book;
pub(crate) use certificate::canonical as contact_name;
pub(crate) use discovery::Lookups;
pub(crate) use harvest::Noted;
pub(crate) use notice::Me;
pub(crate) use outgoing::Outgoing;

use crate::access::OpenUser;
use crate::core::{Core, Shared};
use crate::errors::broken;
use compose::Protected;
use contact::{Choice, Contact};
use discovery::Answer;
use mesyx_sdk::{Content, Envelope, Error, ErrorKind, MailAddress, RecipientStatus, Sender, Timestamp, UserId};
use outgoing::{Form, Known};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// From this size on, signing and encrypting is done on a thread of its own.
const INLINE_BYTES: usize = 64 << 10;

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

/// The contact book of an unlocked user, and whether it must be read anew.
#[derive(Debug)]
pub(crate) struct OpenBook {
    book: tokio::sync::Mutex<Book>,
    stale: AtomicBool,
}

impl Default for OpenBook {
    fn default() -> Self {
        Self { book: tokio::sync::Mutex::default(), stale: AtomicBool::new(true) }
    }
}

impl OpenBook {
    /// Something was written that may concern it.
    pub(crate) fn touch(&self) {
        self.stale.store(true, Ordering::Release);
    }
}

impl Core {
    /// Where keys are looked for from now on; `None`: nowhere, which counts as a directory that can't be asked.
    pub fn set_key_source(&self, source: Option<Arc<dyn KeySource>>) {
        self.shared.lookups.set_source(source);
    }
}

impl Shared {
    /// Makes what the queue keeps of a message that a logged-in user submits. Called before anything is stored; asks nobody.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`] where the user's policy refuses to send the message so: the text says what to do.
    pub(crate) async fn prepare(self: &Arc<Self>, open: &OpenUser, envelope: &Envelope) -> Result<Outgoing, Error> {
        let settings = self.settings().pgp.clone();
        let user = open.member.id;
        let (recipients, preferences) = {
            let book = self.open_book(open).await?;
            let preferences = book.preferences();
            let default = preferences.policy.unwrap_or(settings.policy);
            (self.known_recipients(user, envelope, &book, default), preferences)
        };
        let policy = preferences.policy.unwrap_or(settings.policy);
        let content = compose::without_blind(&envelope.content).map_or_else(|| envelope.content.clone(), Content::from);
        let signing = preferences.sign.unwrap_or(settings.sign);
        let protected = compose::protection(&content);
        if protected != Protected::No {
            if protected == Protected::Signed
                && let Some(known) = recipients.iter().find(|known| known.policy == Policy::Require)
            {
                let text = format!(
                    "messages to {} must be encrypted, and your mail program signed this one without encrypting it whole; have it do both, or neither, so that the server does",
                    known.contact.address
                );
                return Err(Error::new(ErrorKind::Forbidden, text));
            }
            return Ok(Outgoing { original: content, form: None, protected, recipients, policy });
        }
        let (key, unsigned) = match signing {
            Signing::Off => (None, None),
            Signing::Require | Signing::Prefer => match crypt::signing_key(open.keys.identity().as_deref()) {
                Ok(key) => (Some(key), None),
                Err(why) if signing == Signing::Require => {
                    let text = format!("your messages must be signed, and this one can't be: {why}");
                    return Err(Error::new(ErrorKind::Forbidden, text));
                }
                Err(why) => (None, Some(why)),
            },
        };
        let original = self.with_autocrypt(user, &content, policy);
        let form = if recipients.iter().all(|known| known.policy == Policy::Off) {
            None
        } else {
            let source = original.clone();
            Some(run(source.len(), move || form(&source, key, unsigned)).await?)
        };
        Ok(Outgoing { original, form, protected, recipients, policy })
    }

    /// The user's contact book, up to date.
    pub(crate) async fn open_book<'a>(&self, open: &'a OpenUser) -> Result<tokio::sync::MutexGuard<'a, Book>, Error> {
        let mut book = open.contacts.book.lock().await;
        if open.contacts.stale.swap(false, Ordering::AcqRel)
            && let Err(error) = self.refresh_book(&mut book, &open.keys).await
        {
            open.contacts.touch();
            return Err(error);
        }
        Ok(book)
    }

    /// What is known of each recipient elsewhere.
    fn known_recipients(&self, user: UserId, envelope: &Envelope, book: &Book, default: Policy) -> Vec<Known> {
        let directory = self.directory();
        let mut known: Vec<Known> = Vec::new();
        for recipient in &envelope.to {
            let (status, _) = directory.addresses.resolve(&recipient.address, &Sender::User(user));
            let Some(address) = recipient.address.as_mail() else { continue };
            let address = certificate::canonical(address);
            if status == RecipientStatus::Local || known.iter().any(|known| known.contact.address == address) {
                continue;
            }
            known.push(known_of(book, &address, default));
        }
        known
    }

    /// The message with the header that carries its author's key.
    fn with_autocrypt(&self, user: UserId, content: &Content, policy: Policy) -> Content {
        let settings = self.settings();
        let header = &content[..compose::header_length(content)];
        if !settings.pgp.autocrypt || autocrypt::is_automatic(header) {
            return content.clone();
        }
        if mesyx_sdk::mime::fields(header).any(|field| field.is("Autocrypt")) {
            return content.clone();
        }
        let directory = self.directory();
        let author = autocrypt::author(header).filter(|author| directory.addresses.may_send_as(user, author));
        let Some((author, keyring)) = author.zip(directory.keyrings.get(&user)) else { return content.clone() };
        match autocrypt::header(&author, keyring.identity(), policy != Policy::Off) {
            Some(line) => Content::from([&line[..], content].concat()),
            None => content.clone(),
        }
    }

    /// What goes to `recipient` now. May look for keys, so it takes its time; never called before the client's 250.
    pub(crate) async fn wrap(
        self: &Arc<Self>,
        sender: UserId,
        outgoing: &Outgoing,
        recipient: &MailAddress,
    ) -> Wrapped {
        let Known { policy, contact } = self.recipient_now(sender, outgoing, recipient).await;
        match (outgoing.protected, policy) {
            (Protected::No, _) => {}
            (Protected::Signed, Policy::Require) => {
                return Wrapped::Hold(format!(
                    "messages to {} must be encrypted, and this one was signed by a mail program without encrypting it whole",
                    contact.address
                ));
            }
            _ => return Wrapped::Plain(outgoing.original.clone()),
        }
        if policy == Policy::Off {
            return Wrapped::Plain(outgoing.original.clone());
        }
        let (contact, failed) = self.looked_for(sender, contact, recipient).await;
        let now = Timestamp::now().0.div_euclid(1000);
        match contact.choose(policy, now) {
            Choice::Hold(why) => Wrapped::Hold(match failed {
                Some(failed) => format!("{why} (the key directory of its domain could not be asked: {failed})"),
                None => why,
            }),
            Choice::Plain => match failed.filter(|_| self.settings().pgp.lookup_failure == LookupFailure::Hold) {
                Some(why) => Wrapped::Hold(format!(
                    "whether {} has a key can't be told: the key directory of its domain could not be asked: {why}",
                    contact.address
                )),
                None => Wrapped::Plain(outgoing.original.clone()),
            },
            Choice::Encrypt(usable) => {
                let unsigned = outgoing.form.as_ref().and_then(|form| form.unsigned.clone());
                match self.encrypt(sender, outgoing, usable).await {
                    Ok(content) => {
                        if let Some(why) = unsigned {
                            self.tell_unsigned(sender, &why).await;
                        }
                        metrics::counter!("mesyx_messages_encrypted_total").increment(1);
                        Wrapped::Encrypted(content)
                    }
                    Err(error) => Wrapped::Hold(format!("the message could not be encrypted: {}", error.message())),
                }
            }
        }
    }

    /// What is known of the recipient now, where the sender is logged in; otherwise what was known at submission.
    async fn recipient_now(&self, sender: UserId, outgoing: &Outgoing, recipient: &MailAddress) -> Known {
        let address = certificate::canonical(recipient);
        let stored = outgoing.recipient(&address).cloned();
        // Messages of our own have neither.
        let stored = stored.unwrap_or_else(|| Known { policy: outgoing.policy, contact: Contact::new(&address) });
        if outgoing.recipients.is_empty() {
            return stored;
        }
        let Some(open) = self.access.open_user(sender) else { return stored };
        match self.open_book(&open).await {
            Ok(book) => {
                let default = book.preferences().policy.unwrap_or(self.settings().pgp.policy);
                known_of(&book, &address, default)
            }
            Err(_) => stored,
        }
    }

    /// The contact with what its domain's directory says, where that can tell more; and why it could not be asked.
    async fn looked_for(
        &self,
        sender: UserId,
        mut contact: Contact,
        recipient: &MailAddress,
    ) -> (Contact, Option<String>) {
        let now = Timestamp::now().0.div_euclid(1000);
        let fresh = i64::try_from(self.settings().pgp.wkd_fresh.as_secs()).unwrap_or(i64::MAX);
        let best = contact.best().map(|best| {
            let usable = best.cert().and_then(|certificate| certificate::usable(&certificate, now)).is_ok();
            (best.source, usable, now.saturating_sub(best.last) < fresh)
        });
        let (ask, again) = match best {
            // A pinned key that is not here, or no longer any good.
            None | Some((_, false, _)) => (true, best.is_some()),
            Some(_) if contact.pin.is_some() => (false, false),
            Some((Source::User | Source::Verified, ..)) => (false, false),
            Some((Source::Wkd, _, fresh)) => (!fresh, false),
            Some(_) => (true, false),
        };
        if !ask || !self.looks_for(recipient) {
            return (contact, None);
        }
        match self.look_for(recipient, again).await {
            Answer::Found(certificate, at) => {
                let address = contact.address.clone();
                let at = Timestamp::from_seconds(at);
                if let Ok(sighting) = book::Sighting::new(&address, *certificate, Source::Wkd, at)
                    && contact.learn(&sighting.known) != contact::Learnt::Nothing
                    && self.noted.is_new(sender, &[b"wkd", address.as_bytes(), sighting.known.fingerprint.as_bytes()])
                    && let Err(error) = self.put_sighting(sender, &sighting).await
                {
                    tracing::debug!(user = %sender, %error, "a key that was found was not noted");
                }
                (contact, None)
            }
            Answer::Absent => (contact, None),
            Answer::Failed(why) => (contact, Some(why)),
        }
    }

    async fn encrypt(
        &self,
        sender: UserId,
        outgoing: &Outgoing,
        usable: certificate::Usable,
    ) -> Result<Content, Error> {
        let mut recipients = vec![usable];
        if self.settings().pgp.encrypt_to_self
            && let Some(keyring) = self.directory().keyrings.get(&sender)
            && let Ok(own) = certificate::usable(keyring.identity(), Timestamp::now().0.div_euclid(1000))
        {
            recipients.push(own);
        }
        let (original, stored) = (outgoing.original.clone(), outgoing.form.clone());
        run(original.len(), move || {
            // Without a form nothing was to be encrypted when it was submitted; since then the policy changed.
            let made = stored.map_or_else(|| form(&original, None, None), Ok)?;
            let armored = crypt::encrypt(&made.packets, &recipients).map_err(unmade)?;
            Ok(Content::from(compose::encrypted(&made.outer, &armored)))
        })
        .await
    }
}

fn known_of(book: &Book, address: &str, default: Policy) -> Known {
    let mut contact = book.get(address).cloned().unwrap_or_else(|| Contact::new(address));
    contact.aside.clear();
    Known { policy: contact.policy.unwrap_or(default), contact }
}

/// Payload, signature, and what stays outside.
fn form(
    content: &Content,
    key: Option<sequoia_openpgp::crypto::KeyPair>,
    unsigned: Option<String>,
) -> Result<Form, Error> {
    let compose::Parted { payload, outer } = compose::part(content);
    let packets = crypt::packets(&payload, key).map_err(unmade)?;
    Ok(Form { packets: Content::from(packets), outer: Content::from(outer), unsigned })
}

fn unmade(why: String) -> Error {
    Error::new(ErrorKind::Unavailable, why)
}

/// Runs a computation, on a thread of its own where it is long.
async fn run<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    if bytes < INLINE_BYTES {
        return work();
    }
    tokio::task::spawn_blocking(work).await.map_err(|error| broken(&error))?
}
