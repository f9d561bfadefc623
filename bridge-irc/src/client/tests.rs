//! The bridge over sockets, with a host in memory.

use super::IrcClient;
use mesyx_sdk::{Bridge, Config, Conversation, FlagChange, Host, MemoryHost, chat};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

struct Running {
    host: MemoryHost,
    address: std::net::SocketAddr,
}

async fn start(guests: &str) -> Running {
    let host = MemoryHost::new("example.org".parse().unwrap());
    for name in ["alice", "bob"] {
        host.add_user(name, "secret").unwrap();
    }
    let config = json!({
        "listeners": [{ "name": "irc", "address": "127.0.0.1:0", "tls": "none" }],
        "guests": guests,
        "limits": { "guest_burst": 10_000, "user_burst": 100_000 },
    });
    let bridge = IrcClient::build(Config::new(config)).unwrap();
    let shared: Arc<dyn Host> = Arc::new(host.clone());
    tokio::spawn(async move { bridge.run(shared).await });
    let address = host.listening("irc").await;
    Running { host, address }
}

struct Client {
    lines: tokio::io::Lines<BufReader<OwnedReadHalf>>,
    out: OwnedWriteHalf,
}

impl Client {
    async fn connect(at: &Running) -> Self {
        let (reading, out) = TcpStream::connect(at.address).await.unwrap().into_split();
        Self { lines: BufReader::new(reading).lines(), out }
    }

    async fn send(&mut self, line: &str) {
        self.out.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
    }

    async fn next(&mut self) -> String {
        let line = tokio::time::timeout(Duration::from_secs(20), self.lines.next_line()).await.expect("a line in time");
        line.unwrap().expect("the connection is open")
    }

    /// The lines up to the first that holds `text`.
    async fn until(&mut self, text: &str) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            all.push(self.next().await);
            if all.last().unwrap().contains(text) {
                return all;
            }
        }
    }

    /// What was sent up to now.
    async fn rest(&mut self) -> Vec<String> {
        self.send("PING :rest").await;
        let mut all = self.until("rest").await;
        all.pop();
        all
    }

    async fn user(at: &Running, login: &str, caps: &str) -> Self {
        let mut client = Self::connect(at).await;
        if !caps.is_empty() {
            client.send(&format!("CAP REQ :{caps}")).await;
        }
        client.send(&format!("PASS {login}:secret")).await;
        let name = login.split(['@', '/']).next().unwrap_or_default();
        client.send(&format!("NICK {name}")).await;
        client.send("USER x 0 * :Somebody").await;
        if !caps.is_empty() {
            client.send("CAP END").await;
        }
        client
    }

    async fn guest(at: &Running, nick: &str) -> Self {
        let mut client = Self::connect(at).await;
        client.send(&format!("NICK {nick}")).await;
        client.send("USER x 0 * :Guest").await;
        client.until(" 422 ").await;
        client
    }
}

#[tokio::test]
async fn users_log_in_join_and_talk() {
    let at = start("off").await;
    let mut alice = Client::user(&at, "alice", "server-time message-tags echo-message").await;
    let lines = alice.until(" 422 ").await;
    assert!(lines.iter().any(|line| line.contains(" 001 alice ")), "{lines:?}");
    alice.send("JOIN #demo").await;
    let lines = alice.until(" 366 ").await;
    assert!(lines.iter().any(|line| line.contains(":alice!alice@example.org JOIN #demo")), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains(" 353 alice = #demo :~alice")), "{lines:?}");
    let mut bob = Client::user(&at, "bob", "").await;
    bob.until(" 422 ").await;
    bob.send("JOIN #demo").await;
    bob.until(" 366 ").await;
    assert!(alice.until("JOIN").await.last().unwrap().contains(":bob!bob@example.org JOIN #demo"));
    bob.send("PRIVMSG #demo :hello alice").await;
    let heard = alice.until("PRIVMSG").await;
    let last = heard.last().unwrap();
    assert!(last.contains("msgid=") && last.ends_with(":bob!bob@example.org PRIVMSG #demo :hello alice"), "{last}");
    alice.send("PRIVMSG bob :\u{1}ACTION waves\u{1}").await;
    assert!(alice.until("ACTION").await.last().unwrap().contains("PRIVMSG bob"));
    assert_eq!(
        bob.until("ACTION").await.last().unwrap(),
        ":alice!alice@example.org PRIVMSG bob :\u{1}ACTION waves\u{1}"
    );
    assert_eq!(bob.rest().await, [] as [&str; 0], "nobody hears himself without echo-message");
    alice.send("MODE #demo +v bob").await;
    assert!(bob.until("MODE").await.last().unwrap().ends_with("MODE #demo +v bob"));
    bob.send("TOPIC #demo :mine").await;
    assert!(bob.next().await.contains(" 482 "));
    at.host.stop();
}

#[tokio::test]
async fn a_wrong_password_is_no_way_in() {
    let at = start("on").await;
    let mut client = Client::connect(&at).await;
    for line in ["PASS alice:wrong", "NICK alice", "USER alice 0 * :x"] {
        client.send(line).await;
    }
    assert!(client.next().await.contains(" 464 "));
    assert!(client.next().await.starts_with("ERROR "));
    let mut sasl = Client::connect(&at).await;
    for line in ["CAP REQ :sasl", "NICK alice", "USER x 0 * :x", "AUTHENTICATE PLAIN", "AUTHENTICATE AGFsaWNlAHdyb25n"]
    {
        sasl.send(line).await;
    }
    sasl.until(" 904 ").await;
    for line in ["AUTHENTICATE PLAIN", "AUTHENTICATE AGFsaWNlAHNlY3JldA==", "CAP END"] {
        sasl.send(line).await;
    }
    let lines = sasl.until(" 422 ").await;
    for numeric in [" 900 ", " 903 ", " 001 alice "] {
        assert!(lines.iter().any(|line| line.contains(numeric)), "{numeric}: {lines:?}");
    }
}

