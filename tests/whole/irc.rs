//! People's own IRC clients at the whole program: lines by hand, and irssi in a terminal.

use crate::support::{Demo, Lines, PATIENCE, json, until};
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
        // Tests run beside each other, with clients of the same names.
        let unique = home.path().file_name().unwrap().to_string_lossy().replace('.', "");
        let irssi = Self { socket: format!("mesyx-irssi-{unique}-{client}"), home };
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

impl Irssi {
    /// How often a text stands on the screen of the window shown.
    fn count(&self, text: &str) -> usize {
        self.tmux(&["capture-pane", "-p", "-S", "-500"]).matches(text).count()
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

/// Two irssi of one user, a client that knows markers, and IMAP, all at once: what was missed comes once, what is read is read everywhere, and
/// mail is answered on IRC and the other way round.
#[test]
fn clients_of_one_user_and_imap_agree() {
    let demo = Demo::start();
    let mut bob = Client::user(&demo, "bob", "draft/chathistory");
    for text in ["missed one", "missed two"] {
        bob.send(&format!("PRIVMSG #demo :{text}"));
    }
    bob.send("PING :stored");
    bob.until("stored");
    let user = demo.user("alice");
    let mut imap = Lines::connect(demo.address("imap"));
    imap.line();
    assert!(imap.imap("a", &format!("LOGIN {} {}", user.name, user.password)).last().unwrap().starts_with("a OK"));
    let mut unseen = |mailbox: &str| {
        let status = imap.imap("b", &format!("STATUS \"{mailbox}\" (UNSEEN)"));
        let count = status[0].rsplit(' ').next().unwrap_or_default().trim_end_matches(')').to_owned();
        count.parse::<usize>().unwrap_or_else(|_| panic!("{status:?}"))
    };
    let unread = unseen("Chat/#demo");
    assert!(unread >= 2);

    // History on return, once on each, and own lines on both.
    let (desk, laptop) = (Irssi::start(&demo, "alice", "desk"), Irssi::start(&demo, "alice", "laptop"));
    for irssi in [&desk, &laptop] {
        irssi.in_demo();
        irssi.see("missed two");
        assert_eq!((irssi.count("missed one"), irssi.count("missed two")), (1, 1));
    }
    desk.type_line("said at the desk");
    laptop.see("said at the desk");
    bob.until("said at the desk");
    // Who answers has read, also for IMAP.
    until("the answer marks what was before it as read", || unseen("Chat/#demo") == 0);

    // A marker set by one client is the flag of IMAP, and the flag is the marker.
    let mut phone = Client::user(&demo, "alice", "draft/read-marker draft/chathistory batch server-time");
    bob.send("PRIVMSG alice :in private");
    let heard = phone.until("in private").pop().unwrap();
    assert_eq!(unseen("Chat/bob"), 1);
    let time = heard.split(['=', ';', ' ']).find(|part| part.ends_with('Z')).unwrap();
    phone.send(&format!("MARKREAD bob timestamp={time}"));
    assert!(phone.until("MARKREAD bob").last().unwrap().ends_with(time));
    assert_eq!(unseen("Chat/bob"), 0);
    bob.send("PRIVMSG alice :once more");
    phone.until("once more");
    let mut reader = Lines::connect(demo.address("imap"));
    reader.line();
    reader.imap("a", &format!("LOGIN {} {}", user.name, user.password));
    reader.imap("b", "SELECT Chat/bob");
    reader.imap("c", "STORE 1:* +FLAGS (\\Seen)");
    assert!(phone.until("MARKREAD bob").last().unwrap().contains("timestamp="));

    // A mail client answers in the private conversation: bob hears it, both irssi show it, and nothing comes back as an echo.
    let server = demo.address("submission").to_string();
    let login = ["--auth", "PLAIN", "--auth-user", &user.name, "--auth-password", &user.password];
    let mail =
        ["--server", &server, "--from", &user.address, "--to", "bob@irc.example.org", "--body", "answered by mail"];
    let sent = Command::new("swaks").args(login).args(mail).output().expect("swaks runs");
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stdout));
    assert!(bob.until("answered by mail").last().unwrap().contains(":alice!alice@example.org PRIVMSG bob"));
    phone.until("answered by mail");
    // And an answer from irssi is there as mail.
    desk.type_line("/msg bob answered by irssi");
    bob.until("answered by irssi");
    let login = format!("{}:{}", user.name, user.password);
    let url = format!("imap://{}/Chat%2Fbob;MAILINDEX=*", demo.address("imap"));
    until("the line is a mail", || {
        let output = Command::new("curl").args(["-s", "--user", &login, &url]).output().expect("curl runs");
        String::from_utf8_lossy(&output.stdout).contains("answered by irssi")
    });
    bob.send("PING :end");
    assert!(!bob.until("end").iter().any(|line| line.contains("answered")), "an echo");

    // The same client again is not told again what it was told; what it missed meanwhile it is.
    let connected = || {
        let status = json(&["--config", &demo.config(), "status", "--json"], "");
        let unlocked = status["core"]["unlocked"].as_array().unwrap();
        let alice = unlocked.iter().find(|open| open["user"] == "alice").unwrap();
        alice["sessions"].as_array().unwrap().iter().filter(|session| session["protocol"] == "irc").count()
    };
    let before = connected();
    drop(desk);
    until("the server knows that the desk is gone", || connected() < before);
    bob.send("PRIVMSG #demo :while you were away");
    let again = Irssi::start(&demo, "alice", "desk");
    again.in_demo();
    again.see("while you were away");
    assert_eq!((again.count("missed"), again.count("while you were away")), (0, 1));
}

