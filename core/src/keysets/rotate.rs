//! Making the next keysets ahead of time.

use super::timeline::due;
use super::{RotationPolicy, RotationRule};
use crate::access::OpenUser;
use crate::core::Shared;
use crate::errors::{broken, stored};
use crate::id::rotated_keyset_id;
use crate::keys::{Keyring, Keyset, Levels, Span, WrappingKey, generate_keyset_as};
use crate::store::{KeyChange, StoredSecretKey};
use mesyx_sdk::{Error, ErrorKind, Timestamp, UserId};
use openpgp::Cert;
use sequoia_openpgp as openpgp;
use std::sync::Arc;

/// Milliseconds of a day.
pub(super) const DAY: i64 = 86_400_000;

/// A keyset to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) rule: RotationRule,
    pub(super) span: Span,
    pub(super) name: String,
}

/// What a policy lacks until `horizon`, each span once.
pub(super) fn wanted(keyring: &Keyring, policy: &RotationPolicy, now: Timestamp, horizon: Timestamp) -> Vec<Wanted> {
    let making = policy.rules().iter().filter(|rule| rule.make);
    making
        .flat_map(|rule| due(keyring, rule, now, horizon).into_iter().map(move |span| (rule, span)))
        .map(|(rule, span)| Wanted { rule: *rule, span, name: name(keyring, rule.levels, span) })
        .collect()
}

