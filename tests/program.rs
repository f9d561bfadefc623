//! The program as an operator uses it: `init`, `check`, `user`, `run`, `status`, signals, `backup`, `restore`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use serde_json::json as value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Lines, Server, deliver, json, mesyx, run, stdout, until};
use tempfile::TempDir;

/// A new instance whose listeners have ports chosen by the kernel.
struct Instance {
    home: TempDir,
}

impl Instance {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let instance = Self { home };
        let dir = instance.dir();
        run(0, &["init", dir.to_str().unwrap(), "--domain", "example.org", "--hostname", "mail.example.org"], "");
        instance.configure("");
        instance
    }

    fn dir(&self) -> PathBuf {
        self.home.path().join("instance")
    }

    fn file(&self) -> PathBuf {
        self.dir().join("mesyx.toml")
    }

    /// Writes the configuration, with `more` in front of its tables.
    fn configure(&self, more: &str) {
        let text = format!(
            r#"hostname = "mail.example.org"
domains = ["example.org"]
{more}
[[tls]]
chain = "tls/chain.pem"
key = "tls/key.pem"
[admin]
listen = ""
[bridge.smtp]
listeners = [{{ name = "mx", address = "127.0.0.1:0" }}]
[bridge.submission]
listeners = [{{ name = "submissions", address = "127.0.0.1:0", tls = "implicit" }}]
[bridge.imap]
listeners = [
  {{ name = "imap", address = "127.0.0.1:0", tls = "starttls", plain_auth_without_tls = true }},
  {{ name = "imaps", address = "127.0.0.1:0", tls = "implicit" }},
]
"#
        );
        fs::write(self.file(), text).unwrap();
    }

    /// Runs a command on it.
    fn mesyx(&self, arguments: &[&str]) -> Vec<String> {
        let mut all = vec!["--config".to_owned(), self.file().to_str().unwrap().to_owned()];
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        all
    }

    fn stdout(&self, code: i32, arguments: &[&str], input: &str) -> String {
        let all = self.mesyx(arguments);
        stdout(code, &all.iter().map(String::as_str).collect::<Vec<_>>(), input)
    }

    fn stderr(&self, code: i32, arguments: &[&str], input: &str) -> String {
        let all = self.mesyx(arguments);
        let output = run(code, &all.iter().map(String::as_str).collect::<Vec<_>>(), input);
        String::from_utf8(output.stderr).unwrap()
    }

    fn json(&self, arguments: &[&str], input: &str) -> serde_json::Value {
        let all = self.mesyx(arguments);
        json(&all.iter().map(String::as_str).collect::<Vec<_>>(), input)
    }

    /// Adds a user with an app password, which it returns.
    fn add(&self, name: &str) -> String {
        let added = self.json(&["user", "add", name, "--no-password", "--app-password", "test", "--json"], "");
        added["app_password"].as_str().expect("an app password").to_owned()
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn log_in(server: &Server, name: &str, password: &str) -> Lines {
    let mut imap = Lines::connect(server.address("imap", "imap"));
    assert!(imap.line().starts_with("* OK"));
    let answer = imap.imap("a", &format!("LOGIN {name} {password}"));
    assert!(answer.last().unwrap().starts_with("a OK"), "{answer:?}");
    imap
}

#[test]
fn init_makes_what_is_needed_and_overwrites_nothing() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("new");
    run(0, &["init", dir.to_str().unwrap(), "--domain", "bücher.example"], "");
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join("instance.key")), 0o600);
    assert_eq!(mode(&dir.join("tls/key.pem")), 0o600);
    assert_eq!(mode(&dir.join("data")), 0o700);
    let file = dir.join("mesyx.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("hostname = \"mail.xn--bcher-kva.example\""), "{text}");
    let said = stdout(0, &["--config", file.to_str().unwrap(), "check"], "");
    assert!(said.contains("no errors; bridges: imap, irc-client, irc-network, smtp, submission"), "{said}");

    let key = fs::read(dir.join("instance.key")).unwrap();
    let again = run(1, &["init", dir.to_str().unwrap()], "");
    assert!(String::from_utf8_lossy(&again.stderr).contains("is there already"));
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    assert_eq!(fs::read(dir.join("instance.key")).unwrap(), key);
}

