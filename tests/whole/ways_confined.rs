//! What a bridge's process can't do, tried by one that was not written in Rust, and what becomes of one that misbehaves.

use crate::support::ways::{USER, children};
use crate::support::{Server, json, mesyx, run, until};
use crate::tools::succeed;
use serde_json::{Value, json};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An instance without mail, and what belongs to a bridge in Python that tries things.
struct Probe {
    dir: tempfile::TempDir,
    script: PathBuf,
}

impl Probe {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("mesyx");
        succeed(
            Command::new(env!("CARGO_BIN_EXE_mesyx")).arg("init").arg(&home).args(["--domain", "example.org"]),
            b"",
        );
        // What keeps the bridge from files must not be their modes: everybody may read all of this.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.path().join("readable"), "x").unwrap();
        let allowed = dir.path().join("allowed");
        fs::create_dir(&allowed).unwrap();
        fs::write(allowed.join("readable"), "x").unwrap();
        fs::set_permissions(&allowed, fs::Permissions::from_mode(0o777)).unwrap();
        fs::set_permissions(allowed.join("readable"), fs::Permissions::from_mode(0o644)).unwrap();
        let script = dir.path().join("probe.py");
        fs::write(&script, include_str!("probe.py")).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(home.join("mesyx.toml"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir, script }
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("mesyx")
    }

    fn config(&self) -> PathBuf {
        self.home().join("mesyx.toml")
    }

    /// Configures the probe; `more` are further keys of `run`, `own` lines of the bridge's table.
    fn configure(&self, arguments: &[&str], more: &str, own: &str) {
        let user = if nix::unistd::geteuid().is_root() { format!(", user = \"{USER}\"") } else { String::new() };
        let text = format!(
            "hostname = \"mail.example.org\"\ndomains = [\"example.org\"]\n[admin]\nlisten = \"\"\n[bridge.probe]\n\
             run = {{ process = {:?}, args = {arguments:?}{user}{more} }}\n{own}\n",
            self.script
        );
        fs::write(self.config(), text).unwrap();
    }

    fn start(&self) -> Server {
        self.start_command(mesyx(&["--config", self.config().to_str().unwrap(), "run"]))
    }

