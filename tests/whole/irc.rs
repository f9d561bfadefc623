//! People's own IRC clients at the whole program: lines by hand, and irssi in a terminal.

use crate::support::{Demo, PATIENCE};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

struct Client {
    reading: BufReader<TcpStream>,
    writing: TcpStream,
}

impl Client {
    fn connect(demo: &Demo) -> Self {
        let writing = TcpStream::connect(demo.address("irc")).expect("the listener irc accepts");
        writing.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { reading: BufReader::new(writing.try_clone().unwrap()), writing }
    }

    fn user(demo: &Demo, name: &str, caps: &str) -> Self {
        let password = demo.user(name).password;
        let mut client = Self::connect(demo);
        for line in [
            &format!("CAP REQ :{caps} message-tags"),
            &format!("PASS {name}@test:{password}"),
            &format!("NICK {name}"),
            "USER x 0 * :x",
            "CAP END",
        ] {
            client.send(line);
        }
        client.until(" 376 ");
        client
    }

    fn send(&mut self, line: &str) {
        self.writing.write_all(format!("{line}\r\n").as_bytes()).unwrap();
    }

    /// The lines up to the first that holds `text`.
    fn until(&mut self, text: &str) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let mut line = String::new();
            let read =
                self.reading.read_line(&mut line).unwrap_or_else(|error| panic!("no '{text}': {error}: {all:#?}"));
            assert!(read > 0, "closed before '{text}': {all:#?}");
            all.push(line.trim_end().to_owned());
            if line.contains(text) {
                return all;
            }
        }
    }
}

#[test]
fn alice_and_bob_talk_and_imap_sees_it() {
    let demo = Demo::start();
    let mut alice = Client::user(&demo, "alice", "echo-message draft/chathistory batch server-time");
    let mut bob = Client::user(&demo, "bob", "draft/chathistory batch");
    alice.send("PRIVMSG #demo :hello from alice");
    let echo = alice.until("hello from alice");
    assert!(echo.last().unwrap().contains("msgid="));
    assert!(bob.until("hello from alice").last().unwrap().contains(":alice!alice@example.org PRIVMSG #demo"));
    bob.send("PRIVMSG alice :and to you alone");
    alice.until("and to you alone");
    alice.send("CHATHISTORY LATEST #demo * 10");
    let lines = alice.until("BATCH -");
    assert!(lines.iter().any(|line| line.ends_with("PRIVMSG #demo :hello from alice")), "{lines:#?}");
    // Read over IMAP with curl.
    let user = demo.user("alice");
    let login = format!("{}:{}", user.name, user.password);
    let url = |path: &str| format!("imap://{}/{path}", demo.address("imap"));
    let read = |path: &str| {
        let output = Command::new("curl").args(["-s", "--user", &login, &url(path)]).output().expect("curl runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let found = read("Chat%2Fbob;MAILINDEX=1");
    assert!(found.contains("and to you alone"), "{found}");
    let found = read("Chat%2F%23demo;MAILINDEX=*");
    assert!(found.contains("hello from alice"), "{found}");
    // And the other way round: a mail to the group is a line of it, once.
    let writer = demo.user("bob");
    let server = demo.address("submission").to_string();
    let login = ["--auth", "PLAIN", "--auth-user", &writer.name, "--auth-password", &writer.password];
    let mail =
        ["--server", &server, "--from", &writer.address, "--to", "#demo@irc.example.org", "--body", "said by mail"];
    let sent = Command::new("swaks").args(login).args(mail).output().expect("swaks runs");
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stdout));
    for client in [&mut alice, &mut bob] {
        let heard = client.until("said by mail");
        assert!(heard.last().unwrap().contains(":bob!bob@example.org PRIVMSG #demo"), "{heard:#?}");
        client.send("PING :end");
        let rest = client.until("end");
        assert!(!rest.iter().any(|line| line.contains("said by mail")), "an echo: {rest:#?}");
    }
}

#[test]
fn guests_come_only_where_they_may() {
    let demo = Demo::start();
    let mut stranger = Client::connect(&demo);
    stranger.send("NICK visitor");
    stranger.send("USER visitor 0 * :x");
    assert!(stranger.until("ERROR").iter().any(|line| line.contains(" 464 ")));
    drop(demo);
    let demo = Demo::start_with(&["--guests"]);
    let mut guest = Client::connect(&demo);
    guest.send("NICK alice");
    assert!(guest.until("alice").last().unwrap().contains(" 433 "));
    guest.send("NICK visitor");
    guest.send("USER visitor 0 * :x");
    guest.until(" 376 ");
    guest.send("JOIN #guests");
    guest.until(" 366 ");
}

/// irssi in a terminal of tmux, ended with this.
struct Irssi {
    socket: String,
    home: tempfile::TempDir,
}

impl Irssi {
    fn start(demo: &Demo, name: &str, client: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let irssi = Self { socket: format!("mesyx-irssi-{}-{client}", std::process::id()), home };
        let at = demo.address("irc");
        let password = demo.user(name).password;
        let command = format!(
            "irssi --home={} --connect={} --port={} --nick={name} --password={name}@{client}:{password}",
            irssi.home.path().display(),
            at.ip(),
            at.port()
        );
        irssi.tmux(&["new-session", "-d", "-x", "150", "-y", "50", &command]);
        irssi
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux").args(["-L", &self.socket]).args(arguments).output().expect("tmux runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn type_line(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
        self.tmux(&["send-keys", "Enter"]);
    }

    /// irssi opens a window for a channel that it is joined to, and stays in the first.
    fn in_demo(&self) {
        self.see("[Act: 2]");
        self.type_line("/window 2");
        self.see("[2:127/#demo(");
    }

    fn see(&self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let screen = self.tmux(&["capture-pane", "-p"]);
            if screen.contains(text) {
                return screen;
            }
            assert!(Instant::now() < until, "irssi does not show '{text}':\n{screen}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Irssi {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

#[test]
fn irssi_talks_in_the_group() {
    let demo = Demo::start();
    let irssi = Irssi::start(&demo, "alice", "desk");
    irssi.in_demo();
    let mut bob = Client::user(&demo, "bob", "draft/chathistory");
    irssi.type_line("hello from irssi");
    bob.until("hello from irssi");
    bob.send("PRIVMSG #demo :hello irssi");
    irssi.see("hello irssi");
    let second = Irssi::start(&demo, "alice", "laptop");
    second.in_demo();
    second.type_line("from the laptop");
    irssi.see("from the laptop");
}
