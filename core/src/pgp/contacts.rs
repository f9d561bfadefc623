//! The operator's and the user's hand in a contact book: `mesyx contact`.

use super::book::{Book, Preferences};
use super::certificate;
use super::contact::{Choice, Contact, Known, Source};
use super::{Policy, Signing};
use crate::admin::Proof;
use crate::core::Core;
use crate::keys::Unlocked;
use crate::trace::rfc3339;
use mesyx_sdk::{Error, ErrorKind, MailAddress, Timestamp};
use serde::{Deserialize, Serialize};

/// A contact, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactReport {
    /// The address.
    pub address: String,
    /// Its own policy, where it has one.
    pub policy: Option<Policy>,
    /// The policy that holds for it: its own, its user's, or the operator's.
    pub effective_policy: Policy,
    /// The fingerprint of the only key to use.
    pub pin: Option<String>,
    /// What happens to a message that is sent now: `encrypted`, `clear`, or `held: WHY`. A key that would be looked for first is not in it.
    pub outcome: String,
    /// Its keys, the one in use first.
    pub keys: Vec<KeyReport>,
    /// Other keys that were found and not taken.
    pub aside: Vec<KeyReport>,
}

/// A key of a contact, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyReport {
    /// Its fingerprint in upper-case hexadecimal digits.
    pub fingerprint: String,
    /// Where it came from.
    pub source: Source,
    /// Whether it is the one in use.
    pub in_use: bool,
    /// Why it can't be used, where it can't.
    pub unusable: Option<String>,
    /// When it was first learnt of, as RFC 3339 in UTC.
    pub first_seen: String,
    /// The latest time that its source spoke of it, as RFC 3339 in UTC.
    pub last_seen: String,
    /// Its owner wishes encryption by default (Autocrypt's `prefer-encrypt=mutual`).
    pub prefers_encryption: bool,
    /// It came in a message that was shown to be from the address's domain (DMARC).
    pub authenticated: bool,
    /// The user ids that it has.
    pub user_ids: Vec<String>,
}

/// A book opened for one command, with the keys that opened it.
struct Opened {
    keys: Unlocked,
    book: Book,
    policy: Policy,
}

impl Core {
    async fn contact_book(&self, name: &str, proof: &Proof) -> Result<Opened, Error> {
        let user = self.member(name)?.id;
        let (_, master) = self.open_with(user, proof).await?;
        let secrets = self.shared.store.secrets(user).await.map_err(crate::errors::stored)?;
        let keyring = self.shared.directory().keyrings.get(&user).cloned();
        let damaged = || Error::new(ErrorKind::Unavailable, "the user's keys are damaged; the server's log says how");
        let keyring = keyring.ok_or_else(damaged)?;
        let keys = Unlocked::open(user, &master, &secrets, &keyring).map_err(|error| {
            tracing::error!(%user, %error, "a user's keys can't be opened");
            damaged()
        })?;
        let mut book = Book::default();
        self.shared.refresh_book(&mut book, &keys).await?;
        let policy = book.preferences().policy.unwrap_or(self.shared.settings().pgp.policy);
        Ok(Opened { keys, book, policy })
    }

    /// Every contact of a user, by address.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for the user, [`ErrorKind::LoginFailed`] where `proof` is wrong.
    pub async fn contacts(&self, name: &str, proof: Proof) -> Result<Vec<ContactReport>, Error> {
        let opened = self.contact_book(name, &proof).await?;
        Ok(opened.book.contacts().map(|contact| report(contact, opened.policy)).collect())
    }

    /// One contact.
    ///
    /// # Errors
    /// As [`Core::contacts`]; [`ErrorKind::NotFound`] where there is no such contact.
    pub async fn contact(&self, name: &str, proof: Proof, address: &str) -> Result<ContactReport, Error> {
        let address = parse(address)?;
        let opened = self.contact_book(name, &proof).await?;
        opened.report(&address)
    }