#[test]
fn check_tells_every_error_with_its_line() {
    let instance = Instance::new();
    fs::write(
        instance.file(),
        "hostname = \"mail.example.org\"\ndomains = []\ncolour = 1\n[[tls]]\nchain = \"nowhere.pem\"\nkey = \"tls/key.pem\"\n",
    )
    .unwrap();
    let said = instance.stderr(3, &["check"], "");
    let file = instance.file();
    for wanted in [":2: domains: there is none", ":3: colour: there is no such key"] {
        assert!(said.contains(&format!("{}{wanted}", file.display())), "{said}");
    }
    instance.configure("[sealing]\nwindow = 5\n");
    fs::write(instance.dir().join("tls/chain.pem"), "not PEM").unwrap();
    let said = instance.stderr(3, &["check"], "");
    assert!(said.contains("tls[0].chain") && said.contains("there is no certificate in it"), "{said}");
    assert!(said.contains(":7: "), "the line of the key: {said}");
    let problems: serde_json::Value = serde_json::from_str(&instance.stdout(3, &["check", "--json"], "")).unwrap();
    assert_eq!(problems["ok"], false);
    assert_eq!(problems["problems"][0]["line"], 7);
    // The other commands say the same.
    assert!(instance.stderr(3, &["user", "list"], "").contains("tls[0].chain"));
}

#[test]
fn exit_codes_are_as_documented() {
    let instance = Instance::new();
    run(2, &["no-such-command"], "");
    assert!(instance.stderr(4, &["status"], "").contains("no server is running"));
    assert!(instance.stderr(1, &["user", "remove", "nobody", "--yes"], "").contains("mesyx: "));
    assert!(instance.stderr(2, &["user", "add", "alice"], "").contains("--password-file"));
    assert!(instance.stderr(1, &["bridge", "schema", "nothing"], "").contains("bridge list"));
    run(3, &["--config", "/nonexistent/mesyx.toml", "check"], "");
    for command in
        ["init", "check", "user", "run", "status", "reload", "demo", "backup", "restore", "trace", "secret", "bridge"]
    {
        let help = stdout(0, &[command, "--help"], "");
        assert!(help.contains("Example: ") && help.contains(&format!("mesyx {command}")), "{help}");
    }
}

#[test]
fn users_are_kept_with_and_without_a_server() {
    let instance = Instance::new();
    let added = instance.json(&["user", "add", "alice", "--password-stdin", "--json"], "correct horse battery\n");
    assert_eq!(added["addresses"], value!(["alice@example.org"]));
    let recovery = added["recovery_key"].as_str().unwrap().to_owned();
    assert!(instance.stderr(1, &["user", "add", "alice", "--no-password"], "").contains("already"));

    let server = Server::start(&instance.file());
    instance.add("bob");
    let names: Vec<_> =
        instance.json(&["user", "list", "--json"], "").as_array().unwrap().iter().map(|u| u["name"].clone()).collect();
    assert_eq!(names, ["alice", "bob"]);
    log_in(&server, "alice", "\"correct horse battery\"");

    let key = instance.home.path().join("recovery");
    fs::write(&key, &recovery).unwrap();
    let key = key.to_str().unwrap();
    instance.stdout(
        0,
        &["user", "password", "alice", "--recovery-key-file", key, "--password-stdin"],
        "another long password\n",
    );
    log_in(&server, "alice", "\"another long password\"");
    let made =
        instance.json(&["user", "app-password", "add", "alice", "phone", "--recovery-key-file", key, "--json"], "");
    log_in(&server, "alice", made["password"].as_str().unwrap());
    let listed = instance.json(&["user", "app-password", "list", "alice", "--json"], "");
    assert_eq!(listed[0]["label"], "phone");
    instance.stdout(0, &["user", "app-password", "revoke", "alice", "phone"], "");
    assert_eq!(instance.json(&["user", "app-password", "list", "alice", "--json"], ""), value!([]));
    assert!(server.stop());

    instance.stdout(0, &["user", "remove", "bob", "--yes"], "");
    assert_eq!(instance.json(&["user", "list", "--json"], "").as_array().unwrap().len(), 1);
}

#[test]
fn secrets_are_named_but_never_shown() {
    let instance = Instance::new();
    instance.stdout(0, &["secret", "set", "libera.password"], "hunter2hunter2\n");
    let server = Server::start(&instance.file());
    instance.stdout(0, &["secret", "set", "another"], "x");
    assert_eq!(
        instance.json(&["secret", "list", "--json"], ""),
        value!(["another", "dkim.example.org", "libera.password"])
    );
    instance.stdout(0, &["secret", "remove", "another"], "");
    assert!(instance.stderr(1, &["secret", "remove", "another"], "").contains("there is no secret"));
    assert_eq!(instance.stdout(0, &["secret", "list"], ""), "dkim.example.org\nlibera.password\n");
    drop(server);
    for entry in fs::read_dir(instance.dir().join("data")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            assert!(!bytes.windows(14).any(|window| window == b"hunter2hunter2"), "{}", path.display());
        }
    }
}