    fn start_command(&self, mut command: Command) -> Server {
        command.stderr(fs::File::create(self.dir.path().join("log")).unwrap());
        Server::start_command(command, &self.config())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// How `mesyx bridge list` has the probe.
    fn listed(&self) -> Value {
        let list = json(&["--config", self.config().to_str().unwrap(), "bridge", "list", "--json"], "");
        list.as_array().unwrap().iter().find(|bridge| bridge["name"] == "probe").expect("the probe").clone()
    }
}

/// Tries again at once, gives up after the third time.
const QUICK: &str = "restart = { first = 0.01, longest = 0.02, failures = 3, broken = 600.0 }";

#[test]
fn a_process_reaches_only_what_it_is_given() {
    let probe = Probe::new();
    let (granted, peer) = {
        let held: Vec<_> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        (held[0].local_addr().unwrap().port(), TcpListener::bind("127.0.0.1:0").unwrap())
    };
    let allowed = probe.dir.path().join("allowed");
    let (home, open) = (probe.home(), allowed.to_str().unwrap().to_owned());
    let (port, reached) = (granted.to_string(), peer.local_addr().unwrap().port().to_string());
    let arguments = ["try", home.to_str().unwrap(), &open, &port, &reached];
    let more = format!(", writable = [{open:?}], environment = {{ COLOUR = \"red\" }}");
    probe.configure(&arguments, &more, &format!("grants = [\"listen:{granted}\"]"));
    let mut command = mesyx(&["--config", probe.config().to_str().unwrap(), "run"]);
    if nix::unistd::geteuid().is_root() {
        // A server with groups of its own, such as adm and cdrom, which a bridge must not keep.
        let mut with_groups = Command::new("setpriv");
        with_groups.args(["--groups", "4,24"]).arg(command.get_program()).args(command.get_args());
        with_groups.env_remove("MESYX_CONFIG").env_remove("NOTIFY_SOCKET").env_remove("LISTEN_PID");
        command = with_groups;
    }
    let server = probe.start_command(command);
    until("it has tried", || probe.log().contains("probe {"));
    let log = probe.log();
    let line = log.lines().find(|line| line.contains("probe {")).unwrap();
    let text = line.split_once("probe ").unwrap().1.replace("\\\"", "\"");
    let text = &text[..=text.rfind('}').unwrap()];
    let facts: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));

    assert_eq!(facts["environment"], json!(["COLOUR", "LANG", "MESYX_BRIDGE", "MESYX_BRIDGE_TOKEN", "PATH"]));
    assert_eq!(facts["descriptors"], json!([0, 1, 2]), "what is open");
    assert_eq!((&facts["no_new_privs"], &facts["core"]), (&json!(1), &json!(0)));
    if nix::unistd::geteuid().is_root() {
        let user: u32 = USER.parse().unwrap();
        assert_eq!(facts["uid"], json!([user, user, user]));
        assert_eq!(facts["groups"], json!([]));
    }
    // seccomp is in every kernel that this runs on.
    for refused in
        ["fork", "execute", "setsid", "ptrace", "unshare", "mount", "bpf", "io_uring", "keyctl", "raw socket", "x32"]
    {
        assert_eq!(facts[refused], "EPERM", "{refused}: {facts}");
    }
    assert_eq!(facts["internet"], "done");
    if !mesyx_bridges::confine::landlock_offered() {
        eprintln!("SKIPPED: this kernel offers no Landlock, so what it keeps a process from was not tried");
        return;
    }
    let files = &facts["files"];
    for refused in ["configuration", "instance key", "store", "shadow", "world-readable elsewhere", "write to /tmp"] {
        assert_eq!(files[refused], "EACCES", "{refused}: {files}");
    }
    for good in ["allowed", "write to allowed", "certificates"] {
        assert_eq!(files[good], "done", "{good}: {files}");
    }
    assert_eq!(facts["kill the server"], "EPERM");
    assert_eq!(facts["bind another port"], "EACCES");
    assert_eq!(facts["bind a granted port"], "done");
    // The probe never connects, which is told.
    let status = probe.listed()["status"].clone();
    assert_ne!(status["state"]["is"], "ready", "{status}");
    assert!(server.stop(), "and it does not hold up the end");
}

/// Landlock and seccomp bring the first along: it must hold without them. The second is forbidden twice, when this program starts and when
/// it confines itself; here a limit from outside is taken away.
#[test]
fn a_process_gains_no_rights_and_leaves_no_core() {
    let confinement = json!({
        "program": "/bin/cat", "args": ["/proc/self/status", "/proc/self/limits"], "ids": null, "memory": 512 << 20, "files": 64,
        "readable": [], "writable": [], "ports": [], "sockets": [], "subprocesses": false, "confine": "off",
        "parent": std::process::id(),
    });
    let script = "ulimit -Sc \"$(ulimit -Hc)\" && exec \"$0\" bridge exec-confined \"$1\"";
    let mut command = Command::new("bash");
    command.args(["-c", script, env!("CARGO_BIN_EXE_mesyx"), &confinement.to_string()]);
    let said = String::from_utf8(succeed(&mut command, b"")).unwrap();
    assert!(said.contains("NoNewPrivs:\t1"), "{said}");
    let core = said.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().take(2).collect::<Vec<_>>(), ["0", "0"]);
}

