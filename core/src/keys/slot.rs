//! Slots: the master key, wrapped once for each password, as disk encryption does it.

use super::argon::Argon2Params;
use super::keyset::RecordError;
use super::password::{Generated, check_new, normalise};
use super::vault::{derive, open, random, seal};
use super::{MasterKey, PasswordError};
use crate::id::SlotId;
use crate::operation::cbor_id;
use crate::store::StoredSlot;
use mesyx_sdk::{Secret, UserId};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

/// One password's way to the master key. Holds nothing secret by itself; `Debug` shows it all the same without the wrapped key.
#[derive(Clone)]
pub struct Slot {
    record: Record,
}

/// Which kind of password a slot is for.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[non_exhaustive]
pub enum SlotKind {
    /// One that a person chose: Argon2id.
    #[n(0)]
    HumanPassword {
        /// Its cost.
        #[n(0)]
        params: Argon2Params,
    },
    /// A generated one, for one device or program: HKDF-SHA256.
    #[n(1)]
    AppPassword {
        /// The device's name, as its user wrote it.
        #[n(0)]
        device: String,
    },
    /// A generated one that is printed once and put away: HKDF-SHA256. Needed where every password is lost.
    #[n(2)]
    RecoveryKey,
}

/// The password is wrong; nothing more is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("wrong password")]
pub struct WrongPassword;

/// How a slot is stored.
#[derive(Clone, Encode, Decode)]
struct Record {
    #[n(0)]
    version: u32,
    #[n(1)]
    id: SlotId,
    #[cbor(n(2), with = "cbor_id")]
    user: UserId,
    #[n(3)]
    kind: SlotKind,
    #[cbor(n(4), with = "minicbor::bytes")]
    salt: [u8; 16],
    #[cbor(n(5), with = "minicbor::bytes")]
    wrapped: Vec<u8>,
}

const VERSION: u32 = 1;
/// Longest name of a device, in characters.
const LONGEST_DEVICE: usize = 64;

impl Slot {
    /// A slot for a password that a person chose. Computes Argon2id: takes long and blocks; see [`super::Argon2Limiter::create_human`].
    ///
    /// # Errors
    /// Where the password is too short, too long, or looks generated; or the parameters are out of bounds.
    pub fn create_human(
        user: UserId,
        master: &MasterKey,
        password: &Secret,
        params: Argon2Params,
    ) -> Result<Self, PasswordError> {
        let normal = check_new(password)?;
        let salt = random();
        let key = params.derive(&normal, &salt)?;
        Ok(Self::wrap(user, SlotId::random(), SlotKind::HumanPassword { params }, salt, &key, master))
    }

    /// A slot for one device, and its password, which is shown once.
    #[must_use]
    pub fn create_app(user: UserId, master: &MasterKey, device: &str) -> (Self, Secret) {
        let device = device.chars().filter(|c| !c.is_control()).take(LONGEST_DEVICE).collect();
        Self::create_generated(user, master, SlotKind::AppPassword { device })
    }

    /// The slot of the recovery key, and the key, which is printed once.
    #[must_use]
    pub fn create_recovery(user: UserId, master: &MasterKey) -> (Self, Secret) {
        Self::create_generated(user, master, SlotKind::RecoveryKey)
    }

    fn create_generated(user: UserId, master: &MasterKey, kind: SlotKind) -> (Self, Secret) {
        let (id, salt) = (SlotId::random(), random());
        let password = Generated::new(id);
        let key = generated_key(&password, &salt);
        (Self::wrap(user, id, kind, salt, &key, master), password.text())
    }

    fn wrap(
        user: UserId,
        id: SlotId,
        kind: SlotKind,
        salt: [u8; 16],
        key: &Zeroizing<[u8; 32]>,
        master: &MasterKey,
    ) -> Self {
        let mut record = Record { version: VERSION, id, user, kind, salt, wrapped: Vec::new() };
        // Sealing 32 bytes can't fail; were it to, the slot would open for nobody.
        record.wrapped = seal(key, &record.aad(), master.expose()).unwrap_or_default();
        Self { record }
    }

    /// Opens the slot. A human password takes an Argon2id computation: see [`super::Argon2Limiter::open`].
    ///
    /// # Errors
    /// [`WrongPassword`], also where the record was tampered with.
    pub fn open(&self, password: &Secret) -> Result<MasterKey, WrongPassword> {
        let Record { kind, salt, wrapped, .. } = &self.record;
        let key = match kind {
            SlotKind::HumanPassword { params } => {
                params.derive(&normalise(password), salt).map_err(|_| WrongPassword)?
            }
            SlotKind::AppPassword { .. } | SlotKind::RecoveryKey => {
                generated_key(&Generated::read(password).ok_or(WrongPassword)?, salt)
            }
        };
        // The AEAD compares its tag in constant time.
        let clear = open(&key, &self.record.aad(), wrapped).map_err(|_| WrongPassword)?;
        let bytes = Zeroizing::new(<[u8; 32]>::try_from(&clear[..]).map_err(|_| WrongPassword)?);
        Ok(MasterKey::from_bytes(*bytes))
    }

