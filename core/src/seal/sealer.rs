//! Sealing messages to keysets.

use super::packet::crypto;
use super::{PartContext, SealError, SealedMessage, SealedSessionKey, SessionKey, body, summary};
use crate::id::{KeysetId, SessionKeyId};
use crate::keys::{Keyring, Keyset, Recipients};
use bytes::Bytes;
use mesyx_sdk::{Content, Importance, MessageId, Summary, Timestamp, UserId};
use openpgp::Packet;
use openpgp::packet::{PKESK, pkesk};
use openpgp::serialize::MarshalInto;
use sequoia_openpgp as openpgp;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Seals messages. One for the instance, shared by all tasks; a call uses the processor and waits for nothing.
pub struct Sealer {
    window: Duration,
    ready: Mutex<Ready>,
}

/// Which message is sealed, and for whom.
#[derive(Debug, Clone, Copy)]
pub struct SealFor {
    /// For whom.
    pub user: UserId,
    /// Which message.
    pub message: MessageId,
    /// Its importance.
    pub importance: Importance,
}

/// What is kept between messages, by keyset.
#[derive(Default)]
struct Ready {
    keysets: HashMap<(UserId, KeysetId), Prepared>,
    swept: Option<Instant>,
}

/// A keyset whose certificates were checked a moment ago, and the session key that its messages share.
struct Prepared {
    /// Of the keyset's record: a changed record is another keyset.
    digest: [u8; 32],
    checked: Instant,
    /// Or why there are none, so that a keyset which can't be used costs one check, and one line in the log, in that time.
    recipients: Result<Arc<Recipients>, SealError>,
    shared: Option<Shared>,
}

struct Shared {
    made: Instant,
    uses: u32,
    key: SessionKey,
    sealed: Arc<SealedSessionKey>,
}

impl Sealer {
    /// The default window in which messages share a session key.
    pub const WINDOW: Duration = Duration::from_secs(60);
    /// Most messages that share one session key.
    pub const MOST_SHARED: u32 = 1000;
    /// How long a check of a keyset's certificates (expired? revoked?) is believed.
    const CHECKED_FOR: Duration = Duration::from_secs(60);

    /// A sealer; session keys are shared for `window`, at most 60 s ([`Sealer::WINDOW`]), and not at all where it is zero.
    #[must_use]
    pub fn new(window: Duration) -> Self {
        Self { window: window.min(Self::WINDOW), ready: Mutex::default() }
    }

    /// Seals one message to one keyset. The day is that of the summary's internal date. `now` only measures the window.
    ///
    /// Certificates of the keyset that are expired, revoked or can't encrypt are left out, with a warning in the log;
    /// the others are sealed to.
    ///
    /// # Errors
    /// [`SealError::NoCertificate`] where none is left.
    pub fn seal(
        &self,
        keyset: &Keyset,
        user: UserId,
        message: MessageId,
        summary: &Summary,
        content: &Content,
        now: Instant,
    ) -> Result<SealedMessage, SealError> {
        let (key, session_key) = self.session_key(keyset, user, now)?;
        let context = PartContext { user, message, keyset: keyset.id };
        let (body, padded_size) = body::seal(&context, &summary.fields, content, &key)?;
        let sealed_summary = summary::seal(&context, summary, &key)?;
        let day = summary.internal_date.day();
        Ok(SealedMessage { message, user, session_key, summary: sealed_summary, body, padded_size, day })
    }

    /// Seals one message to the keyset that its internal date and importance choose; where none of that keyset's certificates is
    /// usable, to the next most specific one that covers the message, at last to the default keyset; never clear.
    ///
    /// # Errors
    /// [`SealError::NoCertificate`], of the default keyset, where none of them has a usable certificate.
    pub fn seal_chosen(
        &self,
        keyring: &Keyring,
        target: SealFor,
        summary: &Summary,
        content: &Content,
        now: Instant,
    ) -> Result<SealedMessage, SealError> {
        let SealFor { user, message, importance } = target;
        let default = keyring.default_keyset();
        let chosen = keyring.candidates(summary.internal_date, importance, Timestamp::now());
        for keyset in chosen.filter(|keyset| keyset.id != default.id) {
            match self.seal(keyset, user, message, summary, content, now) {
                Err(SealError::NoCertificate { .. }) => {}
                result => return result,
            }
        }
        self.seal(default, user, message, summary, content, now)
    }

    /// The keyset that a message which comes now is sealed to, with its usable certificates: as [`Sealer::seal_chosen`] chooses.
    ///
    /// # Errors
    /// [`SealError::NoCertificate`], of the default keyset.
    pub(crate) fn recipients_now(
        &self,
        keyring: &Keyring,
        now: Timestamp,
    ) -> Result<(Arc<Keyset>, Recipients), SealError> {
        let default = keyring.default_keyset();
        let chosen = keyring.candidates(now, Importance::Normal, now);
        for keyset in chosen.filter(|keyset| keyset.id != default.id) {
            if let Ok(recipients) = keyset.recipients(now) {
                return Ok((Arc::clone(keyset), recipients));
            }
        }
        Ok((Arc::clone(default), default.recipients(now)?))
    }

