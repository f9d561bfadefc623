//! The usual clients: swaks and msmtp send; imaplib, curl, mbsync and neomutt read.

use crate::imap;
use crate::support::{Demo, DemoUser as User};
use crate::tools::{python, succeed};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

fn swaks(demo: &Demo, listener: &str, to: &str, more: &[&str]) -> String {
    let mut command = Command::new("swaks");
    command.args(["--server", "127.0.0.1", "--port", &demo.port(listener).to_string(), "--to", to]);
    command.args(["--helo", "client.example.net"]).args(more);
    String::from_utf8_lossy(&succeed(&mut command, b"")).into_owned()
}

#[test]
fn swaks_to_the_mx_with_and_without_starttls() {
    let demo = Demo::start();
    let alice = demo.user("alice");
    swaks(&demo, "smtp", &alice.address, &["--from", "someone@example.net", "--header", "Subject: in plain"]);
    swaks(&demo, "smtp", &alice.address, &["--from", "someone@example.net", "--tls", "--header", "Subject: under tls"]);
    let plain = imap::message_with(&demo, &alice, "INBOX", "Subject: in plain");
    assert!(plain.starts_with(b"Return-Path: <someone@example.net>\r\n"));
    assert!(imap::contains(&plain, b" with ESMTP\r\n"), "{}", String::from_utf8_lossy(&plain));
    let tls = imap::message_with(&demo, &alice, "INBOX", "Subject: under tls");
    assert!(imap::contains(&tls, b" with ESMTPS"), "{}", String::from_utf8_lossy(&tls));
    assert!(imap::contains(&tls, b"TLSv1.3"));
    assert!(demo.close());
}

#[test]
fn swaks_submits_by_each_way_to_log_in() {
    let demo = Demo::start();
    let (alice, bob) = (demo.user("alice"), demo.user("bob"));
    for (number, (listener, tls, auth)) in [
        ("submission", "--tls", "PLAIN"),
        ("submission", "--tls", "LOGIN"),
        ("submissions", "--tls-on-connect", "PLAIN"),
        ("submissions", "--tls-on-connect", "LOGIN"),
    ]
    .into_iter()
    .enumerate()
    {
        let subject = format!("Subject: submitted {number}");
        let more = [
            "--from",
            &alice.address,
            tls,
            "--auth",
            auth,
            "--auth-user",
            &alice.name,
            "--auth-password",
            &alice.password,
        ];
        swaks(&demo, listener, &bob.address, &[&more[..], &["--header", &subject]].concat());
        let received = imap::message_with(&demo, &bob, "INBOX", &subject);
        assert!(imap::contains(&received, b" with ESMTPSA"), "{}", String::from_utf8_lossy(&received));
    }
}

#[test]
fn msmtp_submits_under_a_checked_certificate() {
    let demo = Demo::start();
    let (alice, bob) = (demo.user("alice"), demo.user("bob"));
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("msmtprc");
    let text = format!(
        "account default\nhost 127.0.0.1\nport {}\ntls on\ntls_trust_file {}\nauth plain\nuser {}\npassword {}\nfrom {}\n",
        demo.port("submission"),
        demo.text("tls_ca"),
        alice.name,
        alice.password,
        alice.address
    );
    fs::write(&config, text).unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
    let message = format!("From: {}\nTo: {}\nSubject: from msmtp\n\nGood day.\n", alice.address, bob.address);
    succeed(Command::new("msmtp").arg("-C").arg(&config).arg(&bob.address), message.as_bytes());
    let received = imap::message_with(&demo, &bob, "INBOX", "Subject: from msmtp");
    assert!(received.ends_with(b"\r\n\r\nGood day.\r\n"));
}

