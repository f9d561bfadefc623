//! Administration: users and their passwords.
//!
//! The master key is known only while a password is being checked: whatever needs it (a new password, an app password) needs
//! proof by one that exists. App passwords prove nothing here, so that a lost telephone can't lock its owner out.

use crate::access::{login_failed, read_slots};
use crate::admin::{Account, AddedAccount, AppPassword, CoreStatus, NewAccount, Proof, SessionStatus, UnlockedStatus};
use crate::core::Core;
use crate::directory::{Member, check_name};
use crate::errors::{broken, stored};
use crate::keys::{Keyring, Levels, MasterKey, NewKeys, PasswordError, Profile, Slot, SlotKind};
use crate::keysets::{RotationPolicy, RotationRule, first_keysets};
use crate::operation::UserRecord;
use crate::settings::KeysetSettings;
use crate::store::{Attest, NewUser, StoredSecrets, Write};
use crate::trace::rfc3339;
use mesyx_sdk::{Error, ErrorKind, MailAddress, Secret, Timestamp, UserId};
use std::sync::Arc;

/// Most app passwords of one user.
const MOST_SLOTS: usize = 100;
/// Most addresses of one user.
const MOST_ADDRESSES: usize = 1000;

impl Account {
    pub(crate) fn of(member: &Member) -> Self {
        let Member { id, name, addresses, disabled } = member;
        let addresses = addresses.iter().map(ToString::to_string).collect();
        Self { id: *id, name: name.clone(), addresses, disabled: *disabled }
    }
}

/// A fresh master key in its slots, and what is shown of them.
pub(crate) struct Slots {
    pub(crate) master: MasterKey,
    pub(crate) slots: Vec<Slot>,
    pub(crate) recovery_key: Secret,
    pub(crate) app_password: Option<Secret>,
}

impl Core {
    pub(crate) async fn add_user_now(&self, account: NewAccount) -> Result<AddedAccount, Error> {
        let _one = self.administration.lock().await;
        let name = check_name(&account.name)?;
        let addresses = self.new_addresses(&name, &account.addresses)?;
        if self.shared.directory().addresses.login(&name).is_some() {
            return Err(Error::new(ErrorKind::Exists, format!("there is a user {name} already")));
        }
        let user = UserId::random();
        let slots = self.new_slots(user, account.password.as_ref(), account.app_password.as_deref()).await?;
        let made = self.shared.settings().keysets;
        let keys = new_keys(&name, &addresses, made.profile).await?;
        let record = UserRecord {
            name: name.clone(),
            addresses: addresses.iter().map(ToString::to_string).collect(),
            disabled: false,
        };
        let policy = first_policy(&made)?;
        let (default, _) = &keys.default_keyset;
        let mut keysets = vec![(default.id, default.encode().map_err(unmade)?)];
        let mut secret_keys = keys.wrap(user, &slots.master).map_err(unmade)?;
        if let Some(policy) = &policy {
            let keyring = Keyring::new(keys.identity.clone(), vec![default.clone()]).map_err(unmade)?;
            let wrapping = slots.master.wrapping_key(user);
            for (keyset, wrapped) in first_keysets(&keyring, policy, &wrapping, Timestamp::now(), made.ahead_days)? {
                keysets.push((keyset.id, keyset.encode().map_err(unmade)?));
                secret_keys.push(wrapped);
            }
        }
        let new = NewUser {
            user,
            record: record.clone(),
            identity: keys.identity_record().map_err(unmade)?,
            keysets,
            secrets: StoredSecrets { slots: slots.slots.iter().map(Slot::to_stored).collect(), secret_keys },
            rotation: policy.map(|policy| policy.encode()),
        };
        self.shared.store.write(Write::AddUser(Box::new(new))).await.map_err(stored)?;
        // What opens the user's messages may be shown nowhere but in the answer: nothing may keep it back now.
        self.shared.refreshed(user).await;
        tracing::info!(%user, "a user was added");
        let account = Account { id: user, name, addresses: record.addresses, disabled: false };
        Ok(AddedAccount { account, recovery_key: slots.recovery_key, app_password: slots.app_password })
    }

