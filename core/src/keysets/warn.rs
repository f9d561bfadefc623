//! What about keys needs somebody's attention, in time.

use super::report::{KeyWarning, WarningKind};
use super::rotate::DAY;
use super::timeline::due;
use super::{RotationPolicy, RotationRule};
use crate::core::Known;
use crate::keys::{Keyring, Keyset, certificate_expiry, encryption_key};
use crate::settings::KeysetSettings;
use mesyx_sdk::{Importance, Timestamp, UserId};
use openpgp::Cert;
use sequoia_openpgp as openpgp;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// The warnings as last looked for. Looking takes a signature's check for each certificate, so that `status` reads these.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    state: Mutex<State>,
    /// See [`Warnings::look`].
    looking: Mutex<()>,
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    found: Vec<KeyWarning>,
    /// What was logged, and on which day.
    logged: Vec<(UserId, KeyWarning)>,
    day: i32,
}

impl Warnings {
    /// Told when users or keysets changed.
    pub(crate) fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    /// The warnings as last looked for.
    pub(crate) fn found(&self) -> Vec<KeyWarning> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).found.clone()
    }

    /// Looks anew at what `known` gives; what is new is logged, and on a new day all of it.
    pub(crate) fn look(&self, known: impl FnOnce() -> Arc<Known>, now: Timestamp, settings: &KeysetSettings) {
        // One at a time, or what was found earlier could take the place of what was found later.
        let _one = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known();
        let mut found: Vec<(UserId, KeyWarning)> = Vec::new();
        let none = RotationPolicy::default();
        for member in known.addresses.members() {
            let Some(keyring) = known.keyrings.get(&member.id) else { continue };
            let policy = known.policies.get(&member.id).map_or(&none, |policy| policy);
            let of_user = warnings(&member.name, keyring, policy, now, settings.warn_days);
            found.extend(of_user.into_iter().map(|warning| (member.id, warning)));
        }
        for kind in WarningKind::ALL {
            let count = found.iter().filter(|(_, warning)| warning.kind == kind).count();
            #[allow(clippy::cast_precision_loss, reason = "a gauge is a float")]
            metrics::gauge!("mesyx_keyset_warnings", "kind" => kind.as_str()).set(count as f64);
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let day = now.day();
        if state.day != day {
            state.day = day;
            state.logged.clear();
        }
        for entry in &found {
            if !state.logged.contains(entry) {
                let (user, warning) = entry;
                let keyset = warning.keyset.as_deref().unwrap_or("identity");
                tracing::warn!(%user, kind = warning.kind.as_str(), keyset, "{}", warning.text);
            }
        }
        state.found = found.iter().map(|(_, warning)| warning.clone()).collect();
        state.logged = found;
    }
}

/// What needs attention of one user's keys, within so many days.
pub(super) fn warnings(
    user: &str,
    keyring: &Keyring,
    policy: &RotationPolicy,
    now: Timestamp,
    days: u16,
) -> Vec<KeyWarning> {
    let horizon = Timestamp(now.0.saturating_add(i64::from(days) * DAY));
    let mut found = Vec::new();
    let mut warn = |kind, keyset: Option<&str>, text: String| {
        found.push(KeyWarning { user: user.to_owned(), kind, keyset: keyset.map(str::to_owned), text });
    };
    for rule in policy.rules() {
        for span in due(keyring, rule, now, horizon) {
            let start = span.bounds(now).start.max(now.0);
            let text = format!(
                "there is no keyset for {span} ({}): from {} on its messages are sealed to {}; {}",
                levels(rule),
                date(start),
                fallback(keyring, rule.levels.iter().next().unwrap_or_default(), start, None),
                if rule.make {
                    "it is made by itself when the user logs in"
                } else {
                    "upload a certificate for it with `mesyx keyset add`"
                }
            );
            warn(WarningKind::Missing, Some(&span.to_string()), text);
        }
    }
    for keyset in keyring.keysets() {
        if let Some(text) = ends(keyring, policy, keyset, now, horizon) {
            warn(WarningKind::Ends, Some(&keyset.name), text);
        }
        let bounds = keyset.span.bounds(now);
        if bounds.end <= now.0 {
            continue;
        }
        let level = keyset.importance.iter().next().unwrap_or_default();
        for certificate in keyset.certificates() {
            if let Some((kind, what)) = trouble(certificate, now, horizon) {
                let others = keyset.certificates().iter().any(|other| {
                    other.fingerprint() != certificate.fingerprint() && encryption_key(other, horizon).is_ok()
                });
                let then = if others {
                    "the keyset's other certificates are sealed to".to_owned()
                } else {
                    let at = bounds.start.max(now.0);
                    format!("its messages go to {}", fallback(keyring, level, at, Some(keyset)))
                };
                let fix = "bring a newer one with `mesyx keyset certificate`, or add another keyset";
                warn(kind, Some(&keyset.name), format!("{what}; then {then}; {fix}"));
            }
        }
    }
    if let Some((kind, what)) = trouble(keyring.identity(), now, horizon) {
        let fix = "others can't write to it encrypted any more; make a new one with `mesyx identity rotate`";
        warn(kind, None, format!("identity: {what}; {fix}"));
    }
    found
}

