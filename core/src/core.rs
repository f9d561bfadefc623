//! The core as the program sees it: one [`Core`] for one data directory.

use crate::access::{Access, Batch};
use crate::admin::{Account, AddedAccount, AppPassword, CoreStatus, DiscardReport, NewAccount, Proof};
use crate::directory::{Directory, Member};
use crate::errors::{broken, stored, unopened};
use crate::instance::{InstanceKey, InstanceKeyError};
use crate::keys::{Argon2Limiter, Argon2Params, Keyring, KeyringError};
use crate::keysets::{RotationPolicy, Warnings};
use crate::quota::Quota;
use crate::seal::Sealer;
use crate::secret_keys::Reseals;
use crate::settings::Settings;
use crate::store::{Event, Options, SqliteStore, Store, StoreError, StoredSecrets, StoredUser, Write};
use crate::trace::{Trace, TraceLine};
use mesyx_sdk::{
    Accepted, Address, ByteBudget, Credentials, Envelope, Error, ErrorKind, MailAddress, RecipientStatus, Secret,
    Sender, Session, Timestamp, UserId,
};
use openpgp::Cert;
use openpgp::parse::Parse;
use sequoia_openpgp as openpgp;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::task::JoinHandle;

/// The core: directory, intake, store, access. All calls may be made side by side, on any task of a tokio runtime.
#[derive(Debug)]
pub struct Core {
    pub(crate) shared: Arc<Shared>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Two administrators at once must not both find a name free.
    pub(crate) administration: Arc<tokio::sync::Mutex<()>>,
}

/// What intake, access and administration share.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) instance: Arc<InstanceKey>,
    pub(crate) sealer: Sealer,
    pub(crate) budget: ByteBudget,
    pub(crate) access: Access,
    pub(crate) trace: Trace,
    pub(crate) quota: Quota,
    pub(crate) queue: Arc<crate::queue::Handle>,
    pub(crate) argon2_queue: Arc<Semaphore>,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) reseals: Reseals,
    pub(crate) warnings: Warnings,
    /// Whoever changes keys holds it: commands, and the rotation that an unlocked session does.
    pub(crate) administration: Arc<tokio::sync::Mutex<()>>,
    /// See [`Shared::refresh`].
    refreshing: tokio::sync::Mutex<()>,
    /// Itself, for work that outlives a call.
    pub(crate) me: crate::pgp::Me,
    pub(crate) lookups: crate::pgp::Lookups,
    pub(crate) noted: crate::pgp::Noted,
    pub(crate) chat: crate::chat::Chat,
    settings: RwLock<Arc<Settings>>,
    limiter: RwLock<Argon2Limiter>,
    directory: RwLock<Arc<Known>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shared({:?})", self.instance)
    }
}

/// The users, as known now.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) addresses: Directory,
    pub(crate) keyrings: HashMap<UserId, Arc<Keyring>>,
    /// How keysets are renewed, of those users who have them renewed.
    pub(crate) policies: HashMap<UserId, Arc<RotationPolicy>>,
}

