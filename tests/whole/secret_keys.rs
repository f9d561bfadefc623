//! Secret keys that leave and come back, as people's own programs see it, and with the program killed in the middle.

use crate::instance::Instance;
use crate::secrets::{Needle, found};
use crate::smtp::Smtp;
use crate::tools::{python, run, succeed};
use mesyx_core::Core;
use mesyx_core::instance::InstanceKey;
use mesyx_core::settings::Settings;
use mesyx_core::store::{Options, Shown, SqliteStore, Store, StoreError};
use mesyx_sdk::{
    Address, ClientInfo, Content, Credentials, Dsn, Envelope, Importance, Kind, MessageId, Origin, Recipient, Role,
    Secret, Session, Style, Timestamp, Uid,
};
use sequoia_openpgp::Cert;
use sequoia_openpgp::crypto::mpi::SecretKeyMaterial as Mpis;
use sequoia_openpgp::packet::key::SecretKeyMaterial;
use sequoia_openpgp::parse::Parse;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

impl Instance {
    /// A path beside the instance, not in it.
    fn beside(&self, name: &str) -> PathBuf {
        self.home().parent().unwrap().join(name)
    }

    /// Runs a command with the recovery key as proof.
    fn proven(&self, arguments: &[&str]) -> String {
        let key = self.recovery_key.to_str().unwrap();
        String::from_utf8(self.mesyx(&[arguments, &["--recovery-key-file", key]].concat())).unwrap()
    }

    /// The same, not waited for.
    fn begun(&self, arguments: &[&str]) -> std::process::Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesyx"));
        command.arg("--config").arg(self.home().join("mesyx.toml")).args(arguments);
        command.arg("--recovery-key-file").arg(&self.recovery_key);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Runs a Python script with `imap` logged in as alice; more arguments are in `more`.
    fn imap_script(&self, script: &str, more: &[&str]) -> String {
        let head = "
import imaplib, sys, re
imap = imaplib.IMAP4('127.0.0.1', int(sys.argv[1]))
imap.login('alice', sys.argv[2])
more = sys.argv[3:]
def opened(box='INBOX'):
    imap.select(box)
    kind, data = imap.uid('fetch', '1:*', '(EMAILID FLAGS BODY.PEEK[])')
    assert kind == 'OK', data
    rows = [item for item in data if isinstance(item, tuple)]
    number = lambda head: int(re.search(rb'UID (\\d+)', head).group(1))
    email = lambda head: re.search(rb'EMAILID \\((\\w+)\\)', head).group(1).decode()
    return [(number(head), email(head), body) for head, body in rows]
";
        let port = self.imap.to_string();
        let arguments = [&[&*port, &*self.password], more].concat();
        python(&format!("{head}{script}"), &arguments)
    }

    /// The core over the instance's files, where no server runs.
    fn core(&self, runtime: &tokio::runtime::Runtime) -> Arc<Core> {
        let domain = "example.org".parse().unwrap();
        let home = self.home();
        let mut settings =
            Settings::new(home.join("data"), home.join("instance.key"), "mail.example.org".into(), domain);
        settings.login.grace = Duration::ZERO;
        unlocked(|| runtime.block_on(Core::open(settings.clone())), |error| error.message().contains("in use"))
    }
}

/// Opens a store. A process that another test starts at the same moment has the lock's file open until it runs its own program.
fn unlocked<T, E: std::fmt::Debug>(open: impl Fn() -> Result<T, E>, in_use: impl Fn(&E) -> bool) -> T {
    for _ in 0..100 {
        match open() {
            Err(error) if in_use(&error) => std::thread::sleep(Duration::from_millis(20)),
            result => return result.unwrap(),
        }
    }
    open().unwrap()
}

fn letter(number: usize) -> Vec<u8> {
    let filler = "text of some length\r\n".repeat(if number.is_multiple_of(50) { 10_000 } else { 5 });
    format!("From: joe@example.net\r\nTo: alice@example.org\r\nSubject: number {number}\r\n\r\n{filler}the end\r\n")
        .into_bytes()
}