/// The span, and the levels unless they are all; with a number where the name is taken.
fn name(keyring: &Keyring, levels: Levels, span: Span) -> String {
    let mut name = span.to_string();
    if levels != Levels::ALL {
        levels.iter().for_each(|level| name.push_str(&format!(" {level:?}").to_lowercase()));
    }
    let taken = |name: &str| keyring.keysets().iter().any(|keyset| keyset.name == name);
    let numbered = (2..).map(|number| format!("{name} ({number})"));
    std::iter::once(name.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(name)
}

/// Makes a keyset with the id that its span gives it, and wraps its secret key.
fn make(wrapping: &WrappingKey, wanted: &Wanted) -> Result<(Keyset, Cert, StoredSecretKey), Error> {
    let Wanted { rule, span, name } = wanted;
    let id = rotated_keyset_id(wrapping.user(), rule.levels.bits(), &span.to_string());
    let (keyset, secret) = generate_keyset_as(id, name, *span, rule.levels, rule.profile).map_err(unmade)?;
    let wrapped = wrapping.wrap(Some(id), std::slice::from_ref(&secret)).map_err(unmade)?;
    Ok((keyset, secret, wrapped))
}

pub(super) fn unmade(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the keys can't be made: {error}"))
}

/// The first keysets of a new user: records and wrapped secret keys.
///
/// # Errors
/// [`ErrorKind::Unavailable`] where keys can't be made.
pub(crate) fn first_keysets(
    keyring: &Keyring,
    policy: &RotationPolicy,
    wrapping: &WrappingKey,
    now: Timestamp,
    ahead_days: u16,
) -> Result<Vec<(Keyset, StoredSecretKey)>, Error> {
    let horizon = Timestamp(now.0.saturating_add(i64::from(ahead_days) * DAY));
    let made = wanted(keyring, policy, now, horizon).into_iter().map(|wanted| make(wrapping, &wanted));
    made.map(|made| made.map(|(keyset, _, wrapped)| (keyset, wrapped))).collect()
}

impl Shared {
    /// Makes what the policies of unlocked users lack, and looks for what needs attention.
    pub(crate) async fn look_after_keysets(&self, now: Timestamp) {
        for open in self.access.unlocked() {
            if let Err(error) = self.rotate(&open, now).await {
                tracing::warn!(user = %open.member.id, %error, "the next keysets can't be made now; tried again within the hour");
            }
        }
        self.warnings.look(|| self.directory(), now, &self.settings().keysets);
    }

    /// Makes the keysets that an unlocked user's policy lacks. Returns how many it made; doing so again makes none.
    ///
    /// # Errors
    /// As the store's, or where keys can't be made; then nothing changed.
    pub(crate) async fn rotate(&self, open: &Arc<OpenUser>, now: Timestamp) -> Result<usize, Error> {
        let user = open.member.id;
        if !self.lacks(user, now) {
            return Ok(0);
        }
        // One at a time: who comes second finds the keysets made. Whoever gives the user a new master key holds this too and ends
        // the sessions first, so that nothing is wrapped under an old one.
        let _one = self.administration.lock().await;
        if !self.access.is_open(open) {
            return Ok(0);
        }
        let Some(mut lacking) = self.wanted_of(user, now) else { return Ok(0) };
        let mut possible = Vec::with_capacity(lacking.len());
        for wanted in lacking.drain(..) {
            let id = rotated_keyset_id(user, wanted.rule.levels.bits(), &wanted.span.to_string());
            let retired = self.directory().keyrings.get(&user).is_some_and(|keyring| keyring.get(id).is_some());
            // The user took it away: that stands.
            if !retired && !self.store.keyset_removed(id).await.map_err(stored)? {
                possible.push(wanted);
            }
        }
        if possible.is_empty() {
            return Ok(0);
        }
        let keys = Arc::clone(open);
        let work = move || possible.iter().map(|wanted| make(keys.keys.wrapping_key(), wanted)).collect();
        let made: Result<Vec<_>, Error> = tokio::task::spawn_blocking(work).await.map_err(|error| broken(&error))?;
        let made = self.fitting(user, made?);
        if made.is_empty() {
            return Ok(0);
        }
        let mut change = KeyChange::of(user);
        for (keyset, secret, wrapped) in &made {
            change.put_keysets.push((keyset.id, keyset.encode().map_err(unmade)?));
            change.put_secret_keys.push(wrapped.clone());
            // Before anything can be sealed to it.
            open.keys.insert(keyset.id, std::slice::from_ref(secret));
        }
        if let Err(error) = self.store.write(crate::store::Write::PutKeys(Box::new(change))).await {
            made.iter().for_each(|(keyset, ..)| open.keys.remove(keyset.id));
            return Err(stored(error));
        }
        self.refresh().await?;
        for (keyset, ..) in &made {
            tracing::info!(%user, keyset = %keyset.id, span = %keyset.span, "a rotation made a keyset");
            metrics::counter!("mesyx_keysets_rotated_total").increment(1);
        }
        Ok(made.len())
    }

    /// Those that the keyring takes: an own keyset of the user may be just as specific for a part of the span.
    fn fitting(
        &self,
        user: UserId,
        made: Vec<(Keyset, Cert, StoredSecretKey)>,
    ) -> Vec<(Keyset, Cert, StoredSecretKey)> {
        let directory = self.directory();
        let Some(keyring) = directory.keyrings.get(&user) else { return Vec::new() };
        let mut keysets: Vec<Keyset> = keyring.keysets().iter().map(|keyset| Keyset::clone(keyset)).collect();
        let fits = |(keyset, ..): &(Keyset, Cert, StoredSecretKey)| {
            keysets.push(keyset.clone());
            let fits = Keyring::new(Cert::clone(keyring.identity()), keysets.clone());
            if let Err(error) = &fits {
                tracing::warn!(%user, span = %keyset.span, %error, "a rotation's keyset is not made");
                keysets.pop();
            }
            fits.is_ok()
        };
        made.into_iter().filter(fits).collect()
    }

    /// Whether a policy lacks a keyset: without the lock, as a first look.
    fn lacks(&self, user: UserId, now: Timestamp) -> bool {
        self.wanted_of(user, now).is_some_and(|wanted| !wanted.is_empty())
    }

    fn wanted_of(&self, user: UserId, now: Timestamp) -> Option<Vec<Wanted>> {
        let directory = self.directory();
        let (keyring, policy) = (directory.keyrings.get(&user)?, directory.policies.get(&user)?);
        let ahead = i64::from(self.settings().keysets.ahead_days);
        Some(wanted(keyring, policy, now, Timestamp(now.0.saturating_add(ahead * DAY))))
    }
}
