//! What operators do with keysets.

use super::certificate::{KeyFile, day, describe, public, secret};
use super::plan::plan;
use super::report::{Counted, KeysetInfo, PlannedWeek, Removed, RotationInfo};
use super::rotate::unmade;
use super::{KeyWarning, RotationPolicy, RotationRule};
use crate::admin::Proof;
use crate::core::Core;
use crate::directory::Member;
use crate::errors::{broken, stored};
use crate::id::KeysetId;
use crate::keys::{Keyring, Keyset, Levels, Profile, Span, WrappingKey, generate_keyset};
use crate::store::{KeyChange, KeysetUse, Write};
use crate::trace::rfc3339;
use mesyx_sdk::{Error, ErrorKind, Importance, Timestamp, UserId};
use openpgp::Cert;
use sequoia_openpgp as openpgp;
use std::sync::Arc;

/// A keyset to add.
#[derive(Debug, Clone)]
pub struct NewKeyset {
    /// Its name; the span where none is given.
    pub name: Option<String>,
    /// When messages for it arrive.
    pub span: Span,
    /// How important they are.
    pub importance: Levels,
    /// Where its certificates come from.
    pub source: KeysetSource,
}

/// Where a new keyset's certificates come from.
#[derive(Debug, Clone)]
pub enum KeysetSource {
    /// One is made here; `None`: of the kind that the settings name.
    Make(Option<Profile>),
    /// They were made elsewhere: the server never has a secret key. Secret parts are left aside.
    Certificates(Vec<KeyFile>),
    /// They were made elsewhere, and their secret keys are kept here too.
    SecretKeys(Vec<KeyFile>),
}

/// A change of a keyset; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct KeysetChange {
    /// Its name.
    pub name: Option<String>,
    /// Its span.
    pub span: Option<Span>,
    /// Its levels.
    pub importance: Option<Levels>,
    /// Whether messages are sealed to it: `true` brings a retired one back.
    pub in_use: Option<bool>,
}

/// What a file of certificates does to a keyset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateChange {
    /// Newer versions of certificates that it has: a later expiry, a revocation.
    Update,
    /// More certificates: each opens what is sealed from now on.
    Add,
    /// They take the place of one, named by its fingerprint. What was sealed to that one stays so, and its secret key stays.
    Replace(String),
}

impl Core {
    /// A user's keysets as a timeline: those in use by the time at which they begin, then the retired ones.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; as the store's.
    pub async fn keysets(&self, name: &str) -> Result<Vec<KeysetInfo>, Error> {
        let member = self.member(name)?;
        let keyring = self.keyring(&member)?;
        let usage = self.shared.store.keyset_use(member.id).await.map_err(stored)?;
        let secrets = self.shared.store.secrets(member.id).await.map_err(stored)?;
        let now = Timestamp::now();
        let mut used = keyring.keysets().to_vec();
        used.sort_by_key(|keyset| {
            let bounds = keyset.span.bounds(now);
            (keyset.id != keyring.default_keyset().id, keyset.span.rolls(), bounds.start, bounds.end)
        });
        let info = |keyset: &Arc<Keyset>| {
            let here = secrets.secret_keys.iter().any(|secret| secret.keyset == Some(keyset.id));
            describe_keyset(keyset, &keyring, &usage, here, now)
        };
        Ok(used.iter().chain(keyring.retired()).map(info).collect())
    }