fn address(text: &str) -> Address {
    Address::Mail(text.parse().unwrap())
}

fn envelope(message: Vec<u8>) -> Envelope {
    Envelope {
        id: MessageId::random(),
        dedup: None,
        style: Style::Delayed,
        kind: Kind::Message,
        from: Some(address("joe@example.net")),
        to: vec![Recipient::new(address("alice@example.org"))],
        conversation: None,
        sent: None,
        received: Timestamp::now(),
        importance: Importance::Normal,
        content: Content::from(message),
        origin: Origin { network: "smtp".into(), ..Origin::default() },
        dsn: Dsn::default(),
        junk: false,
    }
}

/// Many messages, faster than by SMTP.
fn fill(instance: &Instance, runtime: &tokio::runtime::Runtime, messages: usize) {
    let core = instance.core(runtime);
    runtime.block_on(async {
        for number in 0..messages {
            core.accept("smtp", vec![envelope(letter(number))]).await.pop().unwrap().unwrap();
        }
        core.close().await;
    });
}

/// A number that differs from run to run.
fn random(below: u64) -> u64 {
    u64::from_be_bytes(MessageId::random().0[..8].try_into().unwrap()) % below
}

/// The secret scalars of a key file, in both orders of bytes.
fn scalars(file: &Path) -> Vec<Needle> {
    let certificate = Cert::from_file(file).unwrap();
    let mut needles: Vec<Needle> = Vec::new();
    for key in certificate.keys().secret() {
        let SecretKeyMaterial::Unencrypted(clear) = key.key().secret() else { panic!("it is locked") };
        let bytes = clear.map(|mpis| match mpis {
            Mpis::ECDH { scalar } | Mpis::EdDSA { scalar } => scalar.value().to_vec(),
            other => panic!("{other:?}"),
        });
        needles.push(("a secret key, reversed", bytes.iter().rev().copied().collect()));
        needles.push(("a secret key", bytes));
    }
    assert!(needles.len() >= 4 && needles.iter().all(|(_, bytes)| bytes.len() >= 30));
    needles
}

/// Every file below a directory that holds one of these.
fn files_with(dir: &Path, needles: &[Needle]) -> Vec<PathBuf> {
    let mut leaking = Vec::new();
    let mut folders = vec![dir.to_owned()];
    let mut looked = 0;
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = fs::read(&path) {
                looked += bytes.len();
                if needles.iter().any(|(_, needle)| bytes.windows(needle.len()).any(|window| window == needle)) {
                    leaking.push(path);
                }
            }
        }
    }
    assert!(looked > 50_000, "only {looked} bytes were looked at");
    leaking
}

/// What GnuPG makes of encrypted messages with nothing but this key.
fn gnupg(dir: &Path, key: &Path, messages: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let home = dir.join("gnupg");
    fs::DirBuilder::new().mode(0o700).create(&home).unwrap();
    let gpg = || {
        let mut gpg = Command::new("gpg");
        gpg.arg("--homedir").arg(&home).args(["--batch", "--quiet", "--pinentry-mode", "loopback"]);
        gpg
    };
    succeed(gpg().arg("--import").arg(key), b"");
    let clear = messages.iter().map(|message| succeed(gpg().arg("--decrypt"), message)).collect();
    succeed(Command::new("gpgconf").arg("--homedir").arg(&home).args(["--kill", "all"]), b"");
    clear
}

/// The message in a decrypted entity, by the place that its first line names.
fn inner(clear: &[u8]) -> Vec<u8> {
    let line = String::from_utf8(clear[..188].to_vec()).unwrap();
    let number = |name: &str| -> usize {
        let rest = line.split_once(name).unwrap().1;
        rest.split([';', ' ', '\r']).next().unwrap().parse().unwrap()
    };
    let (at, size) = (number("; at="), number("; size="));
    clear[at..at + size].to_vec()
}

