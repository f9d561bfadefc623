//! Logging in.
//!
//! A generated password is tried first and at once: it can't be guessed and costs microseconds. A human one waits for the
//! throttle and for its turn at Argon2; an unknown name goes the same way, to a slot that never opens.

use super::opened::{Live, OpenUser};
use super::session::AccessSession;
use super::{Access, lock};
use crate::core::Shared;
use crate::directory::Member;
use crate::errors::stored;
use crate::id::SlotId;
use crate::keys::{Opened, Slot, SlotKind, Unlocked};
use crate::store::{KeyWrite, StoreError, StoredSecrets, Write};
use mesyx_sdk::{Credentials, Error, ErrorKind, Secret, Session, Timestamp, User, UserId};
use ring::hmac;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Logins that wait for their turn at Argon2, for each core; more are told to come back.
const MOST_WAITING: usize = 32;

/// A password that was right.
struct Proven {
    slot: SlotId,
    credential: String,
    keys: Arc<OpenUser>,
    /// See [`super::Access::is_current`].
    replaced: u64,
}

impl Shared {
    /// See [`mesyx_sdk::Host::login`].
    pub(crate) async fn login(self: &Arc<Self>, credentials: Credentials) -> Result<Arc<dyn Session>, Error> {
        let limits = self.settings().login.clone();
        let member = self.directory().addresses.login(&credentials.name).filter(|member| !member.disabled).cloned();
        let name = self.access.name_key(&credentials.name, member.as_deref());
        let ip = credentials.client.ip;
        let generated = Slot::named_by(&[], &credentials.password).is_some();
        let wait = || lock(&self.access.throttle).wait(&limits, ip, name, Timestamp::now());
        if !generated && let Some(wait) = wait() {
            return Err(too_many(wait));
        }
        if let Some(member) = &member
            && self.access.is_held(member.id)
        {
            return Err(being_replaced());
        }
        let proven = match self.prove(member.as_ref(), &credentials, generated, &wait).await {
            Ok(proven) => proven,
            Err(error) => {
                if error.kind() == ErrorKind::LoginFailed {
                    let waiting = wait();
                    lock(&self.access.throttle).failed(&limits, ip, name, Timestamp::now());
                    metrics::counter!("mesyx_logins_failed_total", "protocol" => credentials.client.protocol.clone())
                        .increment(1);
                    tracing::info!(%ip, protocol = credentials.client.protocol, name = self.name_tag(&credentials.name), "login failed");
                    if let Some(wait) = waiting {
                        return Err(too_many(wait));
                    }
                }
                return Err(error);
            }
        };
        lock(&self.access.throttle).succeeded(&limits, ip, name, Timestamp::now());
        let user = proven.keys.member.id;
        let (session, ended) = self.begin_session(proven, credentials, limits.sessions_per_user)?;
        // What was changed while this login was under way did not meet its session: keys that went or came, a password revoked.
        self.check_slots(user).await;
        match ended.load(Ordering::Acquire) {
            true => Err(login_failed()),
            false => Ok(session),
        }
    }

    /// Checks the password, by the shortest way that is open.
    async fn prove(
        self: &Arc<Self>,
        member: Option<&Arc<Member>>,
        credentials: &Credentials,
        generated: bool,
        wait: &(impl Fn() -> Option<Duration> + Sync),
    ) -> Result<Proven, Error> {
        // An id that nobody has stands for an unknown user, so that the store is asked all the same.
        let user = member.map_or_else(UserId::random, |member| member.id);
        let replaced = self.access.replaced();
        let tag = self.access.tags.tag(user, &credentials.password);
        let open = lock(&self.access.open).get(&user).cloned();
        if let Some(keys) = open
            && let Some(slot) = keys.known(&tag)
        {
            let credential = keys.credential_of(slot).unwrap_or_else(|| "a credential used before".to_owned());
            return Ok(Proven { slot, credential, keys, replaced });
        }
        let secrets = match self.store.secrets(user).await {
            Err(StoreError::NotFound(_)) => StoredSecrets::default(),
            secrets => secrets.map_err(stored)?,
        };
        // The recovery key sets passwords; it is no password.
        let slots: Vec<Slot> = read_slots(user, &secrets)
            .into_iter()
            .filter(|slot| !matches!(slot.kind(), SlotKind::RecoveryKey))
            .collect();
        let opened = if generated {
            self.limiter().open(&slots, &credentials.password).await
        } else {
            let _turn = self.argon2_turn().await?;
            // Others may have failed while this one waited for its turn.
            if let Some(wait) = wait() {
                return Err(too_many(wait));
            }
            let _memory = self.reserve_argon2()?;
            self.limiter().open(&slots, &credentials.password).await
        };
        let (Some(member), Ok(opened)) = (member, opened) else { return Err(login_failed()) };
        let kind = slots.iter().find(|slot| slot.id() == opened.slot).map(Slot::kind);
        let credential = match kind {
            Some(SlotKind::AppPassword { device }) => format!("app password {device}"),
            _ => "password".to_owned(),
        };
        let slot = opened.slot;
        let keys = self.unlock(member, &secrets, &opened, replaced)?;
        keys.remember(slot, tag);
        self.slot_used(user, slot, &secrets);
        self.raise_cost(user, &slots, &opened, &credentials.password);
        Ok(Proven { slot, credential, keys, replaced })
    }

