//! The bridge over sockets, with a host in memory.

use super::IrcClient;
use mesyx_sdk::{Bridge, Config, Conversation, Error, ErrorKind, FlagChange, Host, MemoryHost, chat};
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
async fn a_login_that_is_not_possible_now_is_no_wrong_password() {
    let at = start("on").await;
    let later = |kind| at.host.fail_next_login(Error::new(kind, "come back in a minute"));
    later(ErrorKind::Unavailable);
    let mut client = Client::connect(&at).await;
    for line in ["PASS alice:secret", "NICK alice", "USER alice 0 * :x"] {
        client.send(line).await;
    }
    let answer = client.next().await;
    assert!(
        answer.contains(" 263 ") && answer.contains(" PASS ") && answer.ends_with("come back in a minute"),
        "{answer}"
    );
    let end = client.next().await;
    assert!(end.starts_with("ERROR ") && end.contains("Try again later"), "{end}");
    later(ErrorKind::Unavailable);
    let mut sasl = Client::connect(&at).await;
    let login = ["AUTHENTICATE PLAIN", "AUTHENTICATE AGFsaWNlAHNlY3JldA=="];
    for line in ["CAP REQ :sasl", "NICK alice", "USER x 0 * :x"].into_iter().chain(login) {
        sasl.send(line).await;
    }
    let lines = sasl.until(" 904 ").await;
    assert!(lines.iter().any(|line| line.contains(" 263 ") && line.contains(" AUTHENTICATE ")), "{lines:?}");
    for line in login.into_iter().chain(["CAP END"]) {
        sasl.send(line).await;
    }
    let lines = sasl.until(" 422 ").await;
    assert!(!lines.iter().any(|line| line.contains(" 263 ")) && lines.iter().any(|line| line.contains(" 903 ")));
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

/// Everything that a client which is not let in sends ends at the limit.
#[tokio::test]
async fn endless_input_before_the_login_is_cut_off() {
    let at = start("on").await;
    for unit in ["no line end ", "CAP LS 302\r\n", "NICK 9\r\n", "AUTHENTICATE PLAIN\r\n", "\r\n"] {
        let mut stream = TcpStream::connect(at.address).await.unwrap();
        let block = unit.repeat(1 + 20_000 / unit.len());
        let mut cut = false;
        // A hundred kilobytes may pass, and what socket buffers hold; ten megabytes may not.
        for _ in 0..500 {
            let written = tokio::time::timeout(Duration::from_secs(20), stream.write_all(block.as_bytes())).await;
            if !matches!(written, Ok(Ok(()))) {
                cut = true;
                break;
            }
        }
        assert!(cut, "ten megabytes of {unit:?}");
    }
}

#[tokio::test]
async fn a_name_that_is_nobodys_is_refused_as_a_wrong_password_is() {
    let at = start("off").await;
    let mut answers = Vec::new();
    for name in ["alice", "nobody"] {
        let mut client = Client::connect(&at).await;
        for line in [&format!("PASS {name}:wrong"), "NICK x", "USER x 0 * :x"] {
            client.send(line).await;
        }
        answers.push(client.until("ERROR").await);
        let mut client = Client::connect(&at).await;
        let plain = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("\0{name}\0wrong"));
        for line in ["CAP REQ :sasl", "NICK x", "USER x 0 * :x", "AUTHENTICATE PLAIN", &format!("AUTHENTICATE {plain}")]
        {
            client.send(line).await;
        }
        answers.push(client.until(" 904 ").await);
    }
    assert_eq!(answers[..2], answers[2..]);
}

/// A guest's lines beyond the burst wait for their time: the clock bounds them from below only.
#[tokio::test]
async fn lines_beyond_the_burst_wait() {
    let host = MemoryHost::new("example.org".parse().unwrap());
    let config = json!({
        "listeners": [{ "name": "irc", "address": "127.0.0.1:0", "tls": "none" }],
        "guests": "on",
        "limits": { "guest_burst": 5, "guest_lines_per_second": 10 },
    });
    let bridge = IrcClient::build(Config::new(config)).unwrap();
    let shared: Arc<dyn Host> = Arc::new(host.clone());
    tokio::spawn(async move { bridge.run(shared).await });
    let at = Running { address: host.listening("irc").await, host };
    let mut guest = Client::guest(&at, "visitor").await;
    let began = std::time::Instant::now();
    for number in 0..15 {
        guest.send(&format!("PING {number}")).await;
    }
    guest.until(" PONG mail.example.org 14").await;
    // Two of the burst went into the registration; of 15 lines, at least 10 waited a tenth of a second each.
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
}