#[test]
fn an_offline_keyset_is_read_with_gnupg_and_sq_and_is_nowhere_here() {
    let mut instance = Instance::new();
    instance.start();
    let originals: Vec<Vec<u8>> = vec![
        b"From: joe@example.net\r\nTo: alice@example.org\r\nSubject: canarysubject\r\n\r\nFrom here\r\n--mesyx\r\n trailing \r\n\xff\xfe\r\n".to_vec(),
        letter(50),
        letter(1),
    ];
    let mut smtp = Smtp::connect(instance.smtp);
    for original in &originals {
        assert_eq!(smtp.message("joe@example.net", "alice@example.org", original).code, 250);
    }
    let before = instance.imap_script(
        "
imap.select('INBOX')
imap.uid('store', '2', '+FLAGS', '(\\\\Flagged $later)')
import base64
for uid, email, body in opened():
    print(uid, email, base64.b64encode(body).decode())
",
        &[],
    );
    let decode = |line: &str| succeed(Command::new("base64").arg("-d"), line.as_bytes());
    let taken: Vec<Vec<u8>> = before.lines().map(|line| decode(line.rsplit(' ').next().unwrap())).collect();
    assert!(taken.iter().zip(&originals).all(|(taken, original)| taken.ends_with(original)));
    let file = instance.beside("default.asc");
    let to = file.to_str().unwrap();
    instance.proven(&["keyset", "offline", "alice", "default", "--to", to]);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(&file).unwrap().starts_with("-----BEGIN PGP PRIVATE KEY BLOCK-----"));

    // Nowhere: not in the server's memory, not in its files; also after it was killed, and started again.
    let mut needles = scalars(&file);
    needles.push(("the armored key", fs::read(&file).unwrap()[200..260].to_vec()));
    assert_eq!(found(instance.pid(), &needles), Vec::<String>::new(), "in memory");
    assert_eq!(files_with(&instance.home(), &needles), Vec::<PathBuf>::new());
    instance.kill();
    assert_eq!(files_with(&instance.home(), &needles), Vec::<PathBuf>::new(), "after SIGKILL");
    instance.start();
    assert_eq!(files_with(&instance.home(), &needles), Vec::<PathBuf>::new(), "after a restart");
    assert!(!files_with(file.parent().unwrap(), &needles[4..]).is_empty(), "the search finds what is there");

    // Other UIDs, the same messages and flags, and PGP/MIME that says which keyset.
    let seen = instance.beside("seen");
    fs::write(&seen, &before).unwrap();
    let sealed = instance.imap_script(
        "
import email, base64
rows = opened()
old = [line.split() for line in open(more[0])]
assert [row[1] for row in rows] == [email_id for _, email_id, _ in old], (rows, old)
assert min(row[0] for row in rows) > max(int(uid) for uid, _, _ in old)
assert imap.uid('search', None, 'KEYWORD $later')[1][0].split() == [str(rows[1][0]).encode()]
for uid, email_id, body in rows:
    message = email.message_from_bytes(body)
    assert message.get_content_type() == 'multipart/encrypted', body
    assert message.get_param('protocol') == 'application/pgp-encrypted'
    assert message['Subject'] == 'Sealed message (keyset default)', message['Subject']
    assert message['From'] == 'Mesyx <sealed@mesyx.invalid>'
    version, encrypted = message.get_payload()
    assert version.get_content_type() == 'application/pgp-encrypted'
    print(base64.b64encode(encrypted.get_payload(decode=True)).decode())
kind, data = imap.search(None, 'BODY \"canarysubject\"')
assert data == [b''], data
print('SEARCH', imap.untagged_responses.get('OK'))
kind, data = imap.search(None, 'SUBJECT \"keyset default\"')
assert len(data[0].split()) == 3, data
kind, data = imap.search(None, 'FLAGGED')
assert len(data[0].split()) == 1, data
",
        &[seen.to_str().unwrap()],
    );
    let (search, messages): (Vec<&str>, Vec<&str>) = sealed.lines().partition(|line| line.starts_with("SEARCH"));
    assert!(search[0].contains("3 messages could not be searched whole"), "{search:?}");
    let messages: Vec<Vec<u8>> = messages.iter().map(|line| decode(line)).collect();
    let place = tempfile::tempdir().unwrap();
    let clear = gnupg(place.path(), &file, &messages);
    assert_eq!(clear.iter().map(|clear| inner(clear)).collect::<Vec<_>>(), taken, "by gpg, byte for byte");
    for (message, original) in messages.iter().zip(&taken) {
        let clear = succeed(Command::new("sq").args(["decrypt", "--recipient-key", to]), message);
        assert_eq!(inner(&clear), *original, "by sq");
    }

    // curl shows the count too: an untagged OK on a search that its user typed.
    let url = format!("imap://127.0.0.1:{}/INBOX", instance.imap);
    let login = format!("alice:{}", instance.password);
    let curl = run(Command::new("curl").args(["-s", "-v", "-u", &login, &url, "-X", "SEARCH TEXT canarysubject"]), b"");
    let talk = String::from_utf8_lossy(&curl.stderr).into_owned();
    assert!(talk.contains("* OK 3 messages could not be searched whole"), "{talk}");

    // For a while, in a mailbox of its own.
    instance.mesyx(&["keyset", "unlock", "alice", "default", "--for", "10m", "--from", to]);
    let status: serde_json::Value = serde_json::from_slice(&instance.mesyx(&["status", "--json"])).unwrap();
    assert_eq!(status["core"]["unlocked_keysets"][0]["mailbox"], "Unlocked/default");
    instance.imap_script(
        "
names = [line.decode() for line in imap.list()[1]]
assert any(name.endswith('\"Unlocked/default\"') or name.endswith(' Unlocked/default') for name in names), names
rows = opened('Unlocked/default')
assert len(rows) == 3 and b'canarysubject' in rows[0][2], rows
kind, data = imap.search(None, 'TEXT canarysubject')
assert data == [b'1'], data
assert not imap.untagged_responses.get('OK'), imap.untagged_responses
validity = imap.response('UIDVALIDITY')
assert b'Sealed message' in opened('INBOX')[0][2]
",
        &[],
    );
    instance.mesyx(&["keyset", "lock", "alice", "default"]);
    instance.imap_script(
        "
names = [line.decode() for line in imap.list()[1]]
assert not any('Unlocked' in name for name in names), names
assert imap.select('Unlocked/default')[0] == 'NO'
",
        &[],
    );
    assert_eq!(found(instance.pid(), &needles[..4]), Vec::<String>::new(), "in memory after the lock");

    // And back for good.
    instance.proven(&["keyset", "online", "alice", "default", "--from", to]);
    let back = instance.imap_script(
        "
import base64
for uid, email, body in opened():
    print(base64.b64encode(body).decode())
",
        &[],
    );
    assert_eq!(back.lines().map(decode).collect::<Vec<_>>(), taken);
}