    /// A turn at Argon2.
    pub(crate) async fn argon2_turn(&self) -> Result<tokio::sync::OwnedSemaphorePermit, Error> {
        let turns = Arc::clone(&self.access.turns);
        let _queue = self.argon2_queue.clone().try_acquire_owned().map_err(|_| too_many(Duration::from_secs(2)))?;
        turns.acquire_owned().await.map_err(|_| Error::new(ErrorKind::Unavailable, "the server is stopping"))
    }

    /// The memory of one Argon2 run, out of the byte budget.
    pub(crate) fn reserve_argon2(&self) -> Result<mesyx_sdk::Reservation, Error> {
        let bytes = (self.limiter().params().memory_kib as usize).saturating_mul(1024);
        self.budget.reserve(bytes).ok_or_else(|| {
            Error::new(ErrorKind::Full, "the server has no memory to check a password now; try again later")
        })
    }

    /// How many may wait for a turn.
    pub(crate) fn argon2_waiting() -> usize {
        std::thread::available_parallelism().map_or(1, usize::from).saturating_mul(MOST_WAITING)
    }

    /// Opens the user's keys, or joins those who have them open.
    fn unlock(
        self: &Arc<Self>,
        member: &Arc<Member>,
        secrets: &StoredSecrets,
        opened: &Opened,
        replaced: u64,
    ) -> Result<Arc<OpenUser>, Error> {
        if let Some(open) = lock(&self.access.open).get(&member.id) {
            return Ok(Arc::clone(open));
        }
        let directory = self.directory();
        let broken = |why: &str| {
            tracing::error!(user = %member.id, why, "a user's keys can't be opened");
            Error::new(
                ErrorKind::Unavailable,
                "your keys can't be opened; ask the operator to look into the server's log",
            )
        };
        let keyring = directory.keyrings.get(&member.id).ok_or_else(|| broken("the keyring is damaged"))?;
        let keys =
            Unlocked::open(member.id, &opened.master, secrets, keyring).map_err(|error| broken(&error.to_string()))?;
        let fresh = Arc::new(OpenUser::new(Arc::clone(member), keys));
        // Two logins may have come this far; the first one's keys serve both.
        let mut all = lock(&self.access.open);
        if !self.access.is_current(member.id, replaced) {
            return Err(being_replaced());
        }
        let open = Arc::clone(all.entry(member.id).or_insert(fresh));
        drop(all);
        let (shared, keys) = (Arc::clone(self), Arc::clone(&open));
        tokio::spawn(async move {
            if let Err(error) = shared.rotate(&keys, Timestamp::now()).await {
                tracing::warn!(user = %keys.member.id, %error, "the next keysets can't be made now; tried again within the hour");
            }
        });
        Ok(open)
    }