#[tokio::test]
async fn lines_of_one_message_are_stored_as_one() {
    let at = start("off").await;
    let caps = "draft/multiline batch message-tags echo-message draft/chathistory server-time";
    let mut alice = Client::user(&at, "alice", caps).await;
    let mut bob = Client::user(&at, "bob", "").await;
    for client in [&mut alice, &mut bob] {
        client.until(" 422 ").await;
    }
    for line in [
        "BATCH +1 draft/multiline bob",
        "@batch=1 PRIVMSG bob :one",
        "@batch=1 PRIVMSG bob :",
        "@batch=1;draft/multiline-concat PRIVMSG bob :two",
        "BATCH -1",
    ] {
        alice.send(line).await;
    }
    let echo = alice.until("BATCH -").await;
    assert_eq!(echo.len(), 5, "{echo:#?}");
    let heard: Vec<String> = vec![bob.next().await, bob.next().await];
    assert!(heard[0].ends_with(" :one") && heard[1].ends_with(" :two"), "{heard:#?}");
    alice.send("CHATHISTORY LATEST bob * 1").await;
    let lines = alice.until("chathistory").await;
    assert!(lines.last().unwrap().contains(" BATCH +b"), "{lines:#?}");
    let lines = alice.until("BATCH -b").await;
    assert!(lines[0].starts_with("@batch=b") && lines[0].contains("draft/multiline bob"), "{lines:#?}");
    assert!(lines[1..4].iter().all(|line| line.starts_with("@batch=m")), "{lines:#?}");
    assert!(lines[4].starts_with("@batch=b") && lines.len() == 6, "{lines:#?}");
}

/// What happened between lines does not count as what was said, unless the client wants to see it.
#[tokio::test]
async fn history_counts_what_was_said() {
    let at = start("off").await;
    let caps = "batch message-tags draft/chathistory server-time";
    let mut alice = Client::user(&at, "alice", caps).await;
    alice.until(" 422 ").await;
    alice.send("JOIN #demo").await;
    alice.until(" 366 ").await;
    for number in 0..6 {
        alice.send(&format!("PRIVMSG #demo :line {number}")).await;
        for topic in ["a", "b"] {
            alice.send(&format!("TOPIC #demo :{topic} {number}")).await;
            alice.until(&format!("TOPIC #demo :{topic} {number}")).await;
        }
    }
    let mut history = async |wanted: &str| {
        alice.send(&format!("CHATHISTORY {wanted}")).await;
        let lines = alice.until("BATCH -").await;
        let said = lines.iter().filter(|line| line.contains(" PRIVMSG "));
        let time = |line: &String| line.split(['=', ';', ' ']).find(|part| part.ends_with('Z')).unwrap().to_owned();
        let id = |line: &String| line.split("msgid=").nth(1).unwrap().split([';', ' ']).next().unwrap().to_owned();
        said.map(|line| (line.chars().last().unwrap(), time(line), id(line))).collect::<Vec<_>>()
    };
    let digits = |lines: &[(char, String, String)]| lines.iter().map(|(digit, ..)| *digit).collect::<String>();
    let all = history("LATEST #demo * 10").await;
    assert_eq!(digits(&all), "012345");
    assert_eq!(digits(&history("LATEST #demo * 2").await), "45");
    let id = |at: usize| format!("msgid={}", all[at].2);
    for (wanted, expected) in [
        (format!("LATEST #demo {} 10", id(3)), "45"),
        (format!("BEFORE #demo {} 2", id(3)), "12"),
        (format!("AFTER #demo {} 2", id(3)), "45"),
        (format!("AFTER #demo {} 1", id(2)), "3"),
        (format!("AROUND #demo {} 3", id(3)), "234"),
        (format!("AROUND #demo {} 1", id(3)), "3"),
        (format!("BETWEEN #demo {} {} 10", id(1), id(4)), "23"),
        (format!("BETWEEN #demo {} {} 10", id(4), id(1)), "23"),
        (format!("BETWEEN #demo {} {} 1", id(1), id(4)), "2"),
        (format!("BETWEEN #demo {} {} 1", id(4), id(1)), "3"),
        ("BEFORE #demo timestamp=2000-01-01T00:00:00.000Z 5".to_owned(), ""),
        ("AFTER #demo timestamp=2999-01-01T00:00:00.000Z 5".to_owned(), ""),
    ] {
        assert_eq!(digits(&history(&wanted).await), expected, "{wanted}");
    }
}