#[test]
fn a_second_server_is_refused_and_a_killed_one_leaves_nothing_in_the_way() {
    let instance = Instance::new();
    let server = Server::start(&instance.file());
    assert_eq!(mode(&instance.dir().join("control.sock")), 0o600);
    let said = instance.stderr(1, &["run"], "");
    assert!(said.contains("another server answers there"), "{said}");
    server.signal("KILL");
    until("the process is gone", || fs::read(format!("/proc/{}/cmdline", server.pid())).map_or(true, |c| c.is_empty()));
    drop(server);
    assert!(instance.dir().join("control.sock").exists(), "a killed server removes nothing");
    assert!(Server::start(&instance.file()).stop());
    assert!(!instance.dir().join("control.sock").exists());
}

#[test]
fn a_new_certificate_is_served_after_sighup_while_connections_stay() {
    let instance = Instance::new();
    let password = instance.add("alice");
    let server = Server::start(&instance.file());
    let mut imap = log_in(&server, "alice", &password);
    let imaps = server.address("imap", "imaps");
    let served = || {
        let script = format!("import ssl; print(ssl.get_server_certificate(('127.0.0.1', {})))", imaps.port());
        let output = Command::new("python3").args(["-c", &script]).output().expect("python3 runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let before = served();

    let other = tempfile::tempdir().unwrap();
    let made = other.path().join("made");
    run(0, &["init", made.to_str().unwrap(), "--hostname", "other.example.org"], "");
    for name in ["chain.pem", "key.pem"] {
        fs::copy(made.join("tls").join(name), instance.dir().join("tls").join(name)).unwrap();
    }
    server.signal("HUP");
    until("the new certificate is served", || served() != before);
    assert!(imap.imap("b", "NOOP").last().unwrap().starts_with("b OK"), "the connection stayed");
    assert_eq!(server.status()["certificates"][0][0], "other.example.org");

    // A configuration with errors changes nothing.
    instance.configure("colour = 1\n");
    assert!(instance.stderr(3, &["check"], "").contains("colour"));
    server.signal("HUP");
    assert!(imap.imap("c", "NOOP").last().unwrap().starts_with("c OK"));
    assert_eq!(server.address("imap", "imaps"), imaps);
}

#[test]
fn a_changed_configuration_is_followed_without_touching_other_bridges() {
    let instance = Instance::new();
    let password = instance.add("alice");
    let server = Server::start(&instance.file());
    let mut imap = log_in(&server, "alice", &password);
    let mx = server.address("smtp", "mx");
    instance.configure("[aliases]\n\"info@example.org\" = [\"alice\"]\n");
    let text = fs::read_to_string(instance.file()).unwrap();
    fs::write(
        instance.file(),
        text.replace("[bridge.submission]", "[bridge.smtp.limits]\nerrors = 30\n[bridge.submission]"),
    )
    .unwrap();
    let restarted = instance.json(&["reload", "--json"], "");
    assert_eq!(restarted["restarted"], value!(["smtp"]));
    until("smtp is back", || server.status()["bridges"][1]["state"]["is"] == "ready");
    assert_eq!(server.address("smtp", "mx"), mx, "the socket stayed open");
    deliver(mx, "info@example.org", "Subject: to the alias\r\n\r\n");
    assert!(imap.imap("b", "SELECT INBOX").iter().any(|line| line == "* 1 EXISTS"));
}

#[test]
fn a_backup_taken_while_serving_is_restored() {
    let instance = Instance::new();
    let password = instance.add("alice");
    let server = Server::start(&instance.file());
    let big = format!("Subject: big\r\n\r\n{}", "0123456789abcdef\r\n".repeat(40_000));
    deliver(server.address("smtp", "mx"), "alice@example.org", "Subject: before the backup\r\n\r\n");
    deliver(server.address("smtp", "mx"), "alice@example.org", &big);
    let backup = instance.home.path().join("backup");
    let to = backup.to_str().unwrap();
    instance.stdout(0, &["backup", to], "");
    deliver(server.address("smtp", "mx"), "alice@example.org", "Subject: after the backup\r\n\r\n");
    assert!(instance.stderr(4, &["restore", to], "").contains("the server is running"));
    assert!(server.stop());
    assert!(instance.stderr(1, &["restore", to], "").contains("is not empty"));
    assert!(!backup.join("instance.key").exists(), "a backup alone opens nothing");

    let data = instance.dir().join("data");
    fs::rename(&data, instance.dir().join("lost")).unwrap();
    assert!(instance.stderr(1, &["restore", instance.home.path().to_str().unwrap()], "").contains("no backup"));
    instance.stdout(0, &["restore", to], "");
    assert_eq!(mode(&data), 0o700);
    let server = Server::start(&instance.file());
    let mut imap = log_in(&server, "alice", &password);
    assert!(imap.imap("b", "SELECT INBOX").iter().any(|line| line == "* 2 EXISTS"));
    let lines = imap.imap("c", "FETCH 1:2 BODY.PEEK[]");
    assert!(lines.iter().any(|line| line == "Subject: before the backup"), "{lines:?}");
    assert_eq!(lines.iter().filter(|line| *line == "0123456789abcdef").count(), 40_000);
}

#[test]
fn started_by_root_it_binds_low_ports_and_becomes_another_user() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("left out: this test needs root");
        return;
    }
    let instance = Instance::new();
    let port = (600..1000).find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a low port");
    instance.configure("run_as = { user = \"nobody\" }\n");
    let text = fs::read_to_string(instance.file()).unwrap();
    fs::write(instance.file(), text.replacen("127.0.0.1:0", &format!("127.0.0.1:{port}"), 1)).unwrap();
    // The test's directory is root's: let others pass, as /etc does.
    fs::set_permissions(instance.home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let done = Command::new("chown").args(["-R", "nobody:", instance.dir().to_str().unwrap()]).status().unwrap();
    assert!(done.success());
    let server = Server::start(&instance.file());
    assert_eq!(server.address("smtp", "mx").port(), port);
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    assert_eq!(field("Uid:"), vec![nobody.uid.to_string(); 4]);
    assert_eq!(field("Gid:"), vec![nobody.gid.to_string(); 4]);
    assert!(!field("Groups:").contains(&"0".to_owned()), "{status}");
    assert_eq!(field("CapEff:"), ["0000000000000000"]);
    assert_eq!(field("NoNewPrivs:"), ["1"]);
    // Not dumpable: the process's files belong to root.
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(format!("/proc/{}/fd", server.pid())).unwrap()), 0);
    assert!(server.stop());
}