    /// Notes the day of a slot's use, without holding the login up.
    fn slot_used(self: &Arc<Self>, user: UserId, slot: SlotId, secrets: &StoredSecrets) {
        let day = Timestamp::now().day();
        if secrets.slots.iter().any(|stored| stored.id == slot && stored.last_used == Some(day)) {
            return;
        }
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = shared.store.write(Write::SlotUsed { user, slot, day }).await {
                tracing::debug!(%error, "the day of a password's use was not noted");
            }
        });
    }

    /// Wraps a human password's slot anew where the configuration asks for more than it costs, without holding the login up.
    /// What costs more than the configuration asks for stays as it is.
    fn raise_cost(self: &Arc<Self>, user: UserId, slots: &[Slot], opened: &Opened, password: &Secret) {
        let limiter = self.limiter();
        let Some(slot) = slots.iter().find(|slot| slot.id() == opened.slot) else { return };
        let Some(params) = slot.raised(limiter.params()) else { return };
        let (shared, slot, master, password) =
            (Arc::clone(self), slot.clone(), opened.master.clone(), password.clone());
        tokio::spawn(async move {
            let raised = async {
                let _turn = shared.argon2_turn().await?;
                let _memory = shared.reserve_argon2()?;
                let new = limiter.rewrap(&slot, &master, &password, params).await.ok_or_else(login_failed)?;
                let write = KeyWrite::RewrapSlot { user, old: slot.encode(), new: new.to_stored() };
                shared.store.write(Write::Keys(write)).await.map_err(stored)?;
                shared.scrubbed(user).await;
                Ok::<_, Error>(())
            };
            match raised.await {
                Ok(()) => tracing::info!(%user, ?params, "a password's slot was wrapped anew at a higher cost"),
                Err(error) => tracing::debug!(%user, %error, "a password's slot keeps its cost until the next login"),
            }
        });
    }

    fn begin_session(
        self: &Arc<Self>,
        proven: Proven,
        credentials: Credentials,
        most: usize,
    ) -> Result<(Arc<dyn Session>, Arc<AtomicBool>), Error> {
        let Proven { slot, credential, mut keys, replaced } = proven;
        let id = self.access.next_session.fetch_add(1, Ordering::SeqCst);
        let ended = Arc::new(AtomicBool::new(false));
        let protocol = credentials.client.protocol.clone();
        tracing::info!(user = %keys.member.id, ip = %credentials.client.ip, protocol, credential, "logged in");
        let live =
            Live { slot, credential, client: credentials.client, since: Timestamp::now(), ended: Arc::clone(&ended) };
        let ending = Arc::clone(&ended);
        let member = Arc::clone(&keys.member);
        let address = member.addresses.first().cloned().ok_or_else(login_failed)?;
        let user = User { id: member.id, name: member.name.clone(), address };
        // The keys may have been closed between the check and here; entering under the lock makes them stay. Others may have opened
        // them again: all sessions share one set, or ending them and taking keys away would miss some.
        let mut open = lock(&self.access.open);
        if !self.access.is_current(member.id, replaced) {
            return Err(being_replaced());
        }
        keys = Arc::clone(open.entry(member.id).or_insert(keys));
        if !keys.enter(id, live, most) {
            let text = format!("there are {most} sessions of this user already; close some");
            return Err(Error::new(ErrorKind::TooMany, text));
        }
        drop(open);
        metrics::counter!("mesyx_logins_total", "protocol" => protocol).increment(1);
        Ok((Arc::new(AccessSession::new(Arc::clone(self), keys, id, user, ended)), ending))
    }

    /// A session ended: the keys are closed after the time of grace, unless somebody came back.
    pub(crate) fn session_over(self: &Arc<Self>, keys: &Arc<OpenUser>, session: u64) {
        let user = keys.member.id;
        self.access.feeds.forget(user, session);
        self.access.live.forget(user, session);
        let Some(idle) = keys.leave(session) else { return };
        let grace = self.settings().login.grace;
        let (shared, keys) = (Arc::downgrade(self), Arc::downgrade(keys));
        let close = move || {
            let (Some(shared), Some(keys)) = (shared.upgrade(), keys.upgrade()) else { return };
            let mut open = lock(&shared.access.open);
            if keys.still_idle(idle) && open.get(&user).is_some_and(|known| Arc::ptr_eq(known, &keys)) {
                open.remove(&user);
                drop(open);
                shared.access.forget(user);
            }
        };
        if grace.is_zero() {
            return close();
        }
        self.runtime.spawn(async move {
            tokio::time::sleep(grace).await;
            close();
        });
    }
}

impl Access {
    /// A name as the throttle counts it: whichever way a known user is named, it is one.
    fn name_key(&self, name: &str, member: Option<&Member>) -> u64 {
        let name = member.map_or_else(|| name.to_lowercase(), |member| member.name.clone());
        let digest = hmac::sign(&self.names, name.as_bytes());
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest.as_ref()[..8]);
        u64::from_be_bytes(bytes)
    }
}

/// Every slot that can be read; a damaged one opens for nobody, and does not lock the others out.
pub(crate) fn read_slots(user: UserId, secrets: &StoredSecrets) -> Vec<Slot> {
    let read = |record: &[u8]| {
        Slot::decode(record, user)
            .inspect_err(|error| tracing::error!(%user, %error, "a password's record can't be read"))
            .ok()
    };
    secrets.slots.iter().filter_map(|stored| read(&stored.record)).collect()
}

fn being_replaced() -> Error {
    let text = "the keys of this account are being replaced; try again in a minute";
    Error::new(ErrorKind::Unavailable, text).retry_after(Duration::from_secs(60))
}

pub(crate) fn login_failed() -> Error {
    Error::new(ErrorKind::LoginFailed, "wrong name or password")
}

fn too_many(wait: Duration) -> Error {
    let seconds = wait.as_secs().saturating_add(1);
    Error::new(ErrorKind::TooMany, format!("too many failed logins; try again in {seconds} s")).retry_after(wait)
}

#[cfg(test)]
mod tests;
