//! How many lines a second a group stores and its members hear, through sessions, with commits synced.
//!
//! `cargo bench --bench chat -- [READERS [LINES [RATE]]]`: 4 speakers say LINES lines (20,000) as fast as they are stored, or RATE a second
//! together, and READERS members (32) listen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark fails by panicking")]

use mesyx_core::admin::NewAccount;
use mesyx_core::{Core, Settings};
use mesyx_sdk::{
    ChatEvent, ClientInfo, Content, Conversation, Credentials, Dsn, Envelope, GroupChange, Importance, Kind, Line,
    LineHeaders, MessageId, Origin, Recipient, Session, Style, Timestamp,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SPEAKERS: usize = 4;
/// Lines of one speaker that may wait for their commit.
const AHEAD: usize = 64;

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|arg| arg.parse::<usize>().ok());
    let readers = numbers.next().unwrap_or(32).max(SPEAKERS);
    let lines = numbers.next().unwrap_or(20_000);
    let rate = numbers.next().unwrap_or(0);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run(readers, lines, rate));
}

fn said(from: &str, text: &str) -> Envelope {
    let domain = "example.org".parse().unwrap();
    let (from, to) = (format!("mesyx:{from}@example.org").parse().unwrap(), "mesyx:#demo@example.org".parse().unwrap());
    let id = MessageId::random();
    let headers = LineHeaders { id, from, nick: "nick".into(), to, at: Timestamp::now() };
    let content: Content = Line::say(text).to_content(&headers, &domain).unwrap();
    Envelope {
        id,
        dedup: None,
        style: Style::Instant,
        kind: Kind::Message,
        from: Some(headers.from),
        to: vec![Recipient::new(headers.to.clone())],
        conversation: Some(Conversation::Group(headers.to)),
        sent: None,
        received: Timestamp::now(),
        importance: Importance::Normal,
        content,
        origin: Origin::default(),
        junk: false,
        dsn: Dsn::default(),
    }
}

async fn run(readers: usize, lines: usize, rate: usize) {
    let directory = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
    let settings = Settings::new(
        directory.path().join("data"),
        directory.path().join("key"),
        "mail.example.org".into(),
        "example.org".parse().unwrap(),
    );
    Core::create(&settings).await.unwrap();
    let core = Core::open(settings).await.unwrap();
    let mut sessions: Vec<Arc<dyn Session>> = Vec::new();
    for at in 0..readers {
        let name = format!("user{at}");
        let account =
            NewAccount { name: name.clone(), addresses: Vec::new(), password: None, app_password: Some("x".into()) };
        let password = core.add_user(account).await.unwrap().app_password.unwrap();
        let client = ClientInfo { ip: [127, 0, 0, 1].into(), protocol: "irc".into(), tls: true };
        let session = core.login(Credentials { name, password, client }).await.unwrap();
        let group = "mesyx:#demo@example.org".parse().unwrap();
        session.change_group(&group, GroupChange::Join { key: None }).await.unwrap();
        sessions.push(session);
    }
    let mut listeners = Vec::new();
    for session in &sessions {
        let mut feed = session.live().await.unwrap();
        listeners.push(tokio::spawn(async move {
            let (mut heard, mut late) = (0, Vec::with_capacity(lines));
            while heard < lines {
                match feed.next().await.unwrap() {
                    ChatEvent::Line(line) => {
                        heard += 1;
                        let sent: i64 = line.line.text.split(' ').next().unwrap().parse().unwrap();
                        late.push(now_us() - sent);
                    }
                    ChatEvent::Lagged => panic!("lagged"),
                    _ => {}
                }
            }
            (Instant::now(), late)
        }));
    }
    let began = Instant::now();
    let mut speakers = Vec::new();
    for (at, session) in sessions.iter().take(SPEAKERS).enumerate() {
        let session = Arc::clone(session);
        speakers.push(tokio::spawn(async move {
            let (name, mine) = (format!("user{at}"), lines / SPEAKERS);
            let window = Arc::new(tokio::sync::Semaphore::new(AHEAD));
            let mut saying = Vec::with_capacity(mine);
            for line in 0..mine {
                if rate > 0 {
                    let due = began + Duration::from_secs_f64((line * SPEAKERS) as f64 / rate as f64);
                    tokio::time::sleep_until(due.into()).await;
                }
                let permit = Arc::clone(&window).acquire_owned().await.unwrap();
                let (session, name) = (Arc::clone(&session), name.clone());
                saying.push(tokio::spawn(async move {
                    let text = format!("{} a line of about the length that people write on IRC", now_us());
                    session.submit(said(&name, &text)).await.unwrap();
                    drop(permit);
                }));
            }
            for one in saying {
                one.await.unwrap();
            }
        }));
    }
    for speaker in speakers {
        speaker.await.unwrap();
    }
    let stored = began.elapsed();
    let (mut last, mut late) = (began, Vec::new());
    for listener in listeners {
        let (at, some) = listener.await.unwrap();
        last = last.max(at);
        late.extend(some);
    }
    late.sort_unstable();
    let heard = last - began;
    let at = |share: f64| late[((late.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
    println!(
        "{readers} readers, {lines} lines: {:.0} lines/s stored, {:.0} deliveries/s, latency p50 {:.1} ms, p99 {:.1} ms",
        lines as f64 / stored.as_secs_f64(),
        (lines * readers) as f64 / heard.as_secs_f64(),
        at(0.5),
        at(0.99)
    );
    core.close().await;
}

fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_micros() as i64
}