    /// Forgets session keys whose window is over. Call it now and then where nothing may come in for long: keys are otherwise
    /// forgotten when the next message is sealed.
    pub fn sweep(&self, now: Instant) {
        self.lock().sweep(now, self.window);
    }

    /// Forgets the session key that messages for a keyset share.
    pub fn forget(&self, user: UserId, keyset: KeysetId) {
        self.lock().keysets.remove(&(user, keyset));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ready> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn session_key(
        &self,
        keyset: &Keyset,
        user: UserId,
        now: Instant,
    ) -> Result<(SessionKey, Arc<SealedSessionKey>), SealError> {
        let at = (user, keyset.id);
        let known = {
            let mut ready = self.lock();
            ready.sweep(now, self.window.max(Self::CHECKED_FOR));
            match ready.keysets.get_mut(&at).filter(|prepared| prepared.digest == *keyset.digest()) {
                Some(prepared) => {
                    if let Some(shared) = &mut prepared.shared
                        && now.saturating_duration_since(shared.made) < self.window
                        && shared.uses < Self::MOST_SHARED
                    {
                        shared.uses += 1;
                        return Ok((shared.key.clone(), Arc::clone(&shared.sealed)));
                    }
                    let fresh = now.saturating_duration_since(prepared.checked) < Self::CHECKED_FOR;
                    fresh.then(|| (prepared.recipients.clone(), prepared.checked))
                }
                None => None,
            }
        };
        // The costly part is done without the lock; two tasks that race here make a key each, and both are good.
        let (recipients, checked) = match known {
            Some(known) => known,
            None => (keyset.recipients(Timestamp::now()).map(Arc::new), now),
        };
        let recipients = match recipients {
            Ok(recipients) => recipients,
            Err(error) => {
                if checked == now {
                    tracing::warn!(%user, %error, "nothing can be sealed to a keyset; the next that covers a message takes its place");
                    let digest = *keyset.digest();
                    let prepared = Prepared { digest, checked, recipients: Err(error.clone()), shared: None };
                    self.lock().keysets.insert(at, prepared);
                }
                return Err(error);
            }
        };
        let key = SessionKey::random(recipients.v2)?;
        let packets = seal_key(&key, &recipients)?;
        let sealed = Arc::new(SealedSessionKey { id: SessionKeyId::random(), user, keyset: keyset.id, packets });
        let shared = (!self.window.is_zero()).then(|| Shared {
            made: now,
            uses: 1,
            key: key.clone(),
            sealed: Arc::clone(&sealed),
        });
        let prepared = Prepared { digest: *keyset.digest(), checked, recipients: Ok(recipients), shared };
        self.lock().keysets.insert(at, prepared);
        Ok((key, sealed))
    }
}

impl SealedMessage {
    /// Seals a line under the key of its group's epoch.
    ///
    /// # Errors
    /// [`SealError::TooLarge`], and what the cipher says.
    pub(crate) fn under(
        key: &SessionKey,
        session_key: Arc<SealedSessionKey>,
        message: MessageId,
        summary: &Summary,
        content: &Content,
    ) -> Result<Self, SealError> {
        let user = session_key.user;
        let context = PartContext { user, message, keyset: session_key.keyset };
        let (body, padded_size) = body::seal(&context, &summary.fields, content, key)?;
        let sealed = summary::seal(&context, summary, key)?;
        let day = summary.internal_date.day();
        Ok(Self { message, user, session_key, summary: sealed, body, padded_size, day })
    }
}

impl Default for Sealer {
    fn default() -> Self {
        Self::new(Self::WINDOW)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({:?})", self.window)
    }
}

impl Ready {
    /// At most once a window, forgets what is older than a window.
    fn sweep(&mut self, now: Instant, window: Duration) {
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < window) {
            return;
        }
        self.swept = Some(now);
        self.keysets.retain(|_, prepared| {
            let age = |at: Instant| now.saturating_duration_since(at);
            if prepared.shared.as_ref().is_some_and(|shared| age(shared.made) >= window) {
                prepared.shared = None;
            }
            prepared.shared.is_some() || age(prepared.checked) < window
        });
    }
}

/// A session key that others have too, sealed to one more keyset: in the form that the key's own packets have, whatever that keyset could read
/// besides.
///
/// # Errors
/// What the public-key algorithm says.
pub(crate) fn seal_session_key(key: &SessionKey, recipients: &Recipients) -> Result<Bytes, SealError> {
    let v2 = matches!(key.format, super::Format::V2);
    seal_key(key, &Recipients { keys: recipients.keys.clone(), v2 })
}

/// PKESK packets of one session key, one for each recipient, each naming its recipient.
fn seal_key(key: &SessionKey, recipients: &Recipients) -> Result<Bytes, SealError> {
    let mut packets = Vec::with_capacity(128 * recipients.keys.len());
    for recipient in &recipients.keys {
        let packet: PKESK = if recipients.v2 {
            pkesk::PKESK6::for_recipient(&key.key, recipient).map_err(crypto)?.into()
        } else {
            pkesk::PKESK3::for_recipient(key.cipher(), &key.key, recipient).map_err(crypto)?.into()
        };
        packets.extend_from_slice(&Packet::from(packet).to_vec().map_err(crypto)?);
    }
    Ok(Bytes::from(packets))
}
