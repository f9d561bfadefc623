//! Each bridge in each way: linked in, library, process, remote.
//!
//! These run always. `MESYX_TEST_WAY=process tests/run` (or `library`, `remote`) runs all other whole-program tests in that way.

use crate::imap::count;
use crate::support::ways::{Elsewhere, Way, children};
use crate::support::{Demo, LOG, Lines, json, mesyx, until, ways};
use crate::tools::python;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// A demo whose bridges run in a way.
fn demo(way: Way) -> Demo {
    let mut command = mesyx(&["demo", "--json"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let demo = Demo::spawn(&mut command);
    if way == Way::Builtin { demo } else { demo.elsewhere(way, &command) }
}

/// Mail comes in by SMTP, is read by IMAP, is sent by submission to another user, is appended, moved, flagged, searched; TLS is spoken.
fn mail_goes_round(way: Way) {
    let demo = demo(way);
    let list = json(&["--config", &demo.config(), "bridge", "list", "--json"], "");
    for bridge in list.as_array().unwrap().iter().filter(|bridge| bridge["status"].is_object()) {
        assert_eq!(bridge["run"], format!("{way:?}").to_lowercase(), "{bridge}");
        assert_eq!(bridge["status"]["state"]["is"], "ready", "{bridge}");
    }
    let (alice, bob) = (demo.user("alice"), demo.user("bob"));
    let large = "0123456789abcdef".repeat(64).repeat(1024) + "\r\n";
    let large = large.as_bytes().chunks(76).map(|line| String::from_utf8_lossy(line) + "\r\n").collect::<String>();
    crate::support::deliver(demo.address("smtp"), &alice.address, &format!("Subject: one MiB\r\n\r\n{large}"));
    crate::support::deliver(demo.address("smtp"), &alice.address, "Subject: small\r\n\r\nhello\r\n");
    let script = "
import imaplib, smtplib, ssl, sys, time
imap, imaps, submission, ca, alice, bob, pa, pb, domain = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
box = imaplib.IMAP4_SSL('localhost', int(imaps), ssl_context=context)
box.login(alice, pa)
assert box.select('INBOX')[1] == [b'2'], box.select('INBOX')
kind, data = box.fetch('1', '(BODY.PEEK[])')
assert len(data[0][1]) > 1 << 20, len(data[0][1])
kind, data = box.search(None, 'SUBJECT', 'small')
assert data == [b'2'], data
assert box.store('2', '+FLAGS', '\\\\Flagged')[0] == 'OK'
assert box.create('Kept')[0] == 'OK'
assert box.copy('2', 'Kept')[0] == 'OK'
assert box.append('Kept', None, None, b'Subject: appended\\r\\n\\r\\nx\\r\\n')[0] == 'OK'
assert box.select('Kept')[1] == [b'2']
kind, data = box.search(None, 'FLAGGED')
assert data == [b'1'], data
smtp = smtplib.SMTP('localhost', int(submission))
smtp.starttls(context=context)
smtp.login(bob, pb)
smtp.sendmail(bob + '@' + domain, [alice + '@' + domain], 'From: ' + bob + '@' + domain + '\\r\\nSubject: from bob\\r\\n\\r\\nhi\\r\\n')
smtp.quit()
try:
    imaplib.IMAP4_SSL('localhost', int(imaps), ssl_context=context).login(alice, 'wrong')
    raise SystemExit('a wrong password was taken')
except imaplib.IMAP4.error:
    pass
box.select('INBOX')
for _ in range(600):
    box.noop()
    if box.search(None, 'SUBJECT', '\"from bob\"')[1] != [b'']:
        break
    time.sleep(0.1)
else:
    raise SystemExit('it never came')
box.logout()
print('all done')
";
    let port = |name: &str| demo.port(name).to_string();
    let said = python(
        script,
        &[
            &port("imap"),
            &port("imaps"),
            &port("submission"),
            demo.tls_ca().to_str().unwrap(),
            &alice.name,
            &bob.name,
            &alice.password,
            &bob.password,
            demo.text("domain"),
        ],
    );
    assert!(said.contains("all done"), "{said}");
    assert!(demo.close(), "it stops in order");
}

#[test]
fn mail_goes_round_linked_in() {
    mail_goes_round(Way::Builtin);
}

#[test]
fn mail_goes_round_through_libraries() {
    mail_goes_round(Way::Library);
}

#[test]
fn mail_goes_round_through_processes() {
    mail_goes_round(Way::Process);
}

#[test]
fn mail_goes_round_through_remote_bridges() {
    mail_goes_round(Way::Remote);
}

/// Without `accept` no message comes in, whoever asks; without `access` nobody logs in; without `listen` no port is opened.
fn what_was_not_granted_is_refused(way: Way) {
    let demo = demo(Way::Builtin);
    let dir = demo.kill();
    let config = dir.join("mesyx.toml");
    let text = fs::read_to_string(&config).unwrap();
    // The demo lists what `smtp` is granted.
    let line = text.lines().find(|line| line.starts_with("grants = ")).unwrap().to_owned();
    let text = text
        .replacen(&line, "grants = [\"directory\", \"certificates\", \"listen:0\"]", 1)
        .replacen("[bridge.imap]\n", "[bridge.imap]\ngrants = [\"certificates\", \"listen:0\"]\n", 1)
        .replacen(
            "[bridge.submission]\n",
            "[bridge.submission]\ngrants = [\"access\", \"certificates\", \"listen:0\"]\n",
            1,
        );
    assert_eq!(text.matches("\ngrants = [").count(), 3, "{text}");
    fs::write(&config, text).unwrap();
    let elsewhere = Elsewhere::apply(way, &config);
    let server = crate::support::Server::start(&config);
    let status = ways::ready(|| server.status());
    let smtp = status["bridges"].as_array().unwrap().iter().find(|bridge| bridge["name"] == "smtp").unwrap();
    assert!(smtp["ungranted"].as_array().unwrap().contains(&"accept".into()), "{smtp}");
    let mut peer = Lines::connect(server.address("smtp", "smtp"));
    peer.smtp_reply();
    peer.smtp("EHLO peer.example.net");
    peer.smtp("MAIL FROM:<joe@example.net>");
    assert!(peer.smtp("RCPT TO:<alice@example.org>").starts_with("250"), "directory is granted");
    assert!(peer.smtp("DATA").starts_with("354"));
    let reply = peer.smtp("Subject: x\r\n\r\nx\r\n.");
    assert!(reply.starts_with('4') || reply.starts_with('5'), "taken without the grant: {reply}");
    let mut client = Lines::connect(server.address("imap", "imap"));
    client.line();
    let said = client.imap("a", "LOGIN alice whatever").pop().unwrap();
    assert!(said.starts_with("a NO"), "{said}");
    assert!(said.contains("UNAVAILABLE") || !said.contains("AUTHENTICATIONFAILED"), "{said}");
    assert!(server.stop());
    drop(elsewhere);
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn what_was_not_granted_is_refused_linked_in() {
    what_was_not_granted_is_refused(Way::Builtin);
}

#[test]
fn what_was_not_granted_is_refused_to_libraries() {
    what_was_not_granted_is_refused(Way::Library);
}

#[test]
fn what_was_not_granted_is_refused_to_processes() {
    what_was_not_granted_is_refused(Way::Process);
}

#[test]
fn what_was_not_granted_is_refused_to_remote_bridges() {
    what_was_not_granted_is_refused(Way::Remote);
}

/// A library has a log of its own, which nobody reads: its lines come to the server's, as far as that takes them.
#[test]
fn what_a_library_logs_is_in_the_servers_log() {
    let place = tempfile::tempdir().unwrap();
    for (level, wanted) in [("debug", true), ("info", false)] {
        let log = place.path().join(level);
        let mut command = mesyx(&["demo", "--json", "--log", level]);
        command.env(LOG, &log).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(fs::File::create(&log).unwrap());
        let demo = Demo::spawn(&mut command).elsewhere(Way::Library, &command);
        assert_eq!(count(&demo, &demo.user("alice"), "INBOX"), 0);
        let lines = || fs::read_to_string(&log).unwrap();
        let logged = |line: &str| line.contains("mesyx_bridge_imap") && line.contains("logged in by IMAP");
        if wanted {
            until("it is in the log", || lines().lines().any(logged));
            let lines = lines();
            let line = lines.lines().find(|line| logged(line)).unwrap();
            assert!(line.contains("DEBUG") && line.contains("bridge=\"imap\""), "{line}");
        }
        // What is under way when it ends arrives too.
        assert!(demo.close());
        assert_eq!(lines().lines().any(logged), wanted, "{level}");
    }
}

#[test]
fn a_process_has_no_secrets_of_the_server_and_is_started_again() {
    let demo = demo(Way::Process);
    let dir = demo.dir();
    let all = children(demo.pid());
    let (pid, _) = all.iter().find(|(_, line)| line.contains("serve imap")).unwrap_or_else(|| panic!("{all:?}"));
    let environ = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let mut keys: Vec<_> = environ
        .split(|byte| *byte == 0)
        .filter(|part| !part.is_empty())
        .map(|part| String::from_utf8_lossy(part).split('=').next().unwrap().to_owned())
        .collect();
    keys.sort();
    assert_eq!(keys, ["LANG", "MESYX_BRIDGE", "MESYX_BRIDGE_TOKEN", "PATH"]);
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        let known = ["socket:", "pipe:", "anon_inode:", "/dev/null", "/dev/urandom"];
        // The program itself, from which it was started.
        let own = target.ends_with("/mesyx");
        assert!(own || known.iter().any(|known| target.starts_with(known)), "it has {target} open");
        assert!(!Path::new(&target).starts_with(&dir), "it has {target} open");
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    assert!(status.contains("Seccomp:\t2"), "{status}");
    if nix::unistd::geteuid().is_root() {
        let user = ways::USER;
        assert!(status.contains(&format!("Uid:\t{user}\t{user}\t{user}\t{user}")), "{status}");
        assert!(status.contains("Groups:\t \n"), "{status}");
    }
    // The directory of its socket is gone: nobody else can connect.
    let environ = String::from_utf8_lossy(&environ).into_owned();
    let socket = environ.split('\0').find_map(|part| part.strip_prefix("MESYX_BRIDGE=unix:")).unwrap();
    assert!(!Path::new(socket).exists());

    assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
    let config = demo.config();
    let imap = || {
        let list = json(&["--config", &config, "bridge", "list", "--json"], "");
        list.as_array().unwrap().iter().find(|bridge| bridge["name"] == "imap").unwrap()["status"].clone()
    };
    until("it is back", || imap()["restarts"] == 1 && imap()["state"]["is"] == "ready");
    assert!(imap()["last_failure"].as_str().unwrap().contains("SIGKILL"), "{}", imap());
    // The listening socket was open all the time, at the same address.
    assert_eq!(count(&demo, &demo.user("alice"), "INBOX"), 0);
    let children: Vec<_> = children(demo.pid()).into_iter().map(|(pid, _)| pid).collect();
    assert_eq!(children.len(), 5);
    // However the server ends, its bridges end with it.
    let dir = demo.kill();
    until("they are gone", || children.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()));
    fs::remove_dir_all(dir).unwrap();
}

/// More of the tests of the whole program, with all bridges in one other way: whatever is named here is run again by this very test
/// program. `MESYX_TEST_WAY` runs any of them so.
fn more_tests_pass(way: &str, names: &[&str]) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let said = command.env("MESYX_TEST_WAY", way).args(["--exact", "--test-threads=1"]).args(names).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    let wanted = format!("test result: ok. {} passed", names.len());
    assert!(said.status.success() && text.contains(&wanted), "{text}\n{}", String::from_utf8_lossy(&said.stderr));
}

const SOME: [&str; 6] = [
    "delivery::what_swaks_submits_reaches_the_next_hop_whole",
    "irc::alice_and_bob_talk_and_imap_sees_it",
    "irc::guests_come_only_where_they_may",
    "relay::strangers_reach_nobody_else",
    "starttls::smtp_never_acts_on_what_came_before_the_handshake",
    "submission::senders_that_are_not_the_login_s_are_refused",
];

#[test]
fn mail_and_chat_pass_through_libraries() {
    more_tests_pass("library", &SOME);
}

#[test]
fn mail_and_chat_pass_through_processes() {
    more_tests_pass("process", &SOME);
}

#[test]
fn mail_and_chat_pass_through_remote_bridges() {
    more_tests_pass("remote", &SOME);
}