    /// Which keysets the coming weeks would use, this week first.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub fn keyset_plan(&self, name: &str, weeks: u16, now: Timestamp) -> Result<Vec<PlannedWeek>, Error> {
        let member = self.member(name)?;
        let keyring = self.keyring(&member)?;
        Ok(plan(&keyring, &self.policy(member.id), now, weeks))
    }

    /// The kind of certificates that is made where nothing else is asked for.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.shared.settings().keysets.profile
    }

    /// Whether the secret key of a new keyset can be kept only with proof, since no session of the user is open.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub fn needs_proof(&self, name: &str) -> Result<bool, Error> {
        Ok(self.shared.access.open_user(self.member(name)?.id).is_none())
    }

    /// Adds a keyset. A secret key is wrapped with what an open session of the user holds, or with proof.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a bad name, span or file, and where two keysets would cover a message equally well;
    /// [`ErrorKind::LoginFailed`] where proof is wrong or missing.
    pub async fn add_keyset(&self, name: &str, new: NewKeyset, proof: Option<Proof>) -> Result<KeysetInfo, Error> {
        let one = self.administration.lock().await;
        let member = self.member(name)?;
        let user = member.id;
        let keyring = self.keyring(&member)?;
        let NewKeyset { name: own, span, importance, source } = new;
        let own = own.unwrap_or_else(|| span.to_string());
        let profile = self.shared.settings().keysets.profile;
        let random = KeysetId::random();
        let (keyset, secrets) = match source {
            KeysetSource::Certificates(files) => {
                (Keyset::new(random, &own, span, importance, public(&files)?).map_err(wrong)?, Vec::new())
            }
            KeysetSource::SecretKeys(files) => {
                let secrets = off_thread(move || secret(&files)).await??;
                (Keyset::new(random, &own, span, importance, secrets.clone()).map_err(wrong)?, secrets)
            }
            KeysetSource::Make(wanted) => {
                let own = own.clone();
                let profile = wanted.unwrap_or(profile);
                let made = off_thread(move || generate_keyset(&own, span, importance, profile)).await?;
                let (keyset, secret) = made.map_err(wrong)?;
                (keyset, vec![secret])
            }
        };
        let starts = keyset.span.bounds(Timestamp::now()).start.max(Timestamp::now().0);
        if !keyset.is_usable(Timestamp(starts)) {
            let why = keyset.certificates().iter().filter_map(|cert| describe(cert, Timestamp(starts)).unusable);
            let why: Vec<_> = why.collect();
            let text = format!("none of its certificates can be sealed to when its span begins: {}", why.join("; "));
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        self.fits(&keyring, std::slice::from_ref(&keyset))?;
        let mut change = KeyChange::of(user);
        if !secrets.is_empty() {
            let wrapping = self.wrapping_key(&member, proof).await?;
            change.put_secret_keys.push(wrapping.wrap(Some(keyset.id), &secrets).map_err(unmade)?);
        }
        change.put_keysets.push((keyset.id, keyset.encode().map_err(unmade)?));
        // Before anything can be sealed to it.
        let open = self.shared.access.open_user(user);
        if let Some(open) = open.filter(|_| !secrets.is_empty()) {
            open.keys.insert(keyset.id, &secrets);
        }
        self.put(change).await?;
        drop(one);
        tracing::info!(%user, keyset = %keyset.id, span = %keyset.span, "a keyset was added");
        self.keyset_info(&member, keyset.id).await
    }

    /// Stops sealing to a keyset. Its secret key stays, so that its messages open; with `discard` it goes for good, which is refused
    /// while messages are sealed to it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Forbidden`] for the default keyset, and where messages depend on the secret key.
    pub async fn remove_keyset(&self, name: &str, keyset: &str, discard: bool) -> Result<Removed, Error> {
        let _one = self.administration.lock().await;
        let member = self.member(name)?;
        let user = member.id;
        let keyring = self.keyring(&member)?;
        let found = find(&keyring, keyset)?;
        if found.id == keyring.default_keyset().id {
            let text = format!(
                "{} takes what no other keyset covers; make another the default first: `mesyx keyset default`",
                found.name
            );
            return Err(Error::new(ErrorKind::Forbidden, text));
        }
        let usage = self.shared.store.keyset_use(user).await.map_err(stored)?;
        let secrets = self.shared.store.secrets(user).await.map_err(stored)?;
        let messages = usage.iter().find(|usage| usage.keyset == found.id).map_or(0, |usage| usage.messages);
        let secret_here = secrets.secret_keys.iter().any(|secret| secret.keyset == Some(found.id));
        let mut change = KeyChange::of(user);
        if discard {
            if messages > 0 {
                let text = format!(
                    "{messages} messages are sealed to {}: without its secret key they would be lost; remove it without --discard-secret, or re-seal them first",
                    found.name
                );
                return Err(Error::new(ErrorKind::Forbidden, text));
            }
            change.remove_keysets.push(found.id);
        } else if found.is_retired() {
            let text = format!(
                "nothing is sealed to {} any more already; --discard-secret throws its secret key away",
                found.name
            );
            return Err(Error::new(ErrorKind::Invalid, text));
        } else {
            let retired = found.retire(Some(Timestamp::now().day())).map_err(wrong)?;
            change.put_keysets.push((found.id, retired.encode().map_err(unmade)?));
        }
        self.put(change).await?;
        if discard && let Some(open) = self.shared.access.open_user(user) {
            open.keys.remove(found.id);
        }
        if discard {
            self.shared.scrubbed(user).await;
        }
        tracing::info!(%user, keyset = %found.id, discard, "a keyset was removed");
        Ok(Removed { name: found.name.clone(), messages, secret_here: secret_here && !discard, gone: discard })
    }

    /// Changes a keyset's name, span or levels, or brings a retired one back.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Invalid`] where it can't be so; [`ErrorKind::Forbidden`] for a new name while messages are
    /// shown under the old one.
    pub async fn change_keyset(&self, name: &str, keyset: &str, change: KeysetChange) -> Result<KeysetInfo, Error> {
        let one = self.administration.lock().await;
        let member = self.member(name)?;
        let keyring = self.keyring(&member)?;
        let found = find(&keyring, keyset)?;
        let KeysetChange { name: new, span, importance, in_use } = change;
        let new = new.unwrap_or_else(|| found.name.clone());
        if new != found.name && self.shared.shows_sealed(member.id, found.id).await? {
            let text = format!(
                "messages of {} are shown sealed, under its name, and what is shown must not change: bring its secret key online first",
                found.name
            );
            return Err(Error::new(ErrorKind::Forbidden, text));
        }
        let mut changed =
            found.change(&new, span.unwrap_or(found.span), importance.unwrap_or(found.importance)).map_err(wrong)?;
        match in_use {
            Some(true) => changed = changed.retire(None).map_err(wrong)?,
            Some(false) => return Err(Error::new(ErrorKind::Invalid, "a keyset is taken out of use by removing it")),
            None => {}
        }
        let id = changed.id;
        self.put_keysets(&member, &keyring, vec![changed]).await?;
        drop(one);
        self.keyset_info(&member, id).await
    }

    /// Makes a keyset the default one: it covers all time and every level from now on. The one before is retired.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Invalid`] where it can't be sealed to.
    pub async fn set_default_keyset(&self, name: &str, keyset: &str) -> Result<KeysetInfo, Error> {
        let one = self.administration.lock().await;
        let member = self.member(name)?;
        let keyring = self.keyring(&member)?;
        let found = find(&keyring, keyset)?;
        let before = keyring.default_keyset();
        if found.id != before.id {
            if !found.is_usable(Timestamp::now()) {
                let text = format!("no certificate of {} can be sealed to, so it can't be the default", found.name);
                return Err(Error::new(ErrorKind::Invalid, text));
            }
            let new =
                found.retire(None).and_then(|new| new.change(&new.name, Span::Always, Levels::ALL)).map_err(wrong)?;
            let old = before.retire(Some(Timestamp::now().day())).map_err(wrong)?;
            self.put_keysets(&member, &keyring, vec![new, old]).await?;
        }
        drop(one);
        self.keyset_info(&member, found.id).await
    }

    /// Brings certificates into a keyset.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Invalid`] for a file that can't be read or does not fit.
    pub async fn change_certificates(
        &self,
        name: &str,
        keyset: &str,
        files: Vec<KeyFile>,
        how: CertificateChange,
    ) -> Result<KeysetInfo, Error> {
        let one = self.administration.lock().await;
        let member = self.member(name)?;
        let keyring = self.keyring(&member)?;
        let found = find(&keyring, keyset)?;
        let mut certificates: Vec<Cert> = found.certificates().to_vec();
        if let CertificateChange::Replace(old) = &how {
            let old = old.replace([' ', ':'], "");
            let before = certificates.len();
            certificates.retain(|known| !known.fingerprint().to_hex().eq_ignore_ascii_case(&old));
            if certificates.len() == before {
                let text = format!("{} has no certificate {old}; `mesyx keyset list` shows them", found.name);
                return Err(Error::new(ErrorKind::NotFound, text));
            }
        }
        for certificate in public(&files)? {
            let fingerprint = certificate.fingerprint();
            match certificates.iter_mut().find(|known| known.fingerprint() == fingerprint) {
                Some(known) => *known = known.clone().merge_public(certificate).map_err(wrong)?,
                None if how == CertificateChange::Update => {
                    let text = format!(
                        "{fingerprint} is none of the certificates of {}: --add it beside them, or --replace one",
                        found.name
                    );
                    return Err(Error::new(ErrorKind::Invalid, text));
                }
                None => certificates.push(certificate),
            }
        }
        let changed = found.with_certificates(certificates).map_err(wrong)?;
        let id = changed.id;
        self.put_keysets(&member, &keyring, vec![changed]).await?;
        drop(one);
        tracing::info!(user = %member.id, keyset = %id, "a keyset's certificates were changed");
        self.keyset_info(&member, id).await
    }

    /// How a user's keysets are renewed.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub fn rotation(&self, name: &str) -> Result<Vec<RotationInfo>, Error> {
        let policy = self.policy(self.member(name)?.id);
        Ok(policy.rules().iter().map(describe_rule).collect())
    }

    /// Sets the rule for messages of these levels, in the place of the one that they had; `None` takes it away. What an open session
    /// can make is made at once.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Invalid`] where another rule is equally specific.
    pub async fn set_rotation(
        &self,
        name: &str,
        levels: Levels,
        rule: Option<RotationRule>,
    ) -> Result<Vec<RotationInfo>, Error> {
        let one = self.administration.lock().await;
        let member = self.member(name)?;
        let mut rules: Vec<RotationRule> = self.policy(member.id).rules().to_vec();
        rules.retain(|known| known.levels != levels);
        rules.extend(rule);
        let policy = RotationPolicy::new(rules).map_err(wrong)?;
        let mut change = KeyChange::of(member.id);
        change.rotation = Some(policy.encode());
        self.put(change).await?;
        drop(one);
        self.look_after_keysets(Timestamp::now()).await;
        self.rotation(name)
    }

    /// Makes the keysets that unlocked users lack at an instant, and looks for what needs attention: what happens by itself every hour.
    pub async fn look_after_keysets(&self, now: Timestamp) {
        self.shared.look_after_keysets(now).await;
    }

    /// What about keys needs attention, as last looked for.
    #[must_use]
    pub fn key_warnings(&self) -> Vec<KeyWarning> {
        self.shared.warnings.found()
    }

    fn keyring(&self, member: &Member) -> Result<Arc<Keyring>, Error> {
        let directory = self.shared.directory();
        directory.keyrings.get(&member.id).cloned().ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "the user's keyring can't be read; the server's log says why")
        })
    }

    fn policy(&self, user: UserId) -> RotationPolicy {
        let directory = self.shared.directory();
        directory.policies.get(&user).map(|policy| RotationPolicy::clone(policy)).unwrap_or_default()
    }

    /// What wraps a new secret key: proof where it is given, otherwise an open session.
    async fn wrapping_key(&self, member: &Member, proof: Option<Proof>) -> Result<WrappingKey, Error> {
        if let Some(proof) = proof {
            return Ok(self.open_with(member.id, &proof).await?.1.wrapping_key(member.id));
        }
        let open = self.shared.access.open_user(member.id).ok_or_else(|| {
            let text = format!(
                "{} is not logged in, so the new secret key can't be locked: give the password or the recovery key",
                member.name
            );
            Error::new(ErrorKind::LoginFailed, text)
        })?;
        Ok(open.keys.wrapping_key().clone())
    }

    /// That the ring is a ring with these keysets in it, in the place of those of the same id.
    fn fits(&self, keyring: &Keyring, changed: &[Keyset]) -> Result<(), Error> {
        let stays = keyring.keysets().iter().chain(keyring.retired()).map(|keyset| Keyset::clone(keyset));
        let stays = stays.filter(|keyset| changed.iter().all(|changed| changed.id != keyset.id));
        let all = stays.chain(changed.iter().cloned()).collect();
        Keyring::new(Cert::clone(keyring.identity()), all).map(drop).map_err(wrong)
    }

    async fn put_keysets(&self, member: &Member, keyring: &Keyring, changed: Vec<Keyset>) -> Result<(), Error> {
        self.fits(keyring, &changed)?;
        let mut change = KeyChange::of(member.id);
        for keyset in &changed {
            change.put_keysets.push((keyset.id, keyset.encode().map_err(unmade)?));
        }
        self.put(change).await
    }

    async fn put(&self, change: KeyChange) -> Result<(), Error> {
        let user = change.user;
        self.shared.store.write(Write::PutKeys(Box::new(change))).await.map_err(stored)?;
        self.shared.refreshed(user).await;
        Ok(())
    }

    async fn keyset_info(&self, member: &Member, id: KeysetId) -> Result<KeysetInfo, Error> {
        let all = self.keysets(&member.name).await?;
        let found = all.into_iter().find(|info| info.id == id.to_string());
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, "the keyset is gone already"))
    }
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| broken(&error))
}