    /// Gives a contact a key, which from now on is the one to use. Of several certificates in `bytes`, those that name the address are taken.
    ///
    /// # Errors
    /// As [`Core::contacts`]; [`ErrorKind::Invalid`] where there is no certificate in it, or none that names the address and `any_name` is
    /// not set; [`ErrorKind::Forbidden`] where the contact is pinned to another key.
    pub async fn import_contact(
        &self,
        name: &str,
        proof: Proof,
        address: &str,
        bytes: &[u8],
        any_name: bool,
    ) -> Result<ContactReport, Error> {
        let address = parse(address)?;
        let invalid = |why: String| Error::new(ErrorKind::Invalid, why);
        let found = certificate::read(bytes).map_err(invalid)?;
        let mut own: Vec<_> =
            found.into_iter().filter(|found| any_name || certificate::names(found, &address)).collect();
        if own.is_empty() {
            let text = format!(
                "no key in it has a user id with {address}; with --any-name it is taken all the same, if you are sure that it is theirs"
            );
            return Err(invalid(text));
        }
        own.truncate(Contact::MOST / 2);
        let mut opened = self.contact_book(name, &proof).await?;
        let now = Timestamp::now().0.div_euclid(1000);
        let learnt: Vec<Known> = own
            .into_iter()
            .map(|found| Known::new(&certificate::cut(found, &address), Source::User, now).map_err(invalid))
            .collect::<Result<_, _>>()?;
        let user = opened.keys.user();
        opened
            .book
            .change(&self.shared, user, &address, |contact| {
                if let Some(pin) = &contact.pin
                    && !learnt.iter().any(|known| known.fingerprint == *pin)
                {
                    let text = format!(
                        "{address} is pinned to the key {pin}; take the pin away first: mesyx contact pin --none"
                    );
                    return Err(Error::new(ErrorKind::Forbidden, text));
                }
                for known in &learnt {
                    contact.learn(known);
                }
                Ok(())
            })
            .await?;
        opened.report(&address)
    }

    /// Fixes the only key of a contact to use, by its fingerprint; `None` takes the pin away.
    ///
    /// # Errors
    /// As [`Core::contact`]; [`ErrorKind::NotFound`] where the contact has no key of that fingerprint.
    pub async fn pin_contact(
        &self,
        name: &str,
        proof: Proof,
        address: &str,
        fingerprint: Option<&str>,
    ) -> Result<ContactReport, Error> {
        self.change_key(name, &proof, address, fingerprint, |contact, fingerprint| contact.pin = fingerprint).await
    }

    /// Notes that the user compared the fingerprint of a contact's key.
    ///
    /// # Errors
    /// As [`Core::pin_contact`].
    pub async fn verify_contact(
        &self,
        name: &str,
        proof: Proof,
        address: &str,
        fingerprint: &str,
    ) -> Result<ContactReport, Error> {
        let verify = |contact: &mut Contact, fingerprint: Option<String>| {
            for known in &mut contact.certificates {
                if Some(&known.fingerprint) == fingerprint.as_ref() {
                    known.source = known.source.max(Source::Verified);
                }
            }
        };
        self.change_key(name, &proof, address, Some(fingerprint), verify).await
    }

    /// Changes something about one key of a contact; one that was kept aside is taken.
    async fn change_key(
        &self,
        name: &str,
        proof: &Proof,
        address: &str,
        fingerprint: Option<&str>,
        change: impl FnOnce(&mut Contact, Option<String>),
    ) -> Result<ContactReport, Error> {
        let address = parse(address)?;
        let mut opened = self.contact_book(name, proof).await?;
        opened.known(&address)?;
        let user = opened.keys.user();
        opened
            .book
            .change(&self.shared, user, &address, |contact| {
                let fingerprint = fingerprint.map(|wanted| find_key(contact, wanted)).transpose()?;
                change(contact, fingerprint);
                Ok(())
            })
            .await?;
        opened.report(&address)
    }

    /// Sets the policy of a contact, or of the user for all who have none of their own; `None`: as the operator has it.
    ///
    /// # Errors
    /// As [`Core::contacts`].
    pub async fn set_policy(
        &self,
        name: &str,
        proof: Proof,
        address: Option<&str>,
        policy: Option<Policy>,
    ) -> Result<(), Error> {
        let address = address.map(parse).transpose()?;
        let mut opened = self.contact_book(name, &proof).await?;
        let user = opened.keys.user();
        match address {
            Some(address) => {
                let set = |contact: &mut Contact| {
                    contact.policy = policy;
                    Ok(())
                };
                opened.book.change(&self.shared, user, &address, set).await
            }
            None => {
                let preferences = Preferences { policy, ..opened.book.preferences() };
                opened.book.set_preferences(&self.shared, user, preferences).await
            }
        }
    }

    /// Sets whether a user's encrypted messages are signed; `None`: as the operator has it.
    ///
    /// # Errors
    /// As [`Core::contacts`].
    pub async fn set_signing(&self, name: &str, proof: Proof, sign: Option<Signing>) -> Result<(), Error> {
        let mut opened = self.contact_book(name, &proof).await?;
        let (user, preferences) = (opened.keys.user(), Preferences { sign, ..opened.book.preferences() });
        opened.book.set_preferences(&self.shared, user, preferences).await
    }

