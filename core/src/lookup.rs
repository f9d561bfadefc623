//! Whether settings can be followed, told without a running core.

use crate::admin::Account;
use crate::directory::{Directory, Member};
use crate::errors::unopened;
use crate::settings::Settings;
use crate::store::SqliteStore;
use mesyx_sdk::{Error, MailAddress};

/// The users of a store that nobody has open. Changes nothing, and makes no file.
///
/// # Errors
/// As [`SqliteStore::peek`].
pub fn users_at_rest(settings: &Settings) -> Result<Vec<Account>, Error> {
    let users = SqliteStore::peek(&settings.data_dir.join(crate::core::STORE)).map_err(|error| unopened(&error))?;
    let account = |user: crate::store::StoredUser| Account {
        id: user.user,
        name: user.record.name,
        addresses: user.record.addresses,
        disabled: user.record.disabled,
    };
    Ok(users.into_iter().map(account).collect())
}

/// What of `settings` can't be followed with these users, one line each: an alias, catch-all or postmaster who is nobody.
#[must_use]
pub fn problems(settings: &Settings, users: &[Account]) -> Vec<String> {
    let member = |account: &Account| Member {
        id: account.id,
        name: account.name.clone(),
        addresses: account.addresses.iter().filter_map(|address| address.parse::<MailAddress>().ok()).collect(),
        disabled: account.disabled,
    };
    Directory::new(settings, users.iter().map(member).collect()).problems().to_vec()
}