    /// The parameters that this slot should have where `wanted` asks for more than it has: never less of anything. `None` where it has
    /// enough, or is of another kind.
    #[must_use]
    pub fn raised(&self, wanted: Argon2Params) -> Option<Argon2Params> {
        let SlotKind::HumanPassword { params } = &self.record.kind else { return None };
        params.weaker_than(wanted).then(|| Argon2Params {
            memory_kib: params.memory_kib.max(wanted.memory_kib),
            passes: params.passes.max(wanted.passes),
            lanes: wanted.lanes,
        })
    }

    /// The same slot, a human password's, at another cost. `password` is the one that opened it. Blocks as [`Slot::create_human`].
    ///
    /// # Errors
    /// [`WrongPassword`] where the parameters are out of bounds.
    pub(super) fn rewrap(
        &self,
        master: &MasterKey,
        password: &Secret,
        params: Argon2Params,
    ) -> Result<Self, WrongPassword> {
        let salt = random();
        let key = params.derive(&normalise(password), &salt).map_err(|_| WrongPassword)?;
        Ok(Self::wrap(self.user(), self.id(), SlotKind::HumanPassword { params }, salt, &key, master))
    }

    /// Costs what opening a human password's slot costs, for users that don't exist.
    pub(super) fn pretend(params: Argon2Params, password: &Secret) {
        let key = params.derive(&normalise(password), &[0; 16]);
        std::hint::black_box(&key);
    }

    /// The slots that a generated password names, most often one or none; `None` where the text is no generated password.
    #[must_use]
    pub fn named_by<'a>(slots: &'a [Self], password: &Secret) -> Option<Vec<&'a Self>> {
        let password = Generated::read(password)?;
        Some(slots.iter().filter(|slot| !slot.is_human() && password.names(slot.id())).collect())
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> SlotId {
        self.record.id
    }

    /// The same record with other parameters, as a hostile store might give it.
    #[cfg(test)]
    pub(super) fn with_params(&self, params: Argon2Params) -> Self {
        let mut slot = self.clone();
        slot.record.kind = SlotKind::HumanPassword { params };
        slot
    }

    /// Whose it is.
    #[must_use]
    pub const fn user(&self) -> UserId {
        self.record.user
    }

    /// Which kind.
    #[must_use]
    pub const fn kind(&self) -> &SlotKind {
        &self.record.kind
    }

    pub(super) const fn is_human(&self) -> bool {
        matches!(self.record.kind, SlotKind::HumanPassword { .. })
    }

    /// The record that the store keeps.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Writing to memory can't fail.
        minicbor::to_vec(&self.record).unwrap_or_default()
    }

    /// For the store: a slot that was never used.
    #[must_use]
    pub fn to_stored(&self) -> StoredSlot {
        StoredSlot { id: self.id(), record: self.encode(), last_used: None }
    }

    /// Reads a record of this user's.
    ///
    /// # Errors
    /// Where it is damaged, newer, another user's, or its Argon2id parameters are out of bounds.
    pub fn decode(record: &[u8], user: UserId) -> Result<Self, RecordError> {
        let damaged = |what: String| RecordError::Damaged("password slot", what);
        let record: Record = minicbor::decode(record).map_err(|error| damaged(error.to_string()))?;
        if record.version != VERSION {
            return Err(RecordError::Newer("password slot"));
        }
        if record.user != user {
            return Err(damaged("it is another user's".to_owned()));
        }
        if let SlotKind::HumanPassword { params } = &record.kind {
            params.checked().map_err(|error| damaged(error.to_string()))?;
        }
        Ok(Self { record })
    }
}

impl Record {
    /// What the wrapped master key is bound to: all of the record but itself.
    fn aad(&self) -> Vec<u8> {
        let bare = Self { wrapped: Vec::new(), ..self.clone() };
        minicbor::to_vec(bare).unwrap_or_default()
    }
}

fn generated_key(password: &Generated, salt: &[u8; 16]) -> Zeroizing<[u8; 32]> {
    derive(salt, password.secret(), &[b"mesyx generated password 1\0"])
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("id", &self.record.id).field("kind", &self.record.kind).finish_non_exhaustive()
    }
}
