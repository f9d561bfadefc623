//! Carries out what an operator asks of the core.

pub(crate) mod contact;
pub(crate) mod group;
pub(crate) mod queue;

use crate::control::{Hidden, Proof, Request};
use crate::exit::{Failure, trying};
use mesyx_core::admin::{Account, AddedAccount, NewAccount, Proof as CoreProof};
use mesyx_core::core::Core;
use mesyx_sdk::{Address, ErrorKind, MailAddress, Secret};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Mutex;

/// The list of the names of service secrets, itself stored as one.
const NAMES: &str = "mesyx.names";
/// What stands before an operator's name, so that it never meets one of our own.
const PREFIX: &str = "user.";

/// A user was added. The secrets are shown once.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Added {
    /// The user.
    #[serde(flatten)]
    pub(crate) account: Account,
    /// Opens the user's messages where every password is lost.
    pub(crate) recovery_key: Hidden,
    /// The app password, where one was asked for.
    pub(crate) app_password: Option<Hidden>,
}

impl From<AddedAccount> for Added {
    fn from(added: AddedAccount) -> Self {
        Self {
            account: added.account,
            recovery_key: Hidden(added.recovery_key),
            app_password: added.app_password.map(Hidden),
        }
    }
}

/// Carries out a request that needs the core alone.
pub(crate) async fn operate(core: &Core, request: Request) -> Result<Value, Failure> {
    match request {
        Request::Status | Request::Reload => Err(Failure::new("only a running server can answer that")),
        Request::UserAdd { name, addresses, password, app_password } => {
            let password = password.map(|hidden| hidden.0);
            json(Added::from(core.add_user(NewAccount { name, addresses, password, app_password }).await?))
        }
        Request::UserList => json(core.list_users()),
        Request::UserRemove { name } => done(core.remove_user(&name).await),
        Request::UserPassword { name, proof, new } => done(core.set_password(&name, proof.into(), new.0).await),
        Request::DiscardReport { name } => json(core.discard_report(&name).await?),
        Request::DiscardKeys { name, new } => {
            json(Added::from(core.discard_keys(&name, new.map(|hidden| hidden.0)).await?))
        }
        Request::AppPasswordAdd { name, proof, label } => {
            json(Hidden(core.add_app_password(&name, proof.into(), &label).await?))
        }
        Request::AppPasswordList { name } => json(core.app_passwords(&name).await?),
        Request::AppPasswordRevoke { name, which } => done(core.revoke_app_password(&name, &which).await),
        Request::Identity { request } => crate::control::keys::identity(core, request).await,
        Request::Keyset { request } => crate::control::keys::keyset(core, request).await,
        Request::SecretSet { name, value } => set_secret(core, &name, Some(value.0)).await,
        Request::Queue(request) => queue::operate(core, request).await,
        Request::Group(request) => group::operate(core, &request),
        Request::Contact { name, proof, change } => contact::carry_out(core, &name, proof, change).await,
        Request::SecretList => json(names(core).await?),
        Request::SecretRemove { name } => set_secret(core, &name, None).await,
        Request::Backup { to } => done(core.backup(&to).await),
        Request::SecretKeys { request } => crate::control::secret_keys::operate(core, request).await,
        Request::Trace { address, days } => {
            let address: MailAddress = address.parse().map_err(trying("the address"))?;
            json(core.trace(&Address::Mail(address), days))
        }
        Request::Keys(request) => crate::dns::keys::operate(core, request).await,
    }
}

/// A service secret as bridges ask for it.
pub(crate) async fn secret(core: &Core, name: &str) -> Result<Secret, mesyx_sdk::Error> {
    core.secret(&format!("{PREFIX}{name}")).await
}

/// Names are changed by one at a time, since the list of them is read and written back.
static SECRETS: Mutex<()> = Mutex::const_new(());

/// Stores a service secret under an operator's name, or takes it away.
pub(crate) async fn set_secret(core: &Core, name: &str, value: Option<Secret>) -> Result<Value, Failure> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/');
    if name.is_empty() || name.len() > 200 || !name.chars().all(good) {
        return Err(Failure::new("a secret's name has 1 to 200 of A-Z a-z 0-9 . - _ /"));
    }
    let _alone = SECRETS.lock().await;
    let mut names = names(core).await?;
    let known = names.iter().position(|known| known == name);
    match (&value, known) {
        (None, None) => return Err(Failure::new(format!("there is no secret '{name}'"))),
        (None, Some(at)) => {
            names.remove(at);
        }
        (Some(_), None) => names.push(name.to_owned()),
        (Some(_), Some(_)) => {}
    }
    names.sort();
    core.put_secret(&format!("{PREFIX}{name}"), value.as_ref()).await?;
    let list = serde_json::to_vec(&names).map_err(trying("the list of secrets"))?;
    core.put_secret(NAMES, Some(&Secret::new(list))).await?;
    Ok(Value::Null)
}

async fn names(core: &Core) -> Result<Vec<String>, Failure> {
    match core.secret(NAMES).await {
        Ok(list) => serde_json::from_slice(list.expose()).map_err(trying("the list of secrets")),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

impl From<Proof> for CoreProof {
    fn from(proof: Proof) -> Self {
        match proof {
            Proof::Password(hidden) => Self::Password(hidden.0),
            Proof::RecoveryKey(hidden) => Self::RecoveryKey(hidden.0),
        }
    }
}

fn json(value: impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(trying("the answer"))
}

fn done(result: Result<(), mesyx_sdk::Error>) -> Result<Value, Failure> {
    result.map(|()| Value::Null).map_err(Failure::from)
}
