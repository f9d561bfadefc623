//! What tests inside of this crate begin with: a core in a directory of its own, with users. (Those outside have `tests/support`.)

use crate::admin::{NewAccount, Proof};
use crate::core::Core;
use crate::settings::{Argon2Settings, Settings};
use mesyx_sdk::{
    ClientInfo, Content, Credentials, Dsn, Envelope, Importance, Kind, MessageId, Origin, Recipient, Secret, Session,
    Style, Timestamp,
};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

/// Settings for example.org, with passwords that cost nothing.
pub(crate) fn settings(directory: &Path) -> Settings {
    let (data, key) = (directory.join("data"), directory.join("instance.key"));
    let mut settings = Settings::new(data, key, "mail.example.org".into(), "example.org".parse().expect("a domain"));
    settings.argon2 = Argon2Settings { memory_kib: 64, passes: 1, lanes: 1 };
    settings
}

/// A new core with these users, whose passwords are [`password`].
pub(crate) async fn core(settings: &Settings, users: &[&str]) -> Arc<Core> {
    Core::create(settings).await.expect("made");
    let core = Core::open(settings.clone()).await.expect("opened");
    for name in users {
        let account = NewAccount {
            name: (*name).to_owned(),
            addresses: Vec::new(),
            password: Some(password(name)),
            app_password: None,
        };
        core.add_user(account).await.expect("added");
    }
    core
}

pub(crate) fn password(name: &str) -> Secret {
    Secret::from(format!("{name}'s password"))
}

/// What proves that one is alice.
pub(crate) fn proof() -> Proof {
    Proof::Password(password("alice"))
}

pub(crate) async fn login(core: &Core, name: &str) -> Arc<dyn Session> {
    let client = ClientInfo { ip: Ipv4Addr::LOCALHOST.into(), protocol: "submission".into(), tls: true };
    let credentials = Credentials { name: name.to_owned(), password: password(name), client };
    core.login(credentials).await.expect("logged in")
}

/// A message as a bridge brings it.
pub(crate) fn envelope(from: Option<&str>, to: Vec<Recipient>, content: &[u8]) -> Envelope {
    Envelope {
        id: MessageId::random(),
        dedup: None,
        style: Style::Delayed,
        kind: Kind::Message,
        from: from.map(|from| from.parse().expect("an address")),
        to,
        conversation: None,
        sent: None,
        received: Timestamp::now(),
        importance: Importance::Normal,
        content: Content::from(content.to_vec()),
        origin: Origin::default(),
        junk: false,
        dsn: Dsn::default(),
    }
}