#[test]
fn curl_reads_and_appends_under_a_checked_certificate() {
    let demo = Demo::start();
    let alice = demo.user("alice");
    swaks(&demo, "smtp", &alice.address, &["--from", "someone@example.net", "--header", "Subject: for curl"]);
    let curl = |scheme: &str, listener: &str, path: &str, more: &[&str]| {
        let url = format!("{scheme}://localhost:{}/{path}", demo.port(listener));
        let login = format!("{}:{}", alice.name, alice.password);
        let mut command = Command::new("curl");
        command.args(["-sS", "--ssl-reqd", "--cacert", demo.text("tls_ca"), "-u", &login, &url]).args(more);
        succeed(&mut command, b"")
    };
    for (scheme, listener) in [("imaps", "imaps"), ("imap", "imap")] {
        let message = curl(scheme, listener, "INBOX;MAILINDEX=1", &[]);
        assert!(imap::contains(&message, b"Subject: for curl"), "{}", String::from_utf8_lossy(&message));
        let found = curl(scheme, listener, "INBOX?SUBJECT%20curl", &[]);
        assert!(String::from_utf8_lossy(&found).contains("* SEARCH 1"));
    }
    let draft = b"Subject: uploaded\r\n\r\nA draft.\r\n";
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), draft).unwrap();
    curl("imaps", "imaps", "Drafts", &["-T", file.path().to_str().unwrap()]);
    assert_eq!(imap::messages(&demo, &alice, "Drafts"), [draft.to_vec()]);
}

#[test]
fn imaplib_does_all_that_it_knows() {
    let demo = Demo::start();
    let alice = demo.user("alice");
    let port = demo.port("imap").to_string();
    let script = include_str!("imaplib_session.py");
    let output =
        python(script, &[&port, &demo.port("imaps").to_string(), demo.text("tls_ca"), &alice.name, &alice.password]);
    assert!(output.contains("all done"), "{output}");
}

fn mbsync_config(demo: &Demo, user: &User, home: &Path) -> String {
    format!(
        "IMAPAccount demo\nHost localhost\nPort {}\nUser {}\nPass {}\nSSLType IMAPS\nCertificateFile {}\n\n\
         IMAPStore far\nAccount demo\n\nMaildirStore near\nPath {home}/mail/\nInbox {home}/mail/INBOX\nSubFolders Verbatim\n\n\
         Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nSyncState *\n",
        demo.port("imaps"),
        user.name,
        user.password,
        demo.text("tls_ca"),
        home = home.display()
    )
}

