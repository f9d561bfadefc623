//! A core in a temporary directory, and what tests ask of it.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use mesyx_core::admin::{AddedAccount, NewAccount};
use mesyx_core::settings::Argon2Settings;
use mesyx_core::{Core, Settings};
use mesyx_sdk::{
    Accepted, Address, ClientInfo, Content, Credentials, Dsn, Envelope, Error, Importance, Kind, Mailbox, MailboxId,
    MessageId, Origin, Recipient, Role, Secret, Session, Style, Timestamp, Uid,
};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

pub const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
pub const AWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

pub struct Place {
    pub directory: TempDir,
    pub settings: Settings,
}

impl Place {
    pub async fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let mut settings = Settings::new(
            directory.path().join("data"),
            directory.path().join("instance.key"),
            "mail.example.org".into(),
            "example.org".parse().unwrap(),
        );
        settings.argon2 = Argon2Settings { memory_kib: 64, passes: 1, lanes: 1 };
        settings.login.grace = Duration::ZERO;
        Core::create(&settings).await.unwrap();
        Self { directory, settings }
    }

    pub fn data(&self) -> &Path {
        &self.settings.data_dir
    }

    pub async fn open(&self) -> Arc<Core> {
        Core::open(self.settings.clone()).await.unwrap()
    }

    /// A core with alice and bob, whose passwords are `NAME's password`.
    pub async fn with_users() -> (Self, Arc<Core>) {
        let place = Self::new().await;
        let core = place.open().await;
        add(&core, "alice").await;
        add(&core, "bob").await;
        (place, core)
    }
}

pub async fn add(core: &Core, name: &str) -> AddedAccount {
    let account = NewAccount {
        name: name.into(),
        addresses: Vec::new(),
        password: Some(password(name)),
        app_password: Some("phone".into()),
    };
    core.add_user(account).await.unwrap()
}

pub fn password(name: &str) -> Secret {
    Secret::from(format!("{name}'s password"))
}

pub fn credentials(name: &str, password: Secret, ip: IpAddr) -> Credentials {
    Credentials { name: name.into(), password, client: ClientInfo { ip, protocol: "imap".into(), tls: true } }
}

pub async fn login(core: &Core, name: &str) -> Arc<dyn Session> {
    core.login(credentials(name, password(name), HOME)).await.unwrap()
}

pub fn address(text: &str) -> Address {
    Address::Mail(text.parse().unwrap())
}

pub fn envelope(to: &[&str], message: &[u8]) -> Envelope {
    Envelope {
        id: MessageId::random(),
        dedup: None,
        style: Style::Delayed,
        kind: Kind::Message,
        from: Some(address("sender@example.net")),
        to: to.iter().map(|to| Recipient::new(address(to))).collect(),
        conversation: None,
        sent: None,
        received: Timestamp::now(),
        importance: Importance::Normal,
        content: Content::from(message.to_vec()),
        origin: Origin { bridge: "liar".into(), network: "smtp".into(), ..Origin::default() },
        junk: false,
        dsn: Dsn::default(),
    }
}

pub async fn accept(core: &Core, envelope: Envelope) -> Result<Accepted, Error> {
    core.accept("smtp", vec![envelope]).await.pop().unwrap()
}

pub async fn deliver(core: &Core, to: &[&str], message: &[u8]) -> Accepted {
    accept(core, envelope(to, message)).await.unwrap()
}

pub async fn mailbox(session: &Arc<dyn Session>, role: Role) -> Mailbox {
    session.mailboxes().await.unwrap().into_iter().find(|mailbox| mailbox.role == Some(role)).unwrap()
}

pub async fn inbox(session: &Arc<dyn Session>) -> MailboxId {
    mailbox(session, Role::Inbox).await.id
}

pub async fn uids(session: &Arc<dyn Session>, mailbox: MailboxId) -> Vec<Uid> {
    session.snapshot(mailbox, false).await.unwrap().entries.iter().map(|entry| entry.uid).collect()
}

/// Every body in a mailbox, in order.
pub async fn bodies(session: &Arc<dyn Session>, mailbox: MailboxId) -> Vec<Vec<u8>> {
    let mut rest = uids(session, mailbox).await;
    let mut bodies = Vec::new();
    while !rest.is_empty() {
        let some = session.bodies(mailbox, &rest).await.unwrap();
        assert!(!some.is_empty(), "an answer for none of {rest:?}");
        rest.retain(|uid| !some.iter().any(|(known, _)| known == uid));
        bodies.extend(some.into_iter().map(|(_, content)| content.to_vec()));
    }
    bodies
}

pub const HELLO: &[u8] = b"From: Sender <sender@example.net>\r\nTo: alice@example.org\r\nSubject: hello\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\n\r\nHello, world.\r\n";

/// Whether some bytes stand somewhere in others.
pub fn holds(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// What is found in each file below a directory, with the file's path.
pub fn files_where(directory: &Path, find: impl Fn(&[u8]) -> Vec<String>) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        // The store may take a file away between the listing and the look.
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            read => read.unwrap(),
        };
        found.extend(find(&bytes).into_iter().map(|name| format!("{}: {name}", path.display())));
    }
    found
}

/// Every file below a directory that holds one of these.
pub fn files_holding(directory: &Path, wanted: &[Vec<u8>]) -> Vec<String> {
    files_where(directory, |bytes| {
        let any = wanted.iter().any(|text| holds(bytes, text));
        any.then(|| "found".to_owned()).into_iter().collect()
    })
}