#[test]
fn a_file_locked_with_a_passphrase_opens_with_gnupg_and_nothing_is_overwritten() {
    let mut instance = Instance::new();
    instance.start();
    let mut smtp = Smtp::connect(instance.smtp);
    assert_eq!(smtp.message("joe@example.net", "alice@example.org", &letter(1)).code, 250);
    let (file, phrase) = (instance.beside("locked.asc"), instance.beside("phrase"));
    fs::write(&phrase, "open sesame\n").unwrap();
    let (to, phrase) = (file.to_str().unwrap(), phrase.to_str().unwrap());
    instance.proven(&["keyset", "offline", "alice", "default", "--to", to, "--passphrase-file", phrase]);
    let home = instance.beside("gnupg");
    fs::DirBuilder::new().mode(0o700).create(&home).unwrap();
    let mut gpg = Command::new("gpg");
    gpg.arg("--homedir").arg(&home).args(["--batch", "--pinentry-mode", "loopback", "--passphrase", "open sesame"]);
    succeed(gpg.arg("--import").arg(&file), b"");
    let mut gpg = Command::new("gpg");
    gpg.arg("--homedir").arg(&home).args(["--batch", "--pinentry-mode", "loopback", "--passphrase", "open sesame"]);
    let exported = succeed(gpg.args(["--export-secret-keys", "--armor"]), b"");
    succeed(Command::new("gpgconf").arg("--homedir").arg(&home).args(["--kill", "all"]), b"");
    // What GnuPG wrote comes back as well as our own file; neither without the passphrase, nor over a file that is there.
    let theirs = instance.beside("theirs.asc");
    fs::write(&theirs, exported).unwrap();
    let theirs = theirs.to_str().unwrap();
    let mut without = Command::new(env!("CARGO_BIN_EXE_mesyx"));
    without.arg("--config").arg(instance.home().join("mesyx.toml"));
    let key = instance.recovery_key.to_str().unwrap();
    let refused =
        run(without.args(["keyset", "online", "alice", "default", "--from", theirs, "--recovery-key-file", key]), b"");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("passphrase"), "{refused:?}");
    instance.proven(&["keyset", "online", "alice", "default", "--from", theirs, "--passphrase-file", phrase]);
    let subject = instance.imap_script("print(opened()[0][2].decode())", &[]);
    assert!(subject.contains("Subject: number 1"), "{subject}");
    let mut over = Command::new(env!("CARGO_BIN_EXE_mesyx"));
    over.arg("--config").arg(instance.home().join("mesyx.toml"));
    let refused =
        run(over.args(["keyset", "offline", "alice", "default", "--to", theirs, "--recovery-key-file", key]), b"");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let still = instance.imap_script("print(opened()[0][2].decode())", &[]);
    assert!(still.contains("Subject: number 1"), "{still}");
}