    /// The addresses of a new user, checked; the name at the primary domain where none is given.
    fn new_addresses(&self, name: &str, wanted: &[String]) -> Result<Vec<MailAddress>, Error> {
        let settings = self.shared.settings();
        let wanted = match (wanted, settings.domains.first()) {
            ([], Some(primary)) => vec![format!("{name}@{}", primary.domain)],
            (wanted, _) => wanted.to_vec(),
        };
        if wanted.is_empty() || wanted.len() > MOST_ADDRESSES {
            return Err(Error::new(ErrorKind::Invalid, "a user has 1 to 1000 addresses"));
        }
        let directory = self.shared.directory();
        let mut addresses: Vec<MailAddress> = Vec::with_capacity(wanted.len());
        for text in wanted {
            let address: MailAddress = text
                .parse()
                .map_err(|error| Error::new(ErrorKind::Invalid, format!("{text}: {error}; write it as name@domain")))?;
            directory.addresses.check_free(&address)?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        Ok(addresses)
    }

    pub(crate) async fn new_slots(
        &self,
        user: UserId,
        password: Option<&Secret>,
        app: Option<&str>,
    ) -> Result<Slots, Error> {
        let master = MasterKey::random();
        let (recovery, recovery_key) = Slot::create_recovery(user, &master);
        let mut slots = vec![recovery];
        if let Some(password) = password {
            slots.push(self.human_slot(user, &master, password).await?);
        }
        let app_password = app.map(|device| {
            let (slot, password) = Slot::create_app(user, &master, device);
            slots.push(slot);
            password
        });
        Ok(Slots { master, slots, recovery_key, app_password })
    }

    async fn human_slot(&self, user: UserId, master: &MasterKey, password: &Secret) -> Result<Slot, Error> {
        let _turn = self.shared.argon2_turn().await?;
        let _memory = self.shared.reserve_argon2()?;
        self.shared.limiter().create_human(user, master, password).await.map_err(|error| match error {
            PasswordError::Stopped => Error::new(ErrorKind::Unavailable, error.to_string()),
            error => Error::new(ErrorKind::Invalid, error.to_string()),
        })
    }

    pub(crate) async fn remove_user_now(&self, name: &str) -> Result<(), Error> {
        let _one = self.administration.lock().await;
        let user = self.member(name)?.id;
        let groups = self.shared.groups_read_by(user);
        self.shared.store.write(Write::RemoveUser(user)).await.map_err(stored)?;
        self.shared.refreshed(user).await;
        self.shared.groups_after_removal(user, groups).await?;
        self.shared.access.end_all(user, "the user was removed");
        self.shared.scrubbed(user).await;
        tracing::info!(%user, "a user was removed");
        Ok(())
    }

    pub(crate) fn member(&self, name: &str) -> Result<Arc<Member>, Error> {
        let directory = self.shared.directory();
        let member = directory.addresses.login(name).cloned();
        member.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no user {name}; `mesyx user list` shows all"))
        })
    }

    /// The user's slots, and the master key that `proof` opens.
    pub(crate) async fn open_with(&self, user: UserId, proof: &Proof) -> Result<(Vec<Slot>, MasterKey), Error> {
        let secrets = self.shared.store.secrets(user).await.map_err(stored)?;
        let slots = read_slots(user, &secrets);
        let fits = |slot: &&Slot| match proof {
            Proof::Password(_) => matches!(slot.kind(), SlotKind::HumanPassword { .. }),
            Proof::RecoveryKey(_) => matches!(slot.kind(), SlotKind::RecoveryKey),
        };
        let tried: Vec<Slot> = slots.iter().filter(fits).cloned().collect();
        let (Proof::Password(text) | Proof::RecoveryKey(text)) = proof;
        let _turn = self.shared.argon2_turn().await?;
        let _memory = self.shared.reserve_argon2()?;
        let opened = self.shared.limiter().open(&tried, text).await.map_err(|_| match proof {
            Proof::Password(_) => login_failed(),
            Proof::RecoveryKey(_) => Error::new(ErrorKind::LoginFailed, "this is not the user's recovery key"),
        })?;
        Ok((slots, opened.master))
    }

    pub(crate) async fn set_password_now(&self, name: &str, proof: Proof, new: Secret) -> Result<(), Error> {
        let _one = self.administration.lock().await;
        let user = self.member(name)?.id;
        let (slots, master) = self.open_with(user, &proof).await?;
        let slot = self.human_slot(user, &master, &new).await?;
        let human = |slot: &&Slot| matches!(slot.kind(), SlotKind::HumanPassword { .. });
        let write = Write::PutSecrets {
            user,
            put_slots: vec![slot.to_stored()],
            remove_slots: slots.iter().filter(human).map(Slot::id).collect(),
            secret_keys: None,
        };
        self.shared.store.write(write).await.map_err(stored)?;
        self.shared.check_slots(user).await;
        // Who has the old password and the write-ahead log must not open the master key.
        self.shared.scrubbed(user).await;
        tracing::info!(%user, "a password was set");
        Ok(())
    }

    pub(crate) async fn add_app_password_now(&self, name: &str, proof: Proof, label: &str) -> Result<Secret, Error> {
        let _one = self.administration.lock().await;
        let user = self.member(name)?.id;
        let (slots, master) = self.open_with(user, &proof).await?;
        if slots.len() >= MOST_SLOTS {
            return Err(Error::new(ErrorKind::OverQuota, "there are 100 passwords of this user already; revoke some"));
        }
        let (slot, password) = Slot::create_app(user, &master, label);
        let write =
            Write::PutSecrets { user, put_slots: vec![slot.to_stored()], remove_slots: Vec::new(), secret_keys: None };
        self.shared.store.write(write).await.map_err(stored)?;
        Ok(password)
    }

    pub(crate) async fn app_passwords_now(&self, name: &str) -> Result<Vec<AppPassword>, Error> {
        let user = self.member(name)?.id;
        let secrets = self.shared.store.secrets(user).await.map_err(stored)?;
        let used = |slot: &Slot| {
            let stored = secrets.slots.iter().find(|stored| stored.id == slot.id())?;
            let at = Timestamp(i64::from(stored.last_used?) * 86_400_000);
            Some(at.utc().date().to_string())
        };
        let listed = read_slots(user, &secrets).into_iter().filter_map(|slot| match slot.kind() {
            SlotKind::AppPassword { device } => {
                Some(AppPassword { id: slot.id().to_string(), label: device.clone(), last_used: used(&slot) })
            }
            _ => None,
        });
        let mut listed: Vec<AppPassword> = listed.collect();
        listed.sort_by(|a, b| (&a.label, &a.id).cmp(&(&b.label, &b.id)));
        Ok(listed)
    }

    pub(crate) async fn revoke_app_password_now(&self, name: &str, which: &str) -> Result<(), Error> {
        let _one = self.administration.lock().await;
        let user = self.member(name)?.id;
        let secrets = self.shared.store.secrets(user).await.map_err(stored)?;
        let slots = read_slots(user, &secrets);
        let named = |slot: &&Slot| match slot.kind() {
            SlotKind::AppPassword { device } => device == which || slot.id().to_string() == which,
            _ => false,
        };
        let mut fitting = slots.iter().filter(named);
        let (Some(slot), None) = (fitting.next(), fitting.next()) else {
            let text = format!("{name} has no app password {which}, or several of that label; name it by its id");
            return Err(Error::new(ErrorKind::NotFound, text));
        };
        let write = Write::PutSecrets { user, put_slots: Vec::new(), remove_slots: vec![slot.id()], secret_keys: None };
        self.shared.store.write(write).await.map_err(stored)?;
        self.shared.check_slots(user).await;
        self.shared.scrubbed(user).await;
        Ok(())
    }

    /// What needs the operator's attention, one line each.
    fn problems(&self) -> Vec<String> {
        let mut problems = self.shared.directory().addresses.problems().to_vec();
        problems.extend(
            self.shared.warnings.found().into_iter().map(|warning| format!("{}: {}", warning.user, warning.text)),
        );
        problems
    }

    pub(crate) async fn status_now(&self) -> Result<CoreStatus, Error> {
        let totals = self.shared.store.totals().await.map_err(stored)?;
        let budget = &self.shared.budget;
        let open = self.shared.access.unlocked();
        let unlocked = open.iter().map(|open| UnlockedStatus {
            user: open.member.name.clone(),
            since: rfc3339(open.since),
            sessions: open
                .sessions()
                .into_iter()
                .map(|(_, live)| SessionStatus {
                    ip: live.client.ip.to_string(),
                    protocol: live.client.protocol,
                    since: rfc3339(live.since),
                    credential: live.credential,
                })
                .collect(),
        });
        Ok(CoreStatus {
            instance: self.shared.instance.instance().to_string(),
            users: totals.users,
            messages: totals.messages,
            bytes: totals.bytes,
            log_entries: totals.log_entries,
            budget_total: budget.total(),
            budget_available: budget.available(),
            unlocked: unlocked.collect(),
            unlocked_keysets: self.shared.unlocked_keysets(),
            reseals: self.reseals(),
            problems: self.problems(),
        })
    }
}

/// How the keysets of a new user are renewed.
fn first_policy(settings: &KeysetSettings) -> Result<Option<RotationPolicy>, Error> {
    let rule = |every| RotationRule { levels: Levels::ALL, every, profile: settings.profile, make: true };
    settings.rotation.map(|every| RotationPolicy::new(vec![rule(every)])).transpose().map_err(unmade)
}

/// Fresh keys, made on a thread of its own.
pub(crate) async fn new_keys(name: &str, addresses: &[MailAddress], profile: Profile) -> Result<NewKeys, Error> {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let name = name.to_owned();
    let made = tokio::task::spawn_blocking(move || NewKeys::for_addresses(&name, &addresses, profile));
    made.await.map_err(|error| broken(&error))?.map_err(unmade)
}

pub(crate) fn unmade(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the user's keys can't be made: {error}"))
}
