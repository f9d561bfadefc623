//! The core as the program sees it: one [`Core`] for one data directory.

use crate::admin::{Account, AddedAccount, AppPassword, CoreStatus, DiscardReport, NewAccount, Proof};
use crate::settings::Settings;
use crate::trace::TraceLine;
use mesyx_sdk::{
    Accepted, Address, ByteBudget, Credentials, Envelope, Error, ErrorKind, RecipientStatus, Secret, Sender, Session,
};
use std::path::Path;
use std::sync::Arc;

/// The core: directory, intake, store, access. All calls may be made side by side, on any task of a tokio runtime.
#[derive(Debug)]
pub struct Core {
    budget: ByteBudget,
}

impl Core {
    /// Opens the data directory, which must have been made by [`Core::create`].
    ///
    /// # Errors
    /// What is wrong with the settings, the instance key or the store, in one line.
    pub async fn open(settings: Settings) -> Result<Arc<Self>, Error> {
        let _ = settings;
        Err(unready())
    }

    /// Makes the data directory and the instance key file (both 0700/0600); nothing that exists is overwritten.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`] where there is an instance key already; otherwise what the file system said.
    pub async fn create(settings: &Settings) -> Result<(), Error> {
        let _ = settings;
        Err(unready())
    }

    /// Follows new settings while serving. What is fixed while open ([`Settings::data_dir`] and others marked so) stays as it was.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] with what contradicts itself; then nothing changed.
    pub fn reconfigure(&self, settings: Settings) -> Result<(), Error> {
        let _ = settings;
        Err(unready())
    }

    /// Ends all sessions, finishes what was queued, closes the store. Later calls fail with [`ErrorKind::Unavailable`].
    pub async fn close(&self) {}

    /// Takes messages in for `bridge`: see [`mesyx_sdk::Host::accept`].
    pub async fn accept(&self, bridge: &str, batch: Vec<Envelope>) -> Vec<Result<Accepted, Error>> {
        let _ = bridge;
        batch.iter().map(|_| Err(unready())).collect()
    }

    /// What an address is to us: see [`mesyx_sdk::Host::recipient`]. No disk is read.
    #[must_use]
    pub fn recipient(&self, address: &Address, sender: &Sender) -> RecipientStatus {
        let _ = (address, sender);
        RecipientStatus::Unknown
    }

    /// Checks a name and password: see [`mesyx_sdk::Host::login`].
    ///
    /// # Errors
    /// As there.
    pub async fn login(&self, credentials: Credentials) -> Result<Arc<dyn Session>, Error> {
        let _ = credentials;
        Err(unready())
    }

    /// The byte budget that all messages in flight share.
    #[must_use]
    pub const fn budget(&self) -> &ByteBudget {
        &self.budget
    }

    /// A service secret, opened with the instance key. Names are the caller's: `tls.key`, `bridge.irc.libera.password`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub async fn secret(&self, name: &str) -> Result<Secret, Error> {
        let _ = name;
        Err(unready())
    }

    /// Stores a service secret, sealed to the instance key; `None` takes it away.
    ///
    /// # Errors
    /// As the store's.
    pub async fn put_secret(&self, name: &str, secret: Option<&Secret>) -> Result<(), Error> {
        let _ = (name, secret);
        Err(unready())
    }

    /// Adds a user, with keys, standard mailboxes and a recovery key.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a bad name or address, [`ErrorKind::Exists`] where it is taken; the text says which.
    pub async fn add_user(&self, account: NewAccount) -> Result<AddedAccount, Error> {
        let _ = account;
        Err(unready())
    }

    /// Every user, by name.
    #[must_use]
    pub fn list_users(&self) -> Vec<Account> {
        Vec::new()
    }

    /// Removes a user with everything of theirs, for good, and ends their sessions.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub async fn remove_user(&self, name: &str) -> Result<(), Error> {
        let _ = name;
        Err(unready())
    }

    /// Sets the human password; messages stay readable. Sessions that logged in with the old one end.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::LoginFailed`] where `proof` is wrong, [`ErrorKind::Invalid`] for too short a password.
    pub async fn set_password(&self, name: &str, proof: Proof, new: Secret) -> Result<(), Error> {
        let _ = (name, proof, new);
        Err(unready())
    }

    /// What [`Core::discard_keys`] would make unreadable.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub async fn discard_report(&self, name: &str) -> Result<DiscardReport, Error> {
        let _ = name;
        Err(unready())
    }

    /// Throws a user's keys away and makes new ones, for one whose every password and recovery key is lost. All messages stored
    /// so far become unreadable for good: show [`Core::discard_report`] first.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub async fn discard_keys(&self, name: &str, new: Option<Secret>) -> Result<AddedAccount, Error> {
        let _ = (name, new);
        Err(unready())
    }

    /// Makes an app password; shown once. Needs the user's password or recovery key, because the keys must be wrapped for it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::LoginFailed`].
    pub async fn add_app_password(&self, name: &str, proof: Proof, label: &str) -> Result<Secret, Error> {
        let _ = (name, proof, label);
        Err(unready())
    }

    /// A user's app passwords.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub async fn app_passwords(&self, name: &str) -> Result<Vec<AppPassword>, Error> {
        let _ = name;
        Err(unready())
    }

    /// Takes an app password away, by its id or label, and ends the sessions that logged in with it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub async fn revoke_app_password(&self, name: &str, which: &str) -> Result<(), Error> {
        let _ = (name, which);
        Err(unready())
    }

    /// Counts, and who is unlocked.
    ///
    /// # Errors
    /// As the store's.
    pub async fn status(&self) -> Result<CoreStatus, Error> {
        Err(unready())
    }

    /// Writes a consistent copy of the store, blobs included, into the empty directory `to`, while serving.
    /// The instance key is not in it.
    ///
    /// # Errors
    /// As the store's.
    pub async fn backup(&self, to: &Path) -> Result<(), Error> {
        let _ = to;
        Err(unready())
    }

    /// What happened to messages from or to an address in the last `days` days, as far as it is remembered; oldest first.
    #[must_use]
    pub fn trace(&self, address: &Address, days: u16) -> Vec<TraceLine> {
        let _ = (address, days);
        Vec::new()
    }

    /// How an address stands in today's log: a keyed hash, new each day, 16 hexadecimal digits.
    #[must_use]
    pub fn log_tag(&self, address: &Address) -> String {
        let _ = address;
        String::new()
    }
}

fn unready() -> Error {
    Error::new(ErrorKind::Unavailable, "the core is not ready")
}