    /// Forgets a contact: keys, pin and policy. What is seen of it later makes it anew.
    ///
    /// # Errors
    /// As [`Core::contact`].
    pub async fn forget_contact(&self, name: &str, proof: Proof, address: &str) -> Result<(), Error> {
        let address = parse(address)?;
        let mut opened = self.contact_book(name, &proof).await?;
        let user = opened.keys.user();
        if opened.book.forget(&self.shared, user, &address).await? { Ok(()) } else { Err(unknown(&address)) }
    }
}

impl Opened {
    fn known(&self, address: &str) -> Result<&Contact, Error> {
        self.book.get(address).ok_or_else(|| unknown(address))
    }

    fn report(&self, address: &str) -> Result<ContactReport, Error> {
        Ok(report(self.known(address)?, self.policy))
    }
}

fn unknown(address: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no contact {address}; `mesyx contact list` shows all"))
}

fn parse(address: &str) -> Result<String, Error> {
    let parsed: MailAddress = address
        .parse()
        .map_err(|error| Error::new(ErrorKind::Invalid, format!("{address}: {error}; write it as name@domain")))?;
    Ok(certificate::canonical(&parsed))
}

/// The contact's key of that fingerprint, written with or without blanks and in whatever case. One that was kept aside joins the others.
fn find_key(contact: &mut Contact, wanted: &str) -> Result<String, Error> {
    let wanted: String =
        wanted.chars().filter(|c| !c.is_whitespace() && *c != ':').map(|c| c.to_ascii_uppercase()).collect();
    let wanted = wanted.strip_prefix("0X").unwrap_or(&wanted).to_owned();
    if let Some(at) = contact.aside.iter().position(|known| known.fingerprint == wanted) {
        let known = contact.aside.remove(at);
        let pin = contact.pin.take();
        // The user asks for this very one: whatever is least trusted makes room.
        if contact.certificates.len() >= Contact::MOST {
            let least = contact.certificates.iter().enumerate().min_by_key(|(_, known)| (known.source, known.last));
            let least = least.map(|(at, _)| at);
            least.map(|at| contact.certificates.remove(at));
        }
        contact.certificates.push(known);
        contact.pin = pin;
    }
    if contact.certificates.iter().any(|known| known.fingerprint == wanted) {
        return Ok(wanted);
    }
    let text = format!(
        "{} has no key with the fingerprint {wanted}; `mesyx contact show` lists its keys, `mesyx contact import` gives it one",
        contact.address
    );
    Err(Error::new(ErrorKind::NotFound, text))
}

fn report(contact: &Contact, default: Policy) -> ContactReport {
    let now = Timestamp::now().0.div_euclid(1000);
    let best = contact.best().map(|best| best.fingerprint.clone());
    let effective_policy = contact.policy.unwrap_or(default);
    let outcome = match contact.choose(effective_policy, now) {
        Choice::Plain => "clear".to_owned(),
        Choice::Encrypt(_) => "encrypted".to_owned(),
        Choice::Hold(why) => format!("held: {why}"),
    };
    let mut keys: Vec<KeyReport> =
        contact.certificates.iter().map(|known| key_report(known, best.as_deref(), now)).collect();
    keys.sort_by(|a, b| (b.in_use, b.source, &b.last_seen).cmp(&(a.in_use, a.source, &a.last_seen)));
    ContactReport {
        address: contact.address.clone(),
        policy: contact.policy,
        effective_policy,
        pin: contact.pin.clone(),
        outcome,
        keys,
        aside: contact.aside.iter().map(|known| key_report(known, None, now)).collect(),
    }
}

fn key_report(known: &Known, best: Option<&str>, now: i64) -> KeyReport {
    let certificate = known.cert();
    let unusable = match &certificate {
        Ok(certificate) => certificate::usable(certificate, now).err(),
        Err(error) => Some(error.clone()),
    };
    let printable = |text: String| text.replace(|c: char| c.is_control(), " ");
    let user_ids = certificate.map(|certificate| {
        let ids = certificate.userids().map(|id| printable(String::from_utf8_lossy(id.userid().value()).into_owned()));
        ids.collect()
    });
    KeyReport {
        fingerprint: known.fingerprint.clone(),
        source: known.source,
        in_use: best == Some(known.fingerprint.as_str()),
        unusable,
        first_seen: rfc3339(Timestamp::from_seconds(known.first)),
        last_seen: rfc3339(Timestamp::from_seconds(known.last)),
        prefers_encryption: known.mutual,
        authenticated: known.authenticated,
        user_ids: user_ids.unwrap_or_default(),
    }
}