/// Also where it is of the server's own user, and the socket's mode keeps it from nothing.
#[test]
fn a_process_does_not_command_the_server() {
    use std::os::unix::process::CommandExt;
    let probe = Probe::new();
    let home = probe.home();
    let open = probe.dir.path().join("allowed");
    let arguments = ["try", home.to_str().unwrap(), open.to_str().unwrap(), "0", "1"];
    probe.configure(&arguments, "", "");
    let mut command = mesyx(&["--config", probe.config().to_str().unwrap(), "run"]);
    command.stderr(fs::File::create(probe.dir.path().join("log")).unwrap());
    if nix::unistd::geteuid().is_root() {
        // A server that is somebody else.
        let user: u32 = USER.parse().unwrap();
        let whole = fs::read_to_string(probe.config()).unwrap();
        fs::write(probe.config(), whole.replace(&format!(", user = \"{USER}\""), "")).unwrap();
        succeed(Command::new("chown").args(["-R", &format!("{user}:{user}")]).arg(&home), b"");
        command.uid(user).gid(user);
    }
    let server = Server::start_command(command, &probe.config());
    until("it has tried", || probe.log().contains("probe {"));
    let log = probe.log();
    assert!(!log.contains("\\\"control socket\\\": \\\"done\\\""), "{log}");
    assert!(log.contains("refused a control connection of a bridge"), "{log}");
    if mesyx_bridges::confine::landlock_offered() {
        assert!(log.contains("\\\"instance key\\\": \\\"EACCES\\\""), "its own user's file: {log}");
        assert!(log.contains("\\\"kill the server\\\": \\\"EPERM\\\""), "its own user's process: {log}");
    }
    assert!(server.stop());
}

#[test]
fn what_a_configuration_asks_of_a_program_is_checked() {
    let probe = Probe::new();
    let check = |code: i32| {
        let said = run(code, &["--config", probe.config().to_str().unwrap(), "check"], "");
        String::from_utf8(said.stderr).unwrap() + &String::from_utf8(said.stdout).unwrap()
    };
    probe.configure(&["exit"], "", "colour = \"red\"");
    let said = check(0);
    assert!(said.contains("probe") && said.contains("was not granted accept, directory"), "{said}");
    // Its own keys are held against the schema that it prints.
    probe.configure(&["exit"], "", "color = \"red\"\ngrants = [\"deliver\"]");
    let said = check(3);
    assert!(said.contains("bridge.probe.color") && said.contains("colour"), "{said}");
    assert!(said.contains("never asks for 'deliver'"), "{said}");
    probe.configure(&["exit"], ", sha256 = \"00\"", "");
    assert!(check(3).contains("SHA-256"), "another file");
    probe.configure(&["exit"], ", readable = [\"/nowhere\"]", "");
    assert!(check(3).contains("bridge.probe.run.readable"));
    fs::set_permissions(&probe.script, fs::Permissions::from_mode(0o777)).unwrap();
    probe.configure(&["exit"], "", "");
    assert!(check(3).contains("chmod go-w"));
    fs::set_permissions(&probe.script, fs::Permissions::from_mode(0o755)).unwrap();
    let whole = fs::read_to_string(probe.config()).unwrap();
    if nix::unistd::geteuid().is_root() {
        fs::write(probe.config(), whole.replace(&format!(", user = \"{USER}\""), "")).unwrap();
        assert!(check(3).contains("must not be"), "root");
        fs::write(probe.config(), whole.replace(USER, "no-such-user")).unwrap();
        assert!(check(3).contains("no-such-user"));
    }
    fs::write(probe.config(), whole.replace("process =", "proces =")).unwrap();
    assert!(check(3).contains("bridge.probe.run"));
    // Before it is enabled.
    let refused = run(1, &["bridge", "check", "/usr/bin/true"], "");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--manifest"), "no bridge");
}