/// The store, where no server runs.
fn opened(instance: &Instance, key: &Arc<InstanceKey>) -> SqliteStore {
    let directory = instance.data().join("store");
    let open = || SqliteStore::open(&directory, Options::default(), Arc::clone(key) as _);
    unlocked(open, |error| matches!(error, StoreError::InUse(_)))
}

/// What every UID of alice's INBOX shows, as the store says with nothing running: which message, and how. And whether the
/// keyset's secret key is there.
fn shown(instance: &Instance, runtime: &tokio::runtime::Runtime) -> (BTreeMap<Uid, (MessageId, Shown)>, bool) {
    let key = Arc::new(InstanceKey::load(&instance.home().join("instance.key")).unwrap());
    let store = opened(instance, &key);
    runtime.block_on(async {
        let user = store.users().await.unwrap()[0].user;
        let mailboxes = store.mailboxes(user).await.unwrap();
        let inbox = mailboxes.iter().find(|mailbox| mailbox.role == Some(Role::Inbox)).unwrap().id;
        let entries = store.snapshot(user, inbox).await.unwrap().entries;
        let uids: Vec<Uid> = entries.iter().map(|entry| entry.uid).collect();
        let parts = store.summaries(user, inbox, &uids).await.unwrap();
        assert_eq!(parts.len(), uids.len());
        let keys = store.secrets(user).await.unwrap().secret_keys;
        let found = parts.iter().map(|part| (part.uid, (part.message, part.shown))).collect();
        let here = keys.iter().any(|key| key.keyset.is_some());
        store.close().await;
        (found, here)
    })
}