/// weechat without a terminal; it does what is written to a file, and writes what it shows to its logs.
struct Weechat {
    home: tempfile::TempDir,
    child: std::process::Child,
}

impl Weechat {
    const SCRIPT: &str = r#"
import os, weechat
weechat.register("say", "mesyx", "1", "AGPL3", "does what is written to a file", "", "")
def look(data, left):
    path = os.path.join(weechat.info_get("weechat_config_dir", ""), "say")
    if os.path.exists(path):
        lines = open(path).read().splitlines()
        os.remove(path)
        for line in lines:
            weechat.command(weechat.buffer_search("irc", "mesyx.#demo"), line)
    return weechat.WEECHAT_RC_OK
weechat.hook_timer(100, 0, 0, "look", "")
"#;

    fn start(demo: &Demo, login: &str, password: &str, nick: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let autoload = home.path().join("python/autoload");
        std::fs::create_dir_all(&autoload).unwrap();
        std::fs::write(autoload.join("say.py"), Self::SCRIPT).unwrap();
        let at = demo.address("irc");
        let mut command = Command::new("weechat-headless");
        command.arg("-d").arg(home.path());
        for run in [
            "/set logger.file.flush_delay 0".to_owned(),
            format!("/server add mesyx {}/{}", at.ip(), at.port()),
            format!("/set irc.server.mesyx.nicks {nick}"),
            "/set irc.server.mesyx.sasl_mechanism plain".to_owned(),
            format!("/set irc.server.mesyx.sasl_username {login}"),
            format!("/set irc.server.mesyx.sasl_password {password}"),
            "/connect mesyx".to_owned(),
        ] {
            command.args(["-r", &run]);
        }
        let quiet = std::process::Stdio::null;
        let child = command.stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn().expect("weechat-headless runs");
        Self { home, child }
    }

    fn log(&self, buffer: &str) -> String {
        let path = self.home.path().join(format!("logs/irc.{buffer}.weechatlog"));
        std::fs::read_to_string(path).unwrap_or_default()
    }

    fn see(&self, buffer: &str, text: &str) {
        until(&format!("weechat shows '{text}' in {buffer}"), || self.log(buffer).contains(text));
    }

    fn type_line(&self, line: &str) {
        let (written, path) = (self.home.path().join("say.new"), self.home.path().join("say"));
        std::fs::write(&written, format!("{line}\n")).unwrap();
        std::fs::rename(written, path).unwrap();
    }
}

impl Drop for Weechat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// weechat logs in by SASL under a nick of its own, is in the group at once, sees what it missed, speaks and hears.
#[test]
fn weechat_logs_in_says_and_hears() {
    let demo = Demo::start();
    let mut bob = Client::user(&demo, "bob", "draft/chathistory account-tag");
    bob.send("PRIVMSG #demo :said before");
    bob.send("PING :stored");
    bob.until("stored");
    let password = demo.user("alice").password;
    let weechat = Weechat::start(&demo, "alice@weechat", &password, "wee");
    weechat.see("server.mesyx", "logged in as alice (wee!alice@example.org)");
    weechat.see("mesyx.#demo", "bob\tsaid before");
    bob.until(":alice!alice@example.org NICK wee");
    weechat.type_line("hello from weechat");
    let heard = bob.until("hello from weechat").pop().unwrap();
    assert!(heard.contains("account=alice") && heard.contains(":wee!alice@example.org PRIVMSG #demo"), "{heard}");
    bob.send("PRIVMSG #demo :hello weechat");
    weechat.see("mesyx.#demo", "bob\thello weechat");
    // By nick or by login name, it is her.
    for name in ["wee", "alice"] {
        bob.send(&format!("PRIVMSG {name} :to {name}"));
        weechat.see("mesyx.bob", &format!("bob\tto {name}"));
    }
    weechat.type_line("/topic set by weechat");
    bob.until("TOPIC #demo :set by weechat");
    weechat.type_line("/nick jdoe");
    bob.until(":wee!alice@example.org NICK jdoe");
    weechat.type_line("/quit");
    bob.until(":jdoe!alice@example.org NICK alice");
}

/// People without an account make channels and lead them, without anything being stored.
#[test]
fn guests_lead_the_channels_that_they_make() {
    let demo = Demo::start_with(&["--guests"]);
    let mut guests = ["ann", "cy"].map(|nick| {
        let mut client = Client::connect(&demo);
        for line in ["CAP REQ :multi-prefix", &format!("NICK {nick}"), &format!("USER {nick} 0 * :x"), "CAP END"] {
            client.send(line);
        }
        client.until(" 376 ");
        client.send("JOIN #made");
        client.until(" 366 ");
        client
    });
    let [ann, cy] = &mut guests;
    for (line, expected) in [
        ("MODE #made +v cy", "MODE #made +v cy"),
        ("TOPIC #made :ours", "TOPIC #made :ours"),
        ("MODE #made +k sesame", "MODE #made +k sesame"),
        ("NICK anna", "NICK anna"),
        ("PRIVMSG #made :hello", "PRIVMSG #made :hello"),
        ("KICK #made cy :enough", "KICK #made cy enough"),
    ] {
        ann.send(line);
        cy.until(expected);
    }
    cy.send("JOIN #made");
    cy.until(" 475 ");
    let groups = json(&["--config", &demo.config(), "group", "list", "--json"], "");
    let names: Vec<&str> = groups.as_array().unwrap().iter().map(|group| group["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["#demo"], "what guests made is no group: {groups}");
}