#[test]
fn one_that_fails_at_once_is_left_alone_after_a_while() {
    let probe = Probe::new();
    probe.configure(&["exit"], "", QUICK);
    let server = probe.start();
    until("the breaker is open", || probe.listed()["status"]["breaker"] == "open");
    let listed = probe.listed();
    let status = &listed["status"];
    assert_eq!((&status["failures"], &status["state"]["is"]), (&json!(3), &json!("broken")), "{status}");
    assert!(status["last_failure"].as_str().unwrap().contains("ended with code 7"), "{status}");
    let text = crate::support::stdout(0, &["--config", probe.config().to_str().unwrap(), "bridge", "list"], "");
    assert!(text.contains("circuit breaker open") && text.contains("ended with code 7"), "{text}");
    assert!(server.stop());
}

fn ends_with(arguments: &[&str], more: &str, reason: &str) {
    let probe = Probe::new();
    probe.configure(arguments, more, QUICK);
    let server = probe.start();
    let said = || probe.listed()["status"]["last_failure"].as_str().unwrap_or_default().to_owned();
    until("it was ended", || !said().is_empty());
    let said = said();
    assert!(said.contains(reason), "{said}\n{}", probe.log());
    assert!(server.stop());
}

#[test]
fn one_that_leaks_shared_memory_is_killed() {
    ends_with(&["leak"], ", memory = 67108864", "over its limit of 64 MiB");
}

#[test]
fn one_that_hoards_memory_gets_no_more() {
    ends_with(&["hoard"], ", memory = 67108864", "code 1");
}

#[test]
fn one_that_spins_is_slowed_down() {
    let probe = Probe::new();
    probe.configure(&["spin"], ", cpu = 0.1", "");
    let server = probe.start();
    until("it is slowed down", || probe.log().contains("slowed down"));
    assert!(server.stop());
}

/// Nobody else can speak for a bridge: not with its socket, not without its token.
#[test]
fn another_process_is_not_taken_for_the_bridge() {
    let probe = Probe::new();
    let sockets = probe.dir.path().join("s");
    fs::create_dir(&sockets).unwrap();
    probe.configure(&["wait"], "", "");
    let mut command = mesyx(&["--config", probe.config().to_str().unwrap(), "run"]);
    command.env("RUNTIME_DIRECTORY", &sockets).stderr(fs::File::create(probe.dir.path().join("log")).unwrap());
    let server = Server::start_command(command, &probe.config());
    let mut socket = None;
    until("its socket is there", || {
        let entries = fs::read_dir(&sockets).unwrap().flatten();
        socket = entries.map(|entry| entry.path().join("bridge")).find(|path| path.exists());
        socket.is_some()
    });
    let socket = socket.unwrap();
    assert_eq!(fs::metadata(socket.parent().unwrap()).unwrap().permissions().mode() & 0o7777, 0o700);
    let mut peer = std::os::unix::net::UnixStream::connect(&socket).expect("root, or the same user, may connect");
    peer.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    assert_eq!(std::io::Read::read(&mut peer, &mut [0]).unwrap_or(0), 0, "closed at once");
    until("it is logged", || probe.log().contains("not the bridge's process"));
    // A server that is killed meanwhile takes along even a bridge that it was never connected with.
    let bridges = children(server.pid());
    assert_eq!(bridges.len(), 1, "{bridges:?}");
    server.signal("KILL");
    drop(server);
    until("its bridge is gone", || !Path::new(&format!("/proc/{}", bridges[0].0)).exists());
    // It leaves the directory, and the next one sweeps it away.
    let places = || fs::read_dir(&sockets).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    assert_eq!(places(), [socket.parent().unwrap()], "left");
    let mut command = mesyx(&["--config", probe.config().to_str().unwrap(), "run"]);
    command.env("RUNTIME_DIRECTORY", &sockets).stderr(fs::File::create(probe.dir.path().join("log")).unwrap());
    let server = Server::start_command(command, &probe.config());
    until("another socket is there", || places().iter().any(|place| place.join("bridge") != socket));
    assert_eq!(places().len(), 1, "swept");
    assert!(server.stop());
    assert_eq!(places().len(), 0, "nothing is left behind");
}