fn levels(rule: &RotationRule) -> String {
    let levels: Vec<_> = rule.levels.iter().map(|level| format!("{level:?}").to_lowercase()).collect();
    format!("importance {}", levels.join(", "))
}

fn date(at: i64) -> String {
    Timestamp(at).utc().date().to_string()
}

/// The name of the keyset that takes a message which arrives at an instant, one left out: the most specific usable one.
fn fallback(keyring: &Keyring, level: Importance, at: i64, without: Option<&Keyset>) -> String {
    let at = Timestamp(at);
    let mut candidates =
        keyring.candidates(at, level, at).filter(|keyset| without.is_none_or(|without| without.id != keyset.id));
    match candidates.find(|keyset| keyset.is_usable(at)) {
        Some(keyset) => format!("keyset {}", keyset.name),
        None => "no keyset at all: mail is put off".to_owned(),
    }
}

/// A keyset of a fixed span that ends before the horizon, where what follows is less specific, and no rule looks after it.
fn ends(
    keyring: &Keyring,
    policy: &RotationPolicy,
    keyset: &Arc<Keyset>,
    now: Timestamp,
    horizon: Timestamp,
) -> Option<String> {
    let bounds = keyset.span.bounds(now);
    let ruled = policy.rules().iter().any(|rule| rule.levels == keyset.importance);
    if keyset.span.rolls() || !bounds.contains(&now.0) || bounds.end > horizon.0 || ruled {
        return None;
    }
    let (last, end) = (Timestamp(bounds.end - 1), Timestamp(bounds.end));
    // Months and years differ in length by less than an eighth: March follows February as well as any.
    let length = keyset.span.length();
    let most = length.saturating_add(length / 8);
    let level = keyset.importance.iter().find(|level| {
        let next = keyring.choose_when(end, *level, end);
        let follows = next.importance.count() <= keyset.importance.count() && next.span.length() <= most;
        keyring.choose_when(last, *level, last).id == keyset.id && !follows
    })?;
    Some(format!(
        "keyset {} ends on {} and nothing as specific follows: messages are sealed to {} then; add the next with `mesyx keyset add`",
        keyset.name,
        date(bounds.end),
        fallback(keyring, level, bounds.end, None)
    ))
}

/// What is wrong with a certificate now, or will be before the horizon.
fn trouble(certificate: &Cert, now: Timestamp, horizon: Timestamp) -> Option<(WarningKind, String)> {
    let fingerprint = certificate.fingerprint();
    if let Err(why) = encryption_key(certificate, now) {
        return Some((WarningKind::Unusable, format!("certificate {fingerprint} can't be sealed to: {why}")));
    }
    let end = certificate_expiry(certificate, now).filter(|end| end.0 <= horizon.0)?;
    let at = crate::trace::rfc3339(end);
    Some((WarningKind::Expires, format!("certificate {fingerprint} expires on {at}")))
}
