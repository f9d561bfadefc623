//! Conversations and groups, through sessions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod direct;
mod groups;
mod keys;

use mesyx_core::Core;
use mesyx_core::queue::Deliverer;
use mesyx_sdk::{
    Accepted, Address, AddressKind, ChatEvent, ChatLine, Conversation, Delivery, Domain, Envelope, Error, Group,
    GroupChange, Kind, Line, LineHeaders, LiveFeed, MessageId, Outcome, Recipient, Session, Style, Timestamp,
    async_trait,
};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn domain() -> Domain {
    "example.org".parse().unwrap()
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

/// A line, as a bridge makes it.
fn line(from: &str, to: &str, line: &Line) -> Envelope {
    let id = MessageId::random();
    let headers = LineHeaders { id, from: address(from), nick: "nick".into(), to: address(to), at: Timestamp(0) };
    let conversation = match address(to) {
        Address::Mesyx(group) if group.user.local().starts_with('#') => Conversation::Group(address(to)),
        Address::Irc(irc) if irc.is_channel() => Conversation::Group(address(to)),
        to => Conversation::Direct(to),
    };
    Envelope {
        id,
        style: Style::Instant,
        kind: Kind::Message,
        from: Some(address(from)),
        to: vec![Recipient::new(address(to))],
        conversation: Some(conversation),
        content: line.to_content(&headers, &domain()).unwrap(),
        ..support::envelope(&["alice@example.org"], b"")
    }
}

async fn say(session: &Arc<dyn Session>, to: &str, text: &str) -> Result<Accepted, Error> {
    let from = format!("mesyx:{}@example.org", session.user().name);
    session.submit(line(&from, to, &Line::say(text))).await
}

async fn next(feed: &mut LiveFeed) -> ChatEvent {
    tokio::time::timeout(Duration::from_secs(20), feed.next()).await.expect("an event comes").expect("the feed goes on")
}

async fn next_line(feed: &mut LiveFeed) -> Arc<ChatLine> {
    loop {
        match next(feed).await {
            ChatEvent::Line(line) => return line,
            ChatEvent::Ended(why) => panic!("{why}"),
            _ => {}
        }
    }
}

/// What waits in a feed, as texts of lines.
fn waiting(feed: &mut LiveFeed) -> Vec<String> {
    std::iter::from_fn(|| feed.try_next())
        .filter_map(|event| match event {
            ChatEvent::Line(line) => Some(line.line.text.clone()),
            _ => None,
        })
        .collect()
}

async fn change(session: &Arc<dyn Session>, change: GroupChange) -> Result<Arc<Group>, Error> {
    session.change_group(&address("mesyx:#demo@example.org"), change).await
}

async fn join(session: &Arc<dyn Session>) -> Result<Arc<Group>, Error> {
    change(session, GroupChange::Join { key: None }).await
}

fn texts(lines: &[Arc<ChatLine>]) -> Vec<&str> {
    lines.iter().map(|line| line.line.text.as_str()).collect()
}

/// A network outside, which takes everything.
#[derive(Default)]
struct Network(Mutex<Vec<Delivery>>);

#[async_trait]
impl Deliverer for Network {
    fn route(&self, kind: AddressKind) -> Option<String> {
        (kind == AddressKind::Irc).then(|| "irc-network".to_owned())
    }
    async fn deliver(&self, _: &str, job: Delivery) -> Vec<Outcome> {
        let all = job.recipients.iter().map(|_| Outcome::Delivered { remote_id: None, dsn: false }).collect();
        self.0.lock().unwrap().push(job);
        all
    }
}

async fn with_network(core: &Core) -> Arc<Network> {
    let network = Arc::new(Network::default());
    core.start_queue(Arc::clone(&network) as Arc<dyn Deliverer>);
    network
}

/// Every byte of every file below a directory.
fn all_bytes(directory: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(all_bytes(&path));
        } else {
            all.extend(std::fs::read(path).unwrap());
        }
    }
    all
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window.eq_ignore_ascii_case(text.as_bytes()))
}