#[test]
fn sockets_that_systemd_passes_are_taken() {
    let instance = Instance::new();
    let script = r"
import os, socket, sys
passed = socket.socket()
passed.bind(('127.0.0.1', 0))
passed.listen()
with open(sys.argv[1], 'w') as out:
    out.write(str(passed.getsockname()[1]))
if passed.fileno() != 3:
    os.dup2(passed.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES='smtp.mx')
os.execv(sys.argv[2], sys.argv[2:])
";
    let port_file = instance.home.path().join("port");
    let program = mesyx(&[]).get_program().to_owned();
    let mut command = Command::new("python3");
    command.arg("-c").arg(script).arg(&port_file).arg(program);
    command.args(["--config", instance.file().to_str().unwrap(), "run"]);
    let server = Server::start_command(command, &instance.file());
    let port: u16 = fs::read_to_string(port_file).unwrap().parse().unwrap();
    assert_eq!(server.address("smtp", "mx").port(), port);
    let mut peer = Lines::connect(([127, 0, 0, 1], port).into());
    assert!(peer.smtp_reply().starts_with("220"));
}

#[test]
fn the_service_manager_is_told() {
    let instance = Instance::new();
    let socket = instance.home.path().join("notify");
    let listener = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    listener.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let heard = |wanted: &str| {
        let mut buffer = [0; 4096];
        loop {
            let length = listener.recv(&mut buffer).unwrap_or_else(|error| panic!("never told {wanted}: {error}"));
            if String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == wanted) {
                return;
            }
        }
    };
    let mut command = mesyx(&["--config", instance.file().to_str().unwrap(), "run"]);
    command.env("NOTIFY_SOCKET", &socket);
    let server = Server::start_command(command, &instance.file());
    heard("READY=1");
    server.signal("HUP");
    heard("RELOADING=1");
    heard("READY=1");
    server.signal("TERM");
    heard("STOPPING=1");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    for arguments in [&["bridge", "list"][..], &["bridge", "schema", "imap"][..]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_mesyx")).args(arguments).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
    }
}