#[test]
fn going_offline_killed_at_any_moment_never_shows_another_thing_under_an_old_uid() {
    const MESSAGES: usize = 2500;
    let instance = Instance::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    fill(&instance, &runtime, MESSAGES);
    let mut ever: HashMap<Uid, (MessageId, Shown)> = HashMap::new();
    let (mut torn, mut offline, mut file) = (0, false, PathBuf::new());
    for round in 0..16 {
        // Out and in by turns, whatever the last round came to.
        let (here, next) = (!offline, instance.beside(&format!("{round}.asc")));
        let from = file.to_str().unwrap().to_owned();
        let mut child = if here {
            instance.begun(&["keyset", "offline", "alice", "default", "--to", next.to_str().unwrap()])
        } else {
            instance.begun(&["keyset", "online", "alice", "default", "--from", &from])
        };
        std::thread::sleep(Duration::from_millis(random(900)));
        let _ = child.kill();
        child.wait().unwrap();
        let (now, key) = shown(&instance, &runtime);
        assert_eq!(now.len(), MESSAGES);
        for (uid, shows) in &now {
            let before = ever.entry(*uid).or_insert(*shows);
            assert_eq!(before, shows, "UID {uid} shows another thing than before, in round {round}");
        }
        let sealed = now.values().filter(|(_, shown)| *shown == Shown::Sealed).count();
        torn += usize::from(sealed > 0 && sealed < MESSAGES);
        assert!(key || sealed == MESSAGES, "shown opened, and the key is gone");
        // The next start finishes what was begun.
        let core = instance.core(&runtime);
        runtime.block_on(core.close());
        drop(core);
        let (now, key) = shown(&instance, &runtime);
        for (uid, shows) in &now {
            assert_eq!(ever.entry(*uid).or_insert(*shows), shows);
        }
        let sealed = now.values().filter(|(_, shown)| *shown == Shown::Sealed).count();
        assert_eq!((sealed, key), if key { (0, true) } else { (MESSAGES, false) }, "neither the one nor the other");
        if here && !key {
            assert_eq!(files_with(&instance.home(), &scalars(&next)), Vec::<PathBuf>::new());
            file = next;
        }
        offline = !key;
    }
    eprintln!("{torn} of 16 were killed between two batches");
}

#[test]
fn sealing_anew_killed_ten_times_ends_with_every_message_once() {
    const MESSAGES: usize = 1500;
    let mut instance = Instance::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    fill(&instance, &runtime, MESSAGES);
    let old = {
        let exported = instance.beside("old.asc");
        instance.proven(&["keyset", "offline", "alice", "default", "--to", exported.to_str().unwrap()]);
        instance.proven(&["keyset", "online", "alice", "default", "--from", exported.to_str().unwrap()]);
        let certificate = Cert::from_file(&exported).unwrap();
        let name = certificate.userids().next().unwrap().userid().value().to_vec();
        String::from_utf8(name).unwrap().strip_prefix("Mesyx keyset ").unwrap().to_owned()
    };
    let password = instance.beside("password");
    fs::write(&password, "alice's new password").unwrap();
    let rekeyed = instance.proven(&["user", "rekey", "alice", "--password-file", password.to_str().unwrap(), "--json"]);
    let rekeyed: serde_json::Value = serde_json::from_str(&rekeyed).unwrap();
    fs::write(&instance.recovery_key, rekeyed["recovery_key"].as_str().unwrap()).unwrap();
    let proof = instance.recovery_key.to_str().unwrap().to_owned();
    let made =
        instance.mesyx(&["user", "app-password", "add", "alice", "new", "--recovery-key-file", &proof, "--json"]);
    let made: serde_json::Value = serde_json::from_slice(&made).unwrap();
    made["password"].as_str().unwrap().clone_into(&mut instance.password);

    let mut come = MESSAGES;
    let mut moved = Vec::new();
    for _ in 0..10 {
        instance.start();
        // A command that comes before the control socket is there would take the store for itself.
        crate::support::until("the control socket answers", || {
            let mut status = Command::new(env!("CARGO_BIN_EXE_mesyx"));
            status.arg("--config").arg(instance.home().join("mesyx.toml")).arg("status");
            run(&mut status, b"").status.success()
        });
        let mut child = instance.begun(&["keyset", "reseal", "alice", "--from", &old, "--to", "default"]);
        // Mail goes on coming in.
        let mut smtp = Smtp::connect(instance.smtp);
        assert_eq!(smtp.message("joe@example.net", "alice@example.org", &letter(come)).code, 250);
        come += 1;
        std::thread::sleep(Duration::from_millis(150 + random(400)));
        instance.kill();
        let _ = child.kill();
        child.wait().unwrap();
        moved.push(remaining(&instance, &runtime));
    }
    eprintln!("left after each of the ten kills: {moved:?}");
    instance.start();
    let said = instance.proven(&["keyset", "reseal", "alice", "--from", &old, "--to", "default"]);
    assert!(said.contains("0 remain"), "{said}");
    // A server that was killed may need a moment longer to get its port back.
    crate::support::until("it listens for IMAP", || std::net::TcpStream::connect(("127.0.0.1", instance.imap)).is_ok());
    let mut subjects = instance.subjects();
    subjects.sort();
    let mut expected: Vec<String> = (0..come).map(|number| format!("number {number}")).collect();
    expected.sort();
    assert_eq!(subjects, expected, "every message whole, and once");
    instance.kill();
    assert_eq!(remaining(&instance, &runtime), 0);
}