#[test]
fn mbsync_carries_mail_both_ways() {
    let demo = Demo::start();
    let alice = demo.user("alice");
    for number in 0..20 {
        let subject = format!("Subject: letter {number}");
        swaks(&demo, "smtp", &alice.address, &["--from", "someone@example.net", "--header", &subject]);
    }
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("mbsyncrc");
    fs::write(&config, mbsync_config(&demo, &alice, home.path())).unwrap();
    fs::create_dir(home.path().join("mail")).unwrap();
    let sync = || succeed(Command::new("mbsync").arg("-c").arg(&config).arg("all"), b"");
    sync();
    let inbox = home.path().join("mail/INBOX");
    let files = |dir: &str| {
        let entries = fs::read_dir(inbox.join(dir)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    let fresh = files("new");
    assert_eq!(fresh.len() + files("cur").len(), 20);
    let mut stored = imap::messages(&demo, &alice, "INBOX");
    let mut near: Vec<Vec<u8>> =
        [files("new"), files("cur")].concat().iter().map(|path| fs::read(path).unwrap()).collect();
    for message in &mut near {
        *message = String::from_utf8(message.clone()).unwrap().replace("\r\n", "\n").replace('\n', "\r\n").into_bytes();
        // mbsync adds a header of its own to messages that it stores.
        *message = strip_header(message, "X-TUID:");
    }
    near.sort();
    stored.sort();
    assert_eq!(near, stored);

    // One read, one deleted, one written here: all three are seen by the server after the next run.
    let [read, deleted, ..] = fresh.as_slice() else { panic!("two fresh messages") };
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let bare = |path: &Path| name(path).split(":2,").next().unwrap().to_owned();
    fs::rename(read, inbox.join("cur").join(format!("{}:2,S", bare(read)))).unwrap();
    fs::rename(deleted, inbox.join("cur").join(format!("{}:2,T", bare(deleted)))).unwrap();
    fs::write(inbox.join("new/1700000000.1.here"), "Subject: written here\n\nNear text.\n").unwrap();
    sync();
    assert_eq!(imap::count(&demo, &alice, "INBOX"), 20);
    let near = imap::message_with(&demo, &alice, "INBOX", "Subject: written here");
    assert!(near.ends_with(b"Near text.\r\n"));
    sync();
    assert_eq!(files("new").len() + files("cur").len(), 20);
}

fn strip_header(message: &[u8], name: &str) -> Vec<u8> {
    let lines = message.split_inclusive(|&byte| byte == b'\n');
    lines.filter(|line| !line.starts_with(name.as_bytes())).flatten().copied().collect()
}

#[test]
fn neomutt_shows_and_answers() {
    let demo = Demo::start();
    let (alice, bob) = (demo.user("alice"), demo.user("bob"));
    swaks(
        &demo,
        "smtp",
        &alice.address,
        &["--from", &bob.address, "--header", "Subject: seen in mutt", "--body", "Body in mutt."],
    );
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("muttrc");
    let text = format!(
        "set folder=\"imaps://{name}@localhost:{imaps}/\"\nset spoolfile=+INBOX\nset imap_pass=\"{password}\"\n\
         set certificate_file={ca}\nset ssl_force_tls=yes\nset header_cache=\"{home}/cache\"\nset sort=date\n\
         set record=+Sent\nset from={address}\nset smtp_url=\"smtps://{name}@localhost:{submissions}/\"\nset smtp_pass=\"{password}\"\n\
         set editor=true\nset fast_reply=yes\nset include=yes\nset postponed=+Drafts\nset abort_unmodified=no\nset quit=yes\nset mail_check=1\n",
        name = alice.name,
        imaps = demo.port("imaps"),
        password = alice.password,
        ca = demo.text("tls_ca"),
        home = home.path().display(),
        address = alice.address,
        submissions = demo.port("submissions"),
    );
    fs::write(&config, text).unwrap();
    let socket = home.path().join("tmux");
    let tmux = |arguments: &[&str]| {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&socket).arg("-f").arg("/dev/null").args(arguments);
        String::from_utf8_lossy(&succeed(&mut command, b"")).into_owned()
    };
    let mutt = format!("env HOME={} TERM=screen neomutt -n -F {}", home.path().display(), config.display());
    tmux(&["new-session", "-d", "-s", "mutt", "-x", "120", "-y", "40", &mutt]);
    let screen_with = |text: &str| {
        for _ in 0..100 {
            let screen = tmux(&["capture-pane", "-p", "-t", "mutt"]);
            if screen.contains(text) {
                return screen;
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        panic!("neomutt never showed {text:?}:\n{}", tmux(&["capture-pane", "-p", "-t", "mutt"]));
    };
    screen_with("seen in mutt");
    tmux(&["send-keys", "-t", "mutt", "Enter"]);
    screen_with("Body in mutt.");
    tmux(&["send-keys", "-t", "mutt", "r"]);
    screen_with("Re: seen in mutt");
    tmux(&["send-keys", "-t", "mutt", "y"]);
    let mut answered = 0;
    for _ in 0..100 {
        answered = imap::count(&demo, &bob, "INBOX");
        if answered == 1 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert_eq!(answered, 1, "{}", tmux(&["capture-pane", "-p", "-t", "mutt"]));
    imap::message_with(&demo, &bob, "INBOX", "Subject: Re: seen in mutt");
    let _ = Command::new("tmux").arg("-S").arg(&socket).arg("kill-server").status();
}
