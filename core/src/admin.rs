//! What the operator does with users: the types of `Core`'s administration.

use mesyx_sdk::{Secret, UserId};
use serde::{Deserialize, Serialize};

/// A user to add.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// The login name: 1 to 64 of `a-z 0-9 . _ -`, beginning with a letter or digit; upper case is lowered.
    pub name: String,
    /// The addresses, the main one first. Empty: the name at the primary domain.
    pub addresses: Vec<String>,
    /// A password of the user's own choice.
    pub password: Option<Secret>,
    /// Makes an app password with this label too.
    pub app_password: Option<String>,
}

/// A user was added: what is shown once, and never again.
#[derive(Debug)]
pub struct AddedAccount {
    /// The user.
    pub account: Account,
    /// Opens the user's messages where every password is lost. Kept nowhere.
    pub recovery_key: Secret,
    /// The app password, where one was asked for.
    pub app_password: Option<Secret>,
}

/// A user, as `mesyx user list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The user's id.
    pub id: UserId,
    /// The login name.
    pub name: String,
    /// The addresses, the main one first.
    pub addresses: Vec<String>,
    /// Logins are refused.
    pub disabled: bool,
}

/// What proves that somebody may set a new password.
#[derive(Debug, Clone)]
pub enum Proof {
    /// The old password. An app password proves nothing here: a lost telephone must not lock its owner out.
    Password(Secret),
    /// The recovery key, shown when the user was added.
    RecoveryKey(Secret),
}

/// An app password, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppPassword {
    /// Its id, 32 hexadecimal digits; also the first part of the password.
    pub id: String,
    /// The device or program that it is for.
    pub label: String,
    /// The last day of its use, as `YYYY-MM-DD`.
    pub last_used: Option<String>,
}

/// What becomes unreadable when a user's keys are thrown away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscardReport {
    /// Messages in mailboxes.
    pub messages: u64,
    /// Their padded sizes added up, in bytes.
    pub bytes: u64,
    /// Keysets whose secret keys are lost.
    pub keysets: usize,
}

/// How the core does, for `mesyx status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CoreStatus {
    /// This instance's id.
    pub instance: String,
    /// Users.
    pub users: u64,
    /// Messages stored, each user's copy for itself.
    pub messages: u64,
    /// Sealed bytes of messages.
    pub bytes: u64,
    /// Entries in the operation log.
    pub log_entries: u64,
    /// The byte budget of messages in flight, and what is left of it.
    pub budget_total: usize,
    /// See `budget_total`.
    pub budget_available: usize,
    /// Users whose keys are open now.
    pub unlocked: Vec<UnlockedStatus>,
    /// Keysets that are unlocked for a while.
    #[serde(default)]
    pub unlocked_keysets: Vec<crate::secret_keys::UnlockedKeyset>,
    /// Messages that are being sealed anew, or were since the program started.
    #[serde(default)]
    pub reseals: Vec<crate::secret_keys::ResealProgress>,
    /// What of the settings can't be followed, such as an alias to nobody; and what about users' keys needs attention.
    pub problems: Vec<String>,
}

/// A user whose keys are open.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnlockedStatus {
    /// The login name.
    pub user: String,
    /// Since when, as RFC 3339 in UTC.
    pub since: String,
    /// The sessions that keep them open; none in the time of grace after the last.
    pub sessions: Vec<SessionStatus>,
}

/// A session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionStatus {
    /// The client's IP address.
    pub ip: String,
    /// The protocol.
    pub protocol: String,
    /// Since when, as RFC 3339 in UTC.
    pub since: String,
    /// What it logged in with: `password`, `app password LABEL`.
    pub credential: String,
}