/// Messages that are sealed to another keyset than most new ones: those of the keyset that was retired.
fn remaining(instance: &Instance, runtime: &tokio::runtime::Runtime) -> u64 {
    let key = Arc::new(InstanceKey::load(&instance.home().join("instance.key")).unwrap());
    let store = opened(instance, &key);
    runtime.block_on(async {
        let found = &store.users().await.unwrap()[0];
        let ring = mesyx_core::keys::Keyring::decode(&found.identity, &found.keysets).unwrap();
        let used = store.keyset_use(found.user).await.unwrap();
        let retired = used.iter().filter(|used| ring.get(used.keyset).is_some_and(|keyset| keyset.is_retired()));
        let left = retired.map(|used| used.messages).sum();
        store.close().await;
        left
    })
}

async fn opens(core: &Core, password: &str) -> Option<Arc<dyn Session>> {
    let client = ClientInfo { ip: [127, 0, 0, 1].into(), protocol: "imap".into(), tls: true };
    let credentials = Credentials { name: "alice".into(), password: Secret::from(password.to_owned()), client };
    core.login(credentials).await.ok()
}

#[test]
fn a_password_or_new_keys_killed_half_way_lose_nothing() {
    let instance = Instance::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    fill(&instance, &runtime, 5);
    let words = [instance.beside("one"), instance.beside("two")];
    for (path, word) in words.iter().zip(["first password", "second password"]) {
        fs::write(path, word).unwrap();
    }
    instance.proven(&["user", "password", "alice", "--password-file", words[0].to_str().unwrap()]);
    let mut current = 0;
    let mut changed = 0;
    for round in 0..12 {
        let (old, new) = (words[current].to_str().unwrap(), words[1 - current].to_str().unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesyx"));
        command.arg("--config").arg(instance.home().join("mesyx.toml"));
        if round % 2 == 0 {
            command.args(["user", "password", "alice", "--old-password-file", old, "--password-file", new]);
        } else {
            command.args(["user", "rekey", "alice", "--old-password-file", old]);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(random(900)));
        let _ = child.kill();
        child.wait().unwrap();
        let core = instance.core(&runtime);
        runtime.block_on(async {
            let mut good = Vec::new();
            for (at, word) in ["first password", "second password"].into_iter().enumerate() {
                let Some(session) = opens(&core, word).await else { continue };
                good.push(at);
                let mailboxes = session.mailboxes().await.unwrap();
                let inbox = mailboxes.iter().find(|mailbox| mailbox.role == Some(Role::Inbox)).unwrap().id;
                let mut uids: Vec<Uid> =
                    session.snapshot(inbox, false).await.unwrap().entries.iter().map(|entry| entry.uid).collect();
                let mut read = 0;
                while !uids.is_empty() {
                    let bodies = session.bodies(inbox, &uids).await.unwrap();
                    assert!(bodies.iter().all(|(_, body)| body.ends_with(b"the end\r\n")));
                    read += bodies.len();
                    uids.retain(|uid| !bodies.iter().any(|(known, _)| known == uid));
                }
                assert_eq!(read, 5);
            }
            assert_eq!(good.len(), 1, "one password opens everything, in round {round}");
            changed += usize::from(good[0] != current);
            current = good[0];
            core.close().await;
        });
    }
    eprintln!("{changed} of 6 changes of password had been made when they were killed");
}