#[tokio::test]
async fn a_marker_is_what_clients_set_and_moves_all_of_them() {
    let at = start("off").await;
    let caps = "batch message-tags draft/chathistory draft/read-marker server-time";
    let (mut desk, mut phone) =
        (Client::user(&at, "alice@desk", caps).await, Client::user(&at, "alice@phone", caps).await);
    for client in [&mut desk, &mut phone] {
        client.until(" 422 ").await;
    }
    desk.send("JOIN #demo").await;
    let lines = desk.until(" 366 ").await;
    let at = |text: &str| lines.iter().position(|line| line.contains(text)).unwrap();
    assert!(at(" JOIN ") < at(" MARKREAD #demo ") && at(" MARKREAD #demo ") < at(" 353 "), "{lines:#?}");
    phone.until(" 366 ").await;
    let (early, late) = ("timestamp=2020-01-01T00:00:00.000Z", "timestamp=2021-01-01T00:00:00.000Z");
    desk.send(&format!("MARKREAD bob {late}")).await;
    assert!(
        desk.until("MARKREAD").await.last().unwrap().contains("MARKREAD bob *"),
        "there is no such conversation yet"
    );
    desk.send("PRIVMSG bob :hello").await;
    desk.rest().await;
    phone.rest().await;
    desk.send(&format!("MARKREAD bob {early}")).await;
    let told = desk.until("MARKREAD").await.pop().unwrap();
    assert!(told.contains("MARKREAD bob timestamp=20") && !told.contains(early), "an own line is read: {told}");
    let now = told.split(' ').next_back().unwrap().to_owned();
    for client in [&mut desk, &mut phone] {
        client.send("MARKREAD bob").await;
        assert!(client.until("MARKREAD").await.last().unwrap().ends_with(&now));
    }
}

#[tokio::test]
async fn each_client_of_a_channel_is_told_a_line_in_its_own_form() {
    let at = start("off").await;
    let mut alice = Client::user(&at, "alice", "echo-message").await;
    alice.until(" 422 ").await;
    alice.send("JOIN #demo").await;
    alice.until(" 366 ").await;
    let mut readers = Vec::new();
    for caps in ["", "message-tags", "server-time", "", "batch draft/multiline", "message-tags"] {
        let mut bob = Client::user(&at, "bob", caps).await;
        bob.until(" 422 ").await;
        bob.send("JOIN #demo").await;
        bob.rest().await;
        readers.push(bob);
    }
    let line = ":alice!alice@example.org PRIVMSG #demo :one and the same";
    alice.send("PRIVMSG #demo :one and the same").await;
    for (at, bob) in readers.iter_mut().enumerate() {
        let heard = bob.until("one and the same").await.pop().unwrap();
        let (tags, rest) = heard.split_at(heard.find(":alice!").unwrap());
        assert_eq!(rest, line);
        let has = |tag: &str| tags.contains(tag);
        assert_eq!((has("msgid="), has("time=")), ([1, 5].contains(&at), at == 2), "{at}: {heard}");
    }
    alice.until("one and the same").await;
    // By the new nick from then on, in all forms.
    alice.send("NICK alicia").await;
    alice.send("PRIVMSG #demo :by another name").await;
    for bob in &mut readers {
        let heard = bob.until("by another name").await.pop().unwrap();
        assert!(heard.ends_with(":alicia!alice@example.org PRIVMSG #demo :by another name"), "{heard}");
    }
}

/// IRCv3 `sasl-3.2`, over a socket: from then on the client has the user's conversations.
#[tokio::test]
async fn a_guest_becomes_a_user_without_connecting_anew() {
    let at = start("on").await;
    let mut client = Client::connect(&at).await;
    client.send("CAP REQ :sasl\r\nNICK visitor\r\nUSER v 0 * :v\r\nCAP END").await;
    client.until(" 422 ").await;
    client.send("AUTHENTICATE PLAIN").await;
    client.until("AUTHENTICATE +").await;
    // "\0alice\0wrong", then "\0alice\0secret".
    client.send("AUTHENTICATE AGFsaWNlAHdyb25n").await;
    client.until(" 904 visitor ").await;
    client.send("AUTHENTICATE PLAIN\r\nAUTHENTICATE AGFsaWNlAHNlY3JldA==").await;
    let lines = client.until(" 903 ").await;
    assert!(lines.iter().any(|line| line.contains(" 900 visitor visitor!alice@example.org alice :")), "{lines:?}");
    client.send("JOIN #mine\r\nPRIVMSG #mine :said as a user\r\nWHOIS visitor").await;
    let lines = client.until(" 318 ").await;
    assert!(lines.iter().any(|line| line.contains(" 330 visitor visitor alice ")), "{lines:?}");
    assert_eq!(at.host.groups().await.unwrap().len(), 1);
    let mut another = Client::connect(&at).await;
    another.send("PASS alice:secret\r\nNICK alice\r\nUSER alice 0 * :a").await;
    another.until("JOIN #mine").await;
}
