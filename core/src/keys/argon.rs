//! Argon2id for human passwords: bounded parameters, and bounded work at a time.

use super::login::Opened;
use super::slot::{Slot, WrongPassword};
use crate::keys::MasterKey;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use mesyx_sdk::Secret;
use minicbor::{Decode, Encode};
use std::fmt;
use std::sync::Arc;
use tokio::sync::Semaphore;
use zeroize::{Zeroize, Zeroizing};

/// Cost of one Argon2id computation (RFC 9106).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Argon2Params {
    /// Memory in KiB, at most 1 GiB.
    #[n(0)]
    pub memory_kib: u32,
    /// Passes over the memory, 1 to 20.
    #[n(1)]
    pub passes: u32,
    /// Lanes, 1 to 8. They are computed one after another here.
    #[n(2)]
    pub lanes: u32,
}

/// Parameters beyond the bounds; a record with such is refused before anything is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Argon2id parameters out of bounds: memory 8 KiB for each lane to 1 GiB, passes 1 to 20, lanes 1 to 8")]
pub struct ParamsError;

impl Argon2Params {
    /// 64 MiB, 3 passes, 1 lane: about 100 ms on a small server.
    pub const DEFAULT: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 1 };
    /// Most memory, in KiB.
    pub const MAX_MEMORY_KIB: u32 = 1024 * 1024;
    /// Most passes.
    pub const MAX_PASSES: u32 = 20;
    /// Most lanes.
    pub const MAX_LANES: u32 = 8;

    /// The same parameters, where they are within bounds.
    ///
    /// # Errors
    /// Where they are not.
    pub const fn checked(self) -> Result<Self, ParamsError> {
        let Self { memory_kib, passes, lanes } = self;
        let good = lanes >= 1
            && lanes <= Self::MAX_LANES
            && passes >= 1
            && passes <= Self::MAX_PASSES
            && memory_kib >= 8 * lanes
            && memory_kib <= Self::MAX_MEMORY_KIB;
        if good { Ok(self) } else { Err(ParamsError) }
    }

    /// Whether a slot with these parameters is weaker than the configuration asks for, and is to be made anew at the next login.
    #[must_use]
    pub const fn weaker_than(self, wanted: Self) -> bool {
        self.memory_kib < wanted.memory_kib || self.passes < wanted.passes
    }

    /// One computation. Takes long and much memory; the memory is erased afterwards.
    pub(super) fn derive(self, password: &[u8], salt: &[u8]) -> Result<Zeroizing<[u8; 32]>, ParamsError> {
        let Self { memory_kib, passes, lanes } = self.checked()?;
        let params = Params::new(memory_kib, passes, lanes, Some(32)).map_err(|_| ParamsError)?;
        let mut memory = vec![Block::default(); params.block_count()];
        let mut key = Zeroizing::new([0; 32]);
        let result = Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into_with_memory(
            password,
            salt,
            &mut key[..],
            &mut memory,
        );
        memory.iter_mut().for_each(Zeroize::zeroize);
        result.map(|()| key).map_err(|_| ParamsError)
    }
}

impl Default for Argon2Params {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Runs Argon2id computations off the async threads, at most one for each core at a time; the others wait in order.
#[derive(Clone)]
pub struct Argon2Limiter {
    permits: Arc<Semaphore>,
    params: Argon2Params,
}

impl fmt::Debug for Argon2Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Argon2Limiter({:?}, {} free)", self.params, self.permits.available_permits())
    }
}

impl Argon2Limiter {
    /// A limiter for this machine's cores. `params`: for new slots, and for users that don't exist.
    ///
    /// # Errors
    /// Where the parameters are out of bounds.
    pub fn new(params: Argon2Params) -> Result<Self, ParamsError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { permits: Arc::new(Semaphore::new(cores)), params: params.checked()? })
    }

    /// The configured parameters.
    #[must_use]
    pub const fn params(&self) -> Argon2Params {
        self.params
    }

    /// Tries a password on a user's slots; pass none for a user that does not exist, which costs the same as one with a human password.
    ///
    /// A generated password names its slot and costs microseconds, right or wrong, without a computation. Anything else is tried on
    /// each human password's slot.
    ///
    /// # Errors
    /// [`WrongPassword`], whatever the reason.
    pub async fn open(&self, slots: &[Slot], password: &Secret) -> Result<Opened, WrongPassword> {
        if let Some(candidates) = Slot::named_by(slots, password) {
            return candidates
                .into_iter()
                .find_map(|slot| slot.open(password).ok().map(|master| Opened { slot: slot.id(), master }))
                .ok_or(WrongPassword);
        }
        let human: Vec<Slot> = slots.iter().filter(|slot| slot.is_human()).cloned().collect();
        let password = password.clone();
        let params = self.params;
        self.run(move || {
            if human.is_empty() {
                Slot::pretend(params, &password);
            }
            human
                .iter()
                .find_map(|slot| slot.open(&password).ok().map(|master| Opened { slot: slot.id(), master }))
                .ok_or(WrongPassword)
        })
        .await
        .unwrap_or(Err(WrongPassword))
    }

    /// Makes a slot for a human password with the configured parameters.
    ///
    /// # Errors
    /// As [`Slot::create_human`].
    pub async fn create_human(
        &self,
        user: mesyx_sdk::UserId,
        master: &MasterKey,
        password: &Secret,
    ) -> Result<Slot, super::PasswordError> {
        let (master, password, params) = (master.clone(), password.clone(), self.params);
        let made = self.run(move || Slot::create_human(user, &master, &password, params)).await;
        made.unwrap_or(Err(super::PasswordError::Stopped))
    }

    /// The same slot of a human password, wrapped at another cost; `None` where the parameters are out of bounds or the program stops.
    pub(crate) async fn rewrap(
        &self,
        slot: &Slot,
        master: &MasterKey,
        password: &Secret,
        params: Argon2Params,
    ) -> Option<Slot> {
        let (slot, master, password) = (slot.clone(), master.clone(), password.clone());
        self.run(move || slot.rewrap(&master, &password, params).ok()).await.flatten()
    }

    /// `None` only where the runtime is shutting down.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        // The permit moves into the computation: dropping this future does not make room for one more while it runs.
        let task = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        task.await.ok()
    }
}