impl Shared {
    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn directory(&self) -> Arc<Known> {
        Arc::clone(&self.directory.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn limiter(&self) -> Argon2Limiter {
        self.limiter.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a name is a login name.
    pub(crate) fn is_user(&self, name: &str) -> bool {
        self.directory().addresses.login(name).is_some()
    }

    pub(crate) fn recipient(&self, address: &Address, sender: &Sender) -> RecipientStatus {
        let status = match self.chat_target(address) {
            Some(target) => self.chat_recipient(&target, sender),
            None => self.directory().addresses.resolve(address, sender).0,
        };
        if matches!(status, RecipientStatus::Unknown | RecipientStatus::Refused(_)) {
            self.trace.refused(&self.instance, None, std::iter::once(address), "refused: unknown recipient");
        }
        status
    }

    /// How a login name stands in the log: it may be a mistyped password.
    pub(crate) fn name_tag(&self, name: &str) -> String {
        self.instance.address_hash(Timestamp::now().day(), name)
    }

    /// Reads the users anew.
    pub(crate) async fn refresh(&self) -> Result<(), Error> {
        // One at a time, or what was read earlier could take the place of what was read later.
        let _one = self.refreshing.lock().await;
        let users = self.store.users().await.map_err(stored)?;
        let known = known(&self.settings(), users);
        for problem in known.addresses.problems() {
            tracing::warn!(problem, "the settings can't be followed");
        }
        *self.directory.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
        self.warnings.changed().notify_one();
        Ok(())
    }

    /// Ends sessions whose password was revoked, and brings the keys of the others in line with what is stored.
    pub(crate) async fn check_slots(&self, user: UserId) {
        // One at a time, or what was read earlier could be followed later. Who logs in meanwhile looks again afterwards, and may have a
        // password that is newer than what is read here: that session is not looked at.
        let _one = self.access.following(user).await;
        let begun = self.access.begun();
        let secrets = self.store.secrets(user).await;
        self.follow_slots(user, begun, secrets);
    }

    /// Brings a user's sessions before number `begun` in line with what was read after that number was taken.
    pub(crate) fn follow_slots(&self, user: UserId, begun: u64, secrets: Result<StoredSecrets, StoreError>) {
        match secrets {
            Ok(secrets) => {
                if let Some(keyring) = self.directory().keyrings.get(&user) {
                    self.access.follow_secrets(user, &secrets, keyring);
                }
                let slots: HashSet<_> = secrets.slots.iter().map(|slot| slot.id).collect();
                let why = "the password of this session is not valid any more";
                self.access.end(user, why, begun, |slot| slots.contains(&slot));
            }
            Err(StoreError::NotFound(_)) => self.access.end_all(user, "the user was removed"),
            Err(error) => tracing::warn!(%user, %error, "a user's passwords can't be read anew"),
        }
    }

    /// Ends sessions of users who are gone or disabled.
    fn end_removed(&self) {
        let directory = self.directory();
        for open in self.access.unlocked() {
            let id = open.member.id;
            if directory.addresses.member(id).is_none_or(|member| member.disabled) {
                self.access.end_all(id, "the user was removed or disabled");
            }
        }
    }
}

fn known(settings: &Settings, users: Vec<StoredUser>) -> Known {
    let mut keyrings = HashMap::with_capacity(users.len());
    let mut members = Vec::with_capacity(users.len());
    let mut policies = HashMap::new();
    for user in users {
        match keyring(&user) {
            Ok(keyring) => drop(keyrings.insert(user.user, Arc::new(keyring))),
            Err(error) => {
                tracing::error!(user = %user.user, %error, "a user's keyring can't be used; mail for them is put off")
            }
        }
        match user.rotation.as_deref().map(RotationPolicy::decode) {
            Some(Ok(policy)) => drop(policies.insert(user.user, Arc::new(policy))),
            Some(Err(error)) => tracing::error!(user = %user.user, %error, "a user's keysets are not renewed"),
            None => {}
        }
        members.push(member(user));
    }
    Known { addresses: Directory::new(settings, members), keyrings, policies }
}

fn keyring(user: &StoredUser) -> Result<Keyring, KeyringError> {
    let earlier = user.identities.iter().filter_map(|(_, certificate)| Cert::from_bytes(certificate).ok());
    Ok(Keyring::decode(&user.identity, &user.keysets)?.with_earlier(earlier.collect()))
}

fn member(user: StoredUser) -> Member {
    let addresses = user.record.addresses.iter().filter_map(|address| address.parse::<MailAddress>().ok()).collect();
    Member { id: user.user, name: user.record.name, addresses, disabled: user.record.disabled }
}

/// The store's place in the data directory.
pub(crate) const STORE: &str = "store";
/// Where service secrets stand among the store's named values.
const SECRET: &str = "secret:";

impl Core {
    /// Opens the data directory, which must have been made by [`Core::create`].
    ///
    /// # Errors
    /// What is wrong with the settings, the instance key or the store, in one line.
    pub async fn open(settings: Settings) -> Result<Arc<Self>, Error> {
        refuse_contradictions(&settings)?;
        let path = settings.instance_key.clone();
        let directory = settings.data_dir.join(STORE);
        let opened = tokio::task::spawn_blocking(move || {
            let instance = Arc::new(load_key(&path)?);
            let attest: Arc<dyn crate::store::Attest> = instance.clone();
            let store = SqliteStore::open(&directory, Options::default(), attest).map_err(|error| unopened(&error))?;
            Ok::<_, Error>((instance, store))
        });
        let (instance, store) = opened.await.map_err(|error| broken(&error))??;
        Self::over(settings, instance, Arc::new(store)).await
    }

    /// The core over a store that is open already.
    ///
    /// # Errors
    /// As [`Core::open`].
    pub async fn over(
        settings: Settings,
        instance: Arc<InstanceKey>,
        store: Arc<dyn Store>,
    ) -> Result<Arc<Self>, Error> {
        refuse_contradictions(&settings)?;
        let events = store.events();
        let administration = Arc::new(tokio::sync::Mutex::default());
        let limiter = limiter(&settings)?;
        let shared = Arc::new_cyclic(|me| Shared {
            me: Weak::clone(me),
            lookups: crate::pgp::Lookups::default(),
            noted: crate::pgp::Noted::default(),
            chat: crate::chat::Chat::default(),
            store,
            instance,
            sealer: Sealer::new(settings.sealing_window),
            budget: ByteBudget::new(settings.limits.budget_bytes),
            access: Access::new(&settings.caches),
            trace: Trace::default(),
            quota: Quota::default(),
            queue: Arc::default(),
            argon2_queue: Arc::new(Semaphore::new(Shared::argon2_waiting())),
            runtime: tokio::runtime::Handle::current(),
            reseals: Reseals::default(),
            warnings: Warnings::default(),
            administration: Arc::clone(&administration),
            refreshing: tokio::sync::Mutex::default(),
            limiter: RwLock::new(limiter),
            settings: RwLock::new(Arc::new(settings)),
            directory: RwLock::default(),
        });
        shared.refresh().await?;
        shared.list_secret_keys().await?;
        shared.load_groups().await?;
        shared.finish_moves().await?;
        let tasks = vec![
            tokio::spawn(follow(Arc::downgrade(&shared), events)),
            tokio::spawn(sweep(Arc::downgrade(&shared))),
            tokio::spawn(crate::keysets::look_after(Arc::downgrade(&shared))),
        ];
        Ok(Arc::new(Self { shared, tasks: Mutex::new(tasks), administration }))
    }

    /// Makes the data directory and the instance key file (both 0700/0600); nothing that exists is overwritten.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`] where there is an instance key already; otherwise what the file system said.
    pub async fn create(settings: &Settings) -> Result<(), Error> {
        let (data, key) = (settings.data_dir.clone(), settings.instance_key.clone());
        let work = tokio::task::spawn_blocking(move || {
            use std::os::unix::fs::DirBuilderExt;
            let failed = |error: std::io::Error| {
                Error::new(ErrorKind::Unavailable, format!("the data directory {}: {error}", data.display()))
            };
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&data).map_err(failed)?;
            match InstanceKey::create(&key) {
                Ok(_) => Ok(()),
                Err(InstanceKeyError::File { error, .. }) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    let text = format!("there is an instance key at {} already; nothing was changed", key.display());
                    Err(Error::new(ErrorKind::Exists, text))
                }
                Err(error) => Err(Error::new(ErrorKind::Unavailable, error.to_string())),
            }
        });
        work.await.map_err(|error| broken(&error))?
    }

    /// Follows new settings while serving. What is fixed while open ([`Settings::data_dir`] and others marked so) stays as it was.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] with what contradicts itself; then nothing changed.
    pub fn reconfigure(&self, settings: Settings) -> Result<(), Error> {
        refuse_contradictions(&settings)?;
        let limiter = limiter(&settings)?;
        let shared = &self.shared;
        let old = shared.settings();
        let settings = Settings {
            data_dir: old.data_dir.clone(),
            instance_key: old.instance_key.clone(),
            sealing_window: old.sealing_window,
            limits: crate::settings::Limits { budget_bytes: old.limits.budget_bytes, ..settings.limits },
            ..settings
        };
        shared.access.resize(&settings.caches);
        let members = shared.directory().addresses.members();
        let members = members.iter().map(|member| Member::clone(member)).collect();
        let addresses = Directory::new(&settings, members);
        for problem in addresses.problems() {
            tracing::warn!(problem, "the settings can't be followed");
        }
        *shared.limiter.write().unwrap_or_else(PoisonError::into_inner) = limiter;
        *shared.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        let mut directory = shared.directory.write().unwrap_or_else(PoisonError::into_inner);
        *directory =
            Arc::new(Known { addresses, keyrings: directory.keyrings.clone(), policies: directory.policies.clone() });
        Ok(())
    }

    /// Ends all sessions, cuts off what [`Core::stop_queue`] left running, finishes what was begun in the store, closes it. Later calls fail with [`ErrorKind::Unavailable`].
    pub async fn close(&self) {
        self.stop_queue(Duration::ZERO).await;
        for open in self.shared.access.unlocked() {
            self.shared.access.end_all(open.member.id, "the server is stopping");
        }
        self.shared.end_unlocks(|_| true);
        self.shared.reseals.stop().await;
        self.shared.store.close().await;
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.iter().for_each(JoinHandle::abort);
    }

    /// Takes messages in for `bridge`: see [`mesyx_sdk::Host::accept`].
    pub async fn accept(&self, bridge: &str, batch: Vec<Envelope>) -> Vec<Result<Accepted, Error>> {
        self.shared.accept(bridge, batch).await
    }

    /// What an address is to us: see [`mesyx_sdk::Host::recipient`]. No disk is read.
    #[must_use]
    pub fn recipient(&self, address: &Address, sender: &Sender) -> RecipientStatus {
        self.shared.recipient(address, sender)
    }

    /// Whether a name is a user's login name: see [`mesyx_sdk::Host::is_user`]. No disk is read.
    #[must_use]
    pub fn is_user(&self, name: &str) -> bool {
        self.shared.is_user(name)
    }

    /// Checks a name and password: see [`mesyx_sdk::Host::login`].
    ///
    /// # Errors
    /// As there.
    pub async fn login(&self, credentials: Credentials) -> Result<Arc<dyn Session>, Error> {
        self.shared.login(credentials).await
    }

    /// The byte budget that all messages in flight share.
    #[must_use]
    pub fn budget(&self) -> &ByteBudget {
        &self.shared.budget
    }

    /// A service secret, opened with the instance key. Names are the caller's: `tls.key`, `bridge.irc.libera.password`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub async fn secret(&self, name: &str) -> Result<Secret, Error> {
        let sealed = self.shared.store.value(&format!("{SECRET}{name}")).await.map_err(stored)?;
        let sealed = sealed.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no service secret {name}; store it first"))
        })?;
        match self.shared.instance.open_secret(name, &sealed) {
            Ok(secret) => Ok(Secret::new(secret.to_vec())),
            Err(error) => Err(Error::new(ErrorKind::Unreadable, error.to_string())),
        }
    }

    /// Stores a service secret, sealed to the instance key; `None` takes it away.
    ///
    /// # Errors
    /// As the store's.
    pub async fn put_secret(&self, name: &str, secret: Option<&Secret>) -> Result<(), Error> {
        let sealed = secret.map(|secret| self.shared.instance.seal_secret(name, secret.expose()));
        let write = Write::PutValue(format!("{SECRET}{name}"), sealed);
        self.shared.store.write(write).await.map_err(stored).map(drop)
    }

    /// Adds a user, with keys, standard mailboxes and a recovery key.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a bad name or address, [`ErrorKind::Exists`] where it is taken; the text says which.
    pub async fn add_user(&self, account: NewAccount) -> Result<AddedAccount, Error> {
        self.add_user_now(account).await
    }

    /// Every user, by name.
    #[must_use]
    pub fn list_users(&self) -> Vec<Account> {
        self.shared.directory().addresses.members().iter().map(|member| Account::of(member)).collect()
    }

    /// Removes a user with everything of theirs, for good, and ends their sessions.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub async fn remove_user(&self, name: &str) -> Result<(), Error> {
        self.remove_user_now(name).await
    }

    /// Sets the human password; messages stay readable. Sessions that logged in with the old one end.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::LoginFailed`] where `proof` is wrong, [`ErrorKind::Invalid`] for too short a password.
    pub async fn set_password(&self, name: &str, proof: Proof, new: Secret) -> Result<(), Error> {
        self.set_password_now(name, proof, new).await
    }

    /// What [`Core::discard_keys`] would make unreadable.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub async fn discard_report(&self, name: &str) -> Result<DiscardReport, Error> {
        self.discard_report_now(name).await
    }

    /// Throws a user's keys away and makes new ones, for one whose every password and recovery key is lost. All messages stored
    /// so far become unreadable for good: show [`Core::discard_report`] first.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub async fn discard_keys(&self, name: &str, new: Option<Secret>) -> Result<AddedAccount, Error> {
        self.discard_keys_now(name, new).await
    }

    /// Makes an app password; shown once. Needs the user's password or recovery key, because the keys must be wrapped for it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::LoginFailed`].
    pub async fn add_app_password(&self, name: &str, proof: Proof, label: &str) -> Result<Secret, Error> {
        self.add_app_password_now(name, proof, label).await
    }

    /// A user's app passwords.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub async fn app_passwords(&self, name: &str) -> Result<Vec<AppPassword>, Error> {
        self.app_passwords_now(name).await
    }

    /// Takes an app password away, by its id or label, and ends the sessions that logged in with it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub async fn revoke_app_password(&self, name: &str, which: &str) -> Result<(), Error> {
        self.revoke_app_password_now(name, which).await
    }

    /// Counts, and who is unlocked.
    ///
    /// # Errors
    /// As the store's.
    pub async fn status(&self) -> Result<CoreStatus, Error> {
        self.status_now().await
    }

    /// Writes a consistent copy of the store, blobs included, into the empty directory `to`, while serving.
    /// The instance key is not in it.
    ///
    /// # Errors
    /// As the store's.
    pub async fn backup(&self, to: &Path) -> Result<(), Error> {
        self.shared.store.backup(to).await.map_err(stored)
    }

    /// What happened to messages from or to an address in the last `days` days, as far as it is remembered; oldest first.
    #[must_use]
    pub fn trace(&self, address: &Address, days: u16) -> Vec<TraceLine> {
        let mut found = self.shared.trace.find(&self.shared.instance, address, days, Timestamp::now());
        // Lines are remembered by what a chat address stands for, whichever way it is written.
        let domain = self.shared.domain();
        let chat = address.as_mail().zip(domain).and_then(|(mail, domain)| mesyx_sdk::chat::from_mail(mail, &domain));
        if let Some(chat) = chat {
            found.extend(self.shared.trace.find(&self.shared.instance, &chat, days, Timestamp::now()));
        }
        found
    }

    /// How an address stands in today's log: a keyed hash, new each day, 16 hexadecimal digits.
    #[must_use]
    pub fn log_tag(&self, address: &Address) -> String {
        self.shared.instance.address_hash(Timestamp::now().day(), &address.to_string())
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        let tasks = self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner);
        tasks.iter().for_each(JoinHandle::abort);
        self.shared.queue.forget();
    }
}

