//! What must not be in the server's memory is looked for in all of it: every readable page of the process.
//!
//! The server is not dumpable, so only root may look. Under another user these tests fail, and say so.

use crate::instance::Instance;
use crate::support;
use crate::support::ways::Way;
use crate::tools::{python, succeed};
use mesyx_core::instance::InstanceKey;
use mesyx_core::keys::Slot;
use mesyx_core::store::{Options, SqliteStore, Store};
use mesyx_sdk::Secret;
use sequoia_openpgp::crypto::mpi::SecretKeyMaterial as Mpis;
use sequoia_openpgp::packet::key::SecretKeyMaterial;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;

/// What is looked for: a name for it, and its bytes.
pub type Needle = (&'static str, Vec<u8>);

/// The needles that stand in the process' memory, each with the kind of memory that it was found in.
pub fn found(pid: u32, needles: &[Needle]) -> Vec<String> {
    let script = "
import os, sys
pid, needles = sys.argv[1], [bytes.fromhex(line) for line in sys.stdin.read().split()]
if os.geteuid() != 0:
    sys.exit('only root may look into the memory of the server: run this test as root')
seen = 0
for line in open(f'/proc/{pid}/maps'):
    fields = line.split(None, 5)
    start, end = (int(part, 16) for part in fields[0].split('-'))
    name = fields[5].strip() if len(fields) > 5 else 'anonymous'
    if fields[1][0] != 'r' or name in ('[vvar]', '[vvar_vclock]', '[vsyscall]'):
        continue
    with open(f'/proc/{pid}/mem', 'rb') as mem:
        mem.seek(start)
        data = mem.read(end - start)
    seen += len(data)
    for index, needle in enumerate(needles):
        at = data.find(needle)
        while at >= 0:
            print(index, name, hex(start + at))
            at = data.find(needle, at + 1)
assert seen > 8 << 20, f'only {seen} bytes were looked at'
";
    search(script, &pid.to_string(), needles)
}

/// The same in the server and, where they are processes of their own, in its bridges.
fn found_anywhere(instance: &Instance, needles: &[Needle]) -> Vec<String> {
    instance.processes().into_iter().flat_map(|pid| found(pid, needles)).collect()
}

/// What passed last between the server and a bridge that is not linked in stays in the buffers of their connection until something else
/// takes its place there. Here something does: mail of somebody who has nothing to do with it comes in, is sent, stored and read.
fn others_mail(instance: &Instance, user: &str, password: &str, submission: Option<u16>) {
    if Way::wanted() == Way::Builtin {
        return;
    }
    let script = "
import imaplib, smtplib, sys
smtp_port, imap_port, submission_port, user, password = sys.argv[1:]
line = 'nothing of importance stands here, over and over again\\r\\n'
for lines in [1, 2, 3, 10, 100, 2000, 20000] + 40 * [4] + [20000]:
    mail = f'From: {user}@example.org\\r\\nTo: {user}@example.org\\r\\nSubject: {line}\\r\\n{line * lines}'
    smtplib.SMTP('127.0.0.1', int(smtp_port)).sendmail('joe@example.net', [f'{user}@example.org'], mail)
    if submission_port != '0':
        smtp = smtplib.SMTP('127.0.0.1', int(submission_port))
        smtp.login(user, password)
        smtp.sendmail(f'{user}@example.org', [f'{user}@example.org'], mail)
    imap = imaplib.IMAP4('127.0.0.1', int(imap_port))
    imap.login(user, password)
    imap.append('Drafts', None, None, mail.encode())
    imap.select('INBOX')
    imap.search(None, 'TEXT', 'importance')
    imap.fetch('1:*', '(ENVELOPE BODYSTRUCTURE BODY.PEEK[])')
    imap.logout()
";
    let port = |port: u16| port.to_string();
    let arguments = [&port(instance.smtp), &port(instance.imap), &port(submission.unwrap_or(0)), user, password];
    python(script, &arguments);
}

/// Runs a script that prints the numbers of needles with where they are.
fn search(script: &str, place: &str, needles: &[Needle]) -> Vec<String> {
    let hex: Vec<String> =
        needles.iter().map(|(_, bytes)| bytes.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    let mut command = Command::new("python3");
    let output = succeed(command.arg("-c").arg(script).arg(place), hex.join("\n").as_bytes());
    let lines = String::from_utf8(output).unwrap();
    let name = |line: &str| {
        let (index, place) = line.split_once(' ').unwrap();
        format!("{} in {place}", needles[index.parse::<usize>().unwrap()].0)
    };
    lines.lines().map(name).collect()
}

/// The secret scalars of all of a user's keys, in both orders of bytes; and pieces of the keysets' keys as they stand wrapped
/// in the store. No server may run.
fn scalars(instance: &Instance, user: &str, password: &str) -> (Vec<Needle>, Vec<Needle>) {
    let key = Arc::new(InstanceKey::load(&instance.home().join("instance.key")).unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let secrets = runtime.block_on(async {
        let store = SqliteStore::open(&instance.data().join("store"), Options::default(), key).unwrap();
        let users = store.users().await.unwrap();
        let user = users.iter().find(|known| known.record.name == user).unwrap().user;
        let secrets = store.secrets(user).await.unwrap();
        let slots = secrets.slots.iter().map(|slot| Slot::decode(&slot.record, user).unwrap());
        let master = slots.filter_map(|slot| slot.open(&Secret::from(password.to_owned())).ok()).next().unwrap();
        let open = |stored| (master.unwrap(user, stored).unwrap(), stored.keyset.is_some(), stored.wrapped.clone());
        secrets.secret_keys.iter().map(open).collect::<Vec<_>>()
    });
    let (mut needles, mut wrapped) = (Vec::new(), Vec::new());
    for (certificates, of_keyset, bytes) in &secrets {
        if *of_keyset {
            wrapped.extend(bytes.chunks_exact(32).map(|piece| ("a wrapped key", piece.to_vec())));
        }
        for key in certificates.iter().flat_map(|certificate| certificate.keys().secret()) {
            let SecretKeyMaterial::Unencrypted(clear) = key.key().secret() else { panic!("it is locked") };
            let (kind, bytes) = clear.map(|mpis| match mpis {
                Mpis::ECDH { scalar } => ("an encryption key", scalar.value().to_vec()),
                Mpis::EdDSA { scalar } => ("a signing key", scalar.value().to_vec()),
                other => panic!("{other:?}"),
            });
            needles.push((kind, bytes.iter().rev().copied().collect()));
            needles.push((kind, bytes));
        }
    }
    assert!(needles.len() >= 8, "two certificates with two keys and more");
    assert!(needles.iter().all(|(_, bytes)| bytes.len() >= 30));
    (needles, wrapped)
}

/// Eight random bytes in hexadecimal: a word that stands nowhere by chance.
fn word() -> String {
    fs::read("/proc/sys/kernel/random/uuid").map(|uuid| String::from_utf8_lossy(&uuid[..8]).into_owned()).unwrap()
}

fn base64(text: &str) -> Vec<u8> {
    let output = succeed(Command::new("base64").arg("-w0"), text.as_bytes());
    // Without what depends on bytes that may come before or after.
    output[..output.len() / 4 * 4 - 4].to_vec()
}

fn port(instance: &Instance, listener: &str) -> u16 {
    let status: serde_json::Value = serde_json::from_slice(&instance.mesyx(&["status", "--json"])).unwrap();
    let bridges = status["bridges"].as_array().unwrap();
    let listening = bridges.iter().flat_map(|bridge| bridge["listening"].as_array().unwrap());
    let found = listening.filter(|pair| pair[0] == listener).map(|pair| pair[1].as_str().unwrap()).next().unwrap();
    found.rsplit(':').next().unwrap().parse().unwrap()
}

fn unlocked(instance: &Instance) -> usize {
    let status: serde_json::Value = serde_json::from_slice(&instance.mesyx(&["status", "--json"])).unwrap();
    status["core"]["unlocked"].as_array().unwrap().len()
}

#[test]
fn after_logout_no_key_no_password_and_no_clear_message_is_in_memory() {
    let mut instance = Instance::new();
    let config = instance.home().join("mesyx.toml");
    let more = "\n[login]\ngrace = 1\n[bridge.submission]\nlisteners = [{ name = \"submission\", address = \"127.0.0.1:0\", \
                tls = \"starttls\", plain_auth_without_tls = true }]\n";
    fs::OpenOptions::new().append(true).open(&config).unwrap().write_all(more.as_bytes()).unwrap();
    let (old, password) = (format!("old Canary {}", word()), format!("Canary Grüße {}", word()));
    let files = instance.home();
    fs::write(files.join("old"), &old).unwrap();
    fs::write(files.join("new"), &password).unwrap();
    let path = |name: &str| files.join(name).to_str().unwrap().to_owned();
    instance.mesyx(&["user", "add", "carol", "--password-file", &path("old"), "--json"]);
    let (mut needles, _) = scalars(&instance, "carol", &old);
    instance.start();

    // The password is changed and another made by commands that go through the server.
    instance.mesyx(&[
        "user",
        "password",
        "carol",
        "--old-password-file",
        &path("old"),
        "--password-file",
        &path("new"),
    ]);
    let made =
        instance.mesyx(&["user", "app-password", "add", "carol", "x", "--old-password-file", &path("new"), "--json"]);
    let made: serde_json::Value = serde_json::from_slice(&made).unwrap();
    let app = made["password"].as_str().unwrap().to_owned();
    let passwords: Vec<Needle> = vec![
        ("the old password", old.clone().into_bytes()),
        ("the password", password.clone().into_bytes()),
        ("the password in base64", base64(&format!("\0carol\0{password}"))),
        ("the app password", app.clone().into_bytes()),
        ("the app password in base64", base64(&format!("\0carol\0{app}"))),
    ];

    let (subject, body, outgoing) =
        (format!("subject-{}", word()), format!("body-{}", word()), format!("sent-{}", word()));
    let message = format!(
        "From: <joe@example.net>\r\nTo: carol@example.org\r\nSubject: {subject}\r\n\r\n{}\r\n",
        format!("{body} and more of it\r\n").repeat(5000)
    );
    support::deliver(([127, 0, 0, 1], instance.smtp).into(), "carol@example.org", &message);

    let submission = port(&instance, "submission");
    let script = "
import imaplib, smtplib, ssl, sys
imap_port, submission_port, password, app, sent = sys.argv[1:]
unverified = ssl._create_unverified_context()
for name in (password, app):
    smtp = smtplib.SMTP('127.0.0.1', int(submission_port))
    smtp.ehlo()
    if name == app:
        smtp.starttls(context=unverified)
        smtp.ehlo()
    smtp.user, smtp.password = 'carol', name
    code, text = smtp.docmd('AUTH PLAIN ' + __import__('base64').b64encode(b'\\0carol\\0' + name.encode()).decode())
    assert code == 235, text
    mail = f'From: carol@example.org\\r\\nTo: carol@example.org\\r\\nSubject: {sent}\\r\\n\\r\\n{sent}\\r\\n'
    smtp.sendmail('carol@example.org', ['carol@example.org'], mail)
    imap = imaplib.IMAP4('127.0.0.1', int(imap_port))
    if name == app:
        imap.starttls(ssl_context=unverified)
    imap._encoding = 'utf-8'
    imap.login('carol', name)
    imap.select('INBOX')
    assert len(imap.search(None, 'TEXT', '\"and more of it\"')[1][0].split()) == 1
    imap.fetch('1:*', '(ENVELOPE BODYSTRUCTURE)')
    imap.fetch('1:*', '(BODY.PEEK[])')
    imap.fetch('1:*', '(BODY.PEEK[]<0.1000>)')
    imap.append('Drafts', None, None, f'Subject: {sent}\\r\\n\\r\\n{sent}\\r\\n'.encode())
    if name == app:
        print('ready', flush=True)
        sys.stdin.read()
    imap.logout()
";
    let mut client = Command::new("python3")
        .args(["-c", script, &instance.imap.to_string(), &submission.to_string(), &password, &app, &outgoing])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(client.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let clear: Vec<Needle> = vec![
        ("a subject", subject.into_bytes()),
        ("a body", body.into_bytes()),
        ("a sent message", outgoing.into_bytes()),
    ];
    // Bytes of the same form as a key, which are really there: what a connection has sent so far.
    let planted: Vec<u8> = (0..32).map(|at: u8| at.wrapping_mul(37) | 0x81).collect();
    let mut held: TcpStream = TcpStream::connect(("127.0.0.1", instance.smtp)).unwrap();
    held.write_all(&[b"EHLO x\r\n", &planted[..]].concat()).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));

    // While the session lives: what it shows is there, what it logged in with is not.
    assert_eq!(unlocked(&instance), 1);
    let now = found_anywhere(&instance, &[clear.clone(), vec![("planted bytes", planted)]].concat());
    for name in ["a subject", "planted bytes"] {
        assert!(now.iter().any(|line| line.starts_with(name)), "what is in memory is found: {name} in {now:?}");
    }
    if Way::wanted() == Way::Builtin {
        assert_eq!(found_anywhere(&instance, &passwords), [""; 0], "while the user is logged in");
    }
    assert_eq!(
        found_anywhere(&instance, &needles),
        [""; 0],
        "secret keys are kept encrypted in memory but for the moment of their use"
    );

    drop(client.stdin.take());
    assert!(client.wait().unwrap().success());
    support::until("the user is locked", || unlocked(&instance) == 0);
    needles.extend(passwords);
    needles.extend(clear);
    drop(held);
    others_mail(&instance, "alice", &instance.password, Some(submission));
    assert_eq!(found_anywhere(&instance, &needles), [""; 0], "after logout");
}

/// The needles that stand in a file of the instance's data.
fn on_disk(instance: &Instance, needles: &[Needle]) -> Vec<String> {
    let script = "
import os, sys
needles = [bytes.fromhex(line) for line in sys.stdin.read().split()]
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        data = open(os.path.join(folder, name), 'rb').read()
        for index, needle in enumerate(needles):
            if needle in data:
                print(index, name)
";
    search(script, instance.data().to_str().unwrap(), needles)
}

#[test]
fn an_offline_key_is_neither_in_memory_nor_on_disk() {
    let mut instance = Instance::new();
    let config = instance.home().join("mesyx.toml");
    fs::OpenOptions::new().append(true).open(&config).unwrap().write_all(b"\n[login]\ngrace = 1\n").unwrap();
    let (password, phrase, body) =
        (format!("Canary {}", word()), format!("phrase {}", word()), format!("body-{}", word()));
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("password"), &password).unwrap();
    fs::write(path("phrase"), &phrase).unwrap();
    instance.mesyx(&["user", "add", "carol", "--password-file", &path("password"), "--json"]);
    let (mut needles, wrapped) = scalars(&instance, "carol", &password);
    assert_ne!(on_disk(&instance, &wrapped), [""; 0], "before, it is there");
    instance.start();
    let mail = format!("Subject: x\r\n\r\n{body}\r\n");
    support::deliver(([127, 0, 0, 1], instance.smtp).into(), "carol@example.org", &mail);
    let script = "
import imaplib, sys
port, password, mailbox = sys.argv[1:]
imap = imaplib.IMAP4('127.0.0.1', int(port))
imap.login('carol', password)
assert imap.select(mailbox)[0] == 'OK'
print(imap.fetch('1', '(BODY[])')[1][0][1].decode(), flush=True)
print('the end', flush=True)
sys.stdin.read()
imap.logout()
";
    let port = instance.imap.to_string();
    let read = |mailbox: &str| python(script, &[&port, &password, mailbox]);
    assert!(read("INBOX").contains(&body));
    let ask = |command: &str, more: &[&str]| {
        instance.mesyx(&[&["keyset", command, "carol", "default"], more].concat());
    };
    let (key, phrase_file, password_file) = (path("key"), path("phrase"), path("password"));
    let with_phrase = ["--passphrase-file", &phrase_file];
    ask("offline", &[&["--to", &key, "--old-password-file", &password_file], &with_phrase[..]].concat());
    let sealed = read("INBOX");
    assert!(sealed.contains("multipart/encrypted") && !sealed.contains(&body));
    support::until("the user is locked", || unlocked(&instance) == 0);
    needles.push(("the passphrase", phrase.into_bytes()));
    needles.push(("a body", body.clone().into_bytes()));
    let others = || others_mail(&instance, "alice", &instance.password, None);
    others();
    assert_eq!(found_anywhere(&instance, &needles), [""; 0], "offline");
    assert_eq!(on_disk(&instance, &wrapped), [""; 0], "offline");

    ask("unlock", &[&["--for", "10m", "--from", &key], &with_phrase[..]].concat());
    let mut client = Command::new("python3")
        .args(["-c", script, &port, &password, "Unlocked/default"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut shown = String::new();
    let mut output = BufReader::new(client.stdout.take().unwrap());
    while !shown.ends_with("the end\n") {
        assert!(output.read_line(&mut shown).unwrap() > 0, "{shown}");
    }
    assert!(shown.contains(&body), "{shown}");
    let keys = &needles[..needles.len() - 1];
    assert_eq!(found_anywhere(&instance, keys), [""; 0], "unlocked, but kept encrypted in memory");
    ask("lock", &[]);
    drop(client.stdin.take());
    client.wait().unwrap();
    support::until("the user is locked", || unlocked(&instance) == 0);
    others();
    assert_eq!(found_anywhere(&instance, &needles), [""; 0], "locked again");
    assert_eq!(on_disk(&instance, &wrapped), [""; 0], "locked again");
    instance.kill();
    assert_eq!(on_disk(&instance, &wrapped), [""; 0], "after SIGKILL");
}

#[test]
fn memory_is_locked_and_nobody_but_root_looks_into_it() {
    let mut instance = Instance::new();
    instance.start();
    let status: serde_json::Value = serde_json::from_slice(&instance.mesyx(&["status", "--json"])).unwrap();
    let process = fs::read_to_string(format!("/proc/{}/status", instance.pid())).unwrap();
    let kib = |key: &str| -> u64 {
        let line = process.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    // In a container that may not lock memory there is nothing to see but that it is said.
    let may = "
import resource
unlimited = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY
status = dict(line.split(':', 1) for line in open('/proc/self/status'))
print(unlimited or bool(int(status['CapEff'], 16) & 1 << 14))
";
    let may = python(may, &[]).trim() == "True";
    assert_eq!(status["memory"]["locked"], may, "{}", status["memory"]);
    assert_eq!(kib("VmLck:") > 4096, may, "{process}");
    assert_eq!(kib("VmSwap:"), 0);
    let limits = fs::read_to_string(format!("/proc/{}/limits", instance.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
    let script = "
import os, sys
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
try:
    open(f'/proc/{sys.argv[1]}/mem', 'rb')
    print('opened')
except PermissionError:
    print('refused')
";
    assert_eq!(python(script, &[&instance.pid().to_string()]).trim(), "refused");
    // As the very user of the server: that is what not being dumpable is for.
    instance.kill();
    let limited = |wanted: &str| {
        let config = instance.home().join("mesyx.toml");
        let text = fs::read_to_string(&config).unwrap();
        let text = text.split("\n[memory]").next().unwrap().to_owned();
        fs::write(&config, format!("{text}\n[memory]\nlock = \"{wanted}\"\n")).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-ipc_lock,-sys_resource", "--inh-caps=-all", "prlimit", "--memlock=65536:65536"]);
        command.arg(env!("CARGO_BIN_EXE_mesyx")).arg("--config").arg(&config).arg("run");
        command
    };
    let refused = limited("require").output().unwrap();
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("LimitMEMLOCK=infinity"), "{text}");
    let server = support::Server::start_command(limited("try"), &instance.home().join("mesyx.toml"));
    let status = server.status();
    assert_eq!(status["memory"]["locked"], false);
    assert!(status["memory"]["why"].as_str().unwrap().contains("64 KiB"), "{}", status["memory"]);
    assert!(server.stop());
}