#[tokio::test]
async fn what_was_missed_is_told_once_and_what_is_read_is_shared() {
    let at = start("off").await;
    let mut alice = Client::user(&at, "alice", "").await;
    alice.until(" 422 ").await;
    for text in ["one", "two", "three"] {
        alice.send(&format!("PRIVMSG bob :{text}")).await;
    }
    alice.rest().await;
    // bob reads the first by mail.
    let session = at.host.session("bob").unwrap();
    let from_alice = chat::address_of(at.host.session("alice").unwrap().user(), at.host.domain()).unwrap();
    let info = session.conversation(&Conversation::Direct(from_alice), false).await.unwrap();
    let seen = FlagChange::Add(vec![mesyx_sdk::Flag::Seen]);
    session.store_flags(info.mailbox, &[1], &seen, None).await.unwrap();

    let mut bob = Client::user(&at, "bob@desk", "server-time").await;
    let lines = bob.until("three").await;
    let told: Vec<&String> = lines.iter().filter(|line| line.contains(" PRIVMSG ")).collect();
    assert_eq!(told.len(), 2, "{lines:?}");
    assert!(told[0].starts_with("@time=") && told[0].ends_with(":two"));
    bob.send("QUIT").await;
    bob.until("ERROR").await;
    alice.send("PRIVMSG bob :four").await;
    alice.rest().await;
    // The same program again: only what is new. Another one: all that is unread.
    let mut again = Client::user(&at, "bob@desk", "server-time").await;
    let lines = again.until("four").await;
    assert_eq!(lines.iter().filter(|line| line.contains(" PRIVMSG ")).count(), 1, "{lines:?}");
    let mut phone =
        Client::user(&at, "bob@phone", "batch server-time message-tags draft/chathistory draft/read-marker").await;
    phone.until(" 422 ").await;
    phone.send("CHATHISTORY LATEST alice * 10").await;
    let lines = phone.until("BATCH -").await;
    assert_eq!(lines.iter().filter(|line| line.contains(" PRIVMSG ")).count(), 4, "{lines:?}");
    let time = lines
        .iter()
        .find(|line| line.ends_with(":two"))
        .and_then(|line| line.split(['=', ';']).find(|part| part.ends_with('Z')));
    let time = time.unwrap().to_owned();
    phone.send(&format!("MARKREAD alice timestamp={time}")).await;
    let marked = phone.until("MARKREAD").await;
    assert!(marked.last().unwrap().contains("MARKREAD alice timestamp="), "{marked:?}");
    assert!(session.conversation(&info.conversation, false).await.unwrap().read >= 2);
    // Who answers has read.
    again.send("PRIVMSG alice :yes").await;
    again.rest().await;
    for _ in 0..100 {
        if session.conversation(&info.conversation, false).await.unwrap().read >= 4 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("what the user answered to is not read");
}

#[tokio::test]
async fn guests_take_part_and_never_have_a_users_name() {
    let at = start("on").await;
    let mut guest = Client::guest(&at, "visitor").await;
    guest.send("NICK alice").await;
    assert!(guest.next().await.contains(" 433 "));
    let mut alice = Client::user(&at, "alice", "").await;
    alice.until(" 422 ").await;
    alice.send("JOIN #demo").await;
    alice.until(" 366 ").await;
    guest.send("JOIN #demo").await;
    guest.until(" 366 ").await;
    assert!(alice.next().await.contains("visitor!~x@"));
    guest.send("PRIVMSG #demo :hello").await;
    assert!(alice.until("hello").await.last().unwrap().starts_with(":visitor!~x@"));
    alice.send("PRIVMSG #demo :welcome").await;
    assert!(guest.until("welcome").await.last().unwrap().starts_with(":alice!alice@example.org PRIVMSG #demo"));
    assert_eq!(guest.rest().await, [] as [&str; 0]);
    // What the guest said is kept for the members.
    let session = at.host.session("alice").unwrap();
    let names: Vec<_> =
        session.mailboxes().await.unwrap().into_iter().map(|mailbox| mailbox.name.to_string()).collect();
    assert!(names.contains(&"Chat/#demo".to_owned()));
}

#[tokio::test]
async fn mail_is_read_and_sent() {
    let at = start("off").await;
    let mut alice = Client::user(&at, "alice", "").await;
    alice.until(" 422 ").await;
    alice.send("PRIVMSG bob@example.org :lunch at one?").await;
    alice.rest().await;
    let mut bob = Client::user(&at, "bob", "").await;
    bob.until(" 422 ").await;
    bob.send("PRIVMSG *mail :list").await;
    let line = bob.until("*mail").await.pop().unwrap();
    assert!(line.ends_with(":1 * alice@example.org: lunch at one?"), "{line}");
    bob.send("PRIVMSG *mail :read 1").await;
    let lines = bob.rest().await;
    assert!(lines.iter().any(|line| line.ends_with(":lunch at one?")), "{lines:?}");
}