/// Tells watchers what the store says has changed, and keeps directory and sessions in step.
async fn follow(shared: Weak<Shared>, mut events: Receiver<Event>) {
    /// Events that are looked at together, so that many changes of one mailbox are told once.
    const TOGETHER: usize = 1000;
    loop {
        let first = events.recv().await;
        let Some(shared) = shared.upgrade() else { return };
        let mut lagged = false;
        let mut batch = Vec::new();
        match first {
            Ok(event) => batch.push(event),
            Err(RecvError::Lagged(_)) => lagged = true,
            Err(RecvError::Closed) => return,
        }
        while batch.len() < TOGETHER {
            match events.try_recv() {
                Ok(event) => batch.push(event),
                Err(TryRecvError::Lagged(_)) => lagged = true,
                Err(_) => break,
            }
        }
        tell(&shared, batch, lagged).await;
    }
}

async fn tell(shared: &Shared, events: Vec<Event>, lagged: bool) {
    let mut batches: HashMap<UserId, Batch> = HashMap::new();
    let mut directory = lagged;
    let (mut secrets, mut seen, mut groups) = (HashSet::new(), HashSet::new(), HashSet::new());
    for event in events {
        match event {
            Event::Directory => directory = true,
            Event::Secrets(user) => drop(secrets.insert(user)),
            Event::Records(user) => {
                shared.records_changed(user);
                shared.wake_jobs(user).await;
            }
            Event::Seen(user, mailbox) => drop(seen.insert((user, mailbox))),
            Event::Group(group) => drop(groups.insert(group)),
            Event::Mailbox(group, mailbox, modseq) if shared.chat.groups.by_id(group).is_some() => {
                let Some(group) = shared.chat.groups.by_id(group) else { continue };
                for reader in group.now().readers.iter().filter(|reader| shared.access.feeds.watches(**reader)) {
                    Batch::add(&mut batches, Event::Mailbox(*reader, mailbox, modseq));
                }
            }
            event => Batch::add(&mut batches, event),
        }
    }
    for (user, batch) in &mut batches {
        for (view, modseq) in shared.access.views.stale(*user) {
            batch.changed(view, modseq);
        }
        batch.mailboxes().for_each(|mailbox| shared.access.forget_bodies(*user, mailbox));
        shared.access.feeds.send(*user, batch);
    }
    if lagged {
        shared.access.feeds.lagged();
        shared.access.live.lagged();
        for open in shared.access.unlocked() {
            open.contacts.touch();
            open.conversations.touch();
        }
        secrets.extend(shared.access.unlocked().iter().map(|open| open.member.id));
    }
    if directory {
        if let Err(error) = shared.refresh().await {
            tracing::error!(%error, "the users can't be read anew");
        }
        shared.end_removed();
    }
    for user in secrets {
        shared.check_slots(user).await;
    }
    for group in groups {
        if let Err(error) = shared.refresh_group(group).await {
            tracing::error!(%group, %error, "a group can't be read anew");
        }
    }
    if lagged && let Err(error) = shared.load_groups().await {
        tracing::error!(%error, "the groups can't be read anew");
    }
    for (user, mailbox) in seen {
        shared.tell_read(user, mailbox).await;
    }
}

/// Forgets session keys whose window is over, where nothing comes in that would do so.
async fn sweep(shared: Weak<Shared>) {
    loop {
        tokio::time::sleep(Duration::from_secs(30)).await;
        let Some(shared) = shared.upgrade() else { return };
        shared.sealer.sweep(Instant::now());
    }
}

fn refuse_contradictions(settings: &Settings) -> Result<(), Error> {
    let wrong = settings.check();
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Invalid, wrong.join("; "))),
    }
}

fn limiter(settings: &Settings) -> Result<Argon2Limiter, Error> {
    let crate::settings::Argon2Settings { memory_kib, passes, lanes } = settings.argon2;
    Argon2Limiter::new(Argon2Params { memory_kib, passes, lanes })
        .map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()))
}

/// A key in systemd's credential directory is guarded by the service manager; any other by its mode.
fn load_key(path: &Path) -> Result<InstanceKey, Error> {
    let credential = std::env::var_os("CREDENTIALS_DIRECTORY").is_some_and(|directory| path.starts_with(directory));
    let loaded = if credential { InstanceKey::load_credential(path) } else { InstanceKey::load(path) };
    loaded.map_err(|error| Error::new(ErrorKind::Unavailable, error.to_string()))
}