fn find(keyring: &Keyring, name: &str) -> Result<Arc<Keyset>, Error> {
    keyring.find(name).cloned().ok_or_else(|| {
        let text = format!(
            "there is no keyset {name}, or several retired ones: name it by its id; `mesyx keyset list` shows all"
        );
        Error::new(ErrorKind::NotFound, text)
    })
}

fn wrong(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Invalid, error.to_string())
}

fn describe_keyset(
    keyset: &Arc<Keyset>,
    keyring: &Keyring,
    usage: &[KeysetUse],
    secret_here: bool,
    now: Timestamp,
) -> KeysetInfo {
    let bounds = keyset.span.bounds(now);
    let usage = usage.iter().find(|usage| usage.keyset == keyset.id);
    KeysetInfo {
        id: keyset.id.to_string(),
        name: keyset.name.clone(),
        span: keyset.span.to_string(),
        from: (bounds.start != i64::MIN).then(|| rfc3339(Timestamp(bounds.start))),
        until: (bounds.end != i64::MAX).then(|| rfc3339(Timestamp(bounds.end))),
        importance: levels(keyset.importance),
        default: keyset.id == keyring.default_keyset().id,
        retired: keyset.retired().map(day),
        certificates: keyset.certificates().iter().map(|certificate| describe(certificate, now)).collect(),
        secret_here,
        sealed: usage.map(|usage| Counted::of(usage.messages, usage.bytes, usage.days)).unwrap_or_default(),
    }
}

fn levels(levels: Levels) -> Vec<String> {
    let name = |level| match level {
        Importance::Low => "low",
        Importance::Normal => "normal",
        Importance::High => "high",
    };
    levels.iter().map(|level| name(level).to_owned()).collect()
}

fn describe_rule(rule: &RotationRule) -> RotationInfo {
    RotationInfo {
        importance: levels(rule.levels),
        every: rule.every.to_string(),
        profile: rule.profile.to_string(),
        make: rule.make,
    }
}
