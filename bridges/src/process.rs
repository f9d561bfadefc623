//! A bridge as a child process.
//!
//! ```text
//!  server: directory 0700, socket in it, token --spawns--> exec-confined --becomes--> the program
//!  server <-- one connection: the child's own pid and uid, then the token -- the program
//! ```

use crate::child::Child;
use crate::confine::Confinement;
use crate::describe::{Server, Wrong};
use crate::place::{self, Place};
use crate::run::{Confine, Process};
use crate::{confine, trust};
use mesyx_sdk::wire::host::{Admission, Limits, RemoteBridge};
use mesyx_sdk::{Fatal, Grant, Secret};
use nix::unistd::{Gid, Group, Pid, Uid, User};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};

/// How long a program may take from its start to its connection.
const CONNECT: Duration = Duration::from_secs(20);
/// How long a program may take to end once its life is over.
const END: Duration = Duration::from_secs(2);
/// How long what a program said before it ended is still listened to.
pub(crate) const SETTLE: Duration = Duration::from_millis(500);

/// A program that can be started, its user looked up.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    process: Process,
    ids: Option<(u32, u32)>,
    ports: Vec<u16>,
    owner: u32,
}

impl Launch {
    /// Looks up the user; `grants` say which ports may be bound.
    pub(crate) fn new(process: &Process, grants: &[Grant], server: Server) -> Result<Self, Wrong> {
        let ids = match &process.user {
            Some(_) if server.uid != 0 => {
                let what = "only a server that is root can start a bridge as another user";
                let fix = "take the line out, or leave run_as out and start the server as root";
                return Err(Wrong::new("user", what, fix));
            }
            Some(name) => Some(user(name)?),
            None if server.uid == 0 => {
                let what = "the server runs as root, which a bridge's process must not be";
                let fix = "name a user of the bridge's own: user = \"mesyx-bridge\", or a number such as \"64001\"";
                return Err(Wrong::new("user", what, fix));
            }
            // Where the server has given up root's rights before, nothing is left to change.
            None => Some((server.uid, server.gid)),
        };
        for (key, paths) in [("readable", &process.readable), ("writable", &process.writable)] {
            for path in paths {
                if let Err(error) = confine::check_path(path) {
                    let what = format!("{} can't be opened: {error}", path.display());
                    return Err(Wrong::new(key, what, "name files and directories that exist"));
                }
            }
        }
        let port = |grant: &Grant| if let Grant::Listen(port) = grant { Some(*port) } else { None };
        let ports = grants.iter().filter_map(port).collect();
        Ok(Self { process: process.clone(), ids, ports, owner: server.uid })
    }

    /// How the program is confined; `more` follows its arguments.
    pub(crate) fn confinement(&self, sockets: &[PathBuf], more: &[String]) -> Confinement {
        let own = self.process.is_own();
        Confinement {
            program: (!own).then(|| self.process.process.clone()),
            args: self.process.args.iter().chain(more).cloned().collect(),
            ids: self.ids.filter(|_| Uid::effective().is_root()),
            memory: self.process.memory,
            files: self.process.files,
            readable: self.process.readable.clone(),
            writable: self.process.writable.clone(),
            ports: self.ports.clone(),
            sockets: sockets.to_vec(),
            subprocesses: self.process.subprocesses,
            confine: self.process.confine,
            parent: i32::try_from(std::process::id()).unwrap_or(i32::MAX),
        }
    }

    /// The user that the program is.
    fn uid(&self) -> u32 {
        self.ids.map_or_else(|| Uid::effective().as_raw(), |(uid, _)| uid)
    }

    /// Starts the program and waits for its connection.
    pub(crate) async fn start(
        &self,
        name: &str,
        directory: &Path,
        limits: &Limits,
    ) -> Result<(RemoteBridge, Running), Fatal> {
        let failed = |what: &str, error: &dyn std::fmt::Display| Fatal::new(format!("{what}: {error}"));
        if !self.process.is_own() {
            // It may have been changed since the configuration was read.
            let path = &self.process.process;
            trust::open(path, self.owner, self.process.sha256.as_deref())
                .map_err(|why| failed(&path.display().to_string(), &why))?;
        }
        if self.process.confine == Confine::Try && !confine::landlock_offered() {
            tracing::warn!(
                bridge = name,
                "this kernel has no Landlock: the bridge can read whatever its user can read"
            );
        }
        let token = token().map_err(|error| failed("a token", &error))?;
        // It reads a directory that may be a large one.
        let (swept, of) = (directory.to_owned(), self.uid());
        let _ = tokio::task::spawn_blocking(move || place::sweep(&swept, of)).await;
        let place = Place::new(directory, self.ids).map_err(|error| failed("the bridge's directory", &error))?;
        let listener = place.listen(self.ids).map_err(|error| failed("the bridge's socket", &error))?;
        let more =
            if self.process.is_own() { ["bridge", "serve", name].map(str::to_owned).to_vec() } else { Vec::new() };
        let mut confinement = self.confinement(std::slice::from_ref(place.path()), &[]);
        confinement.args = more.into_iter().chain(confinement.args).collect();
        let mut command = command(&confinement).map_err(|error| failed("the bridge's command", &error))?;
        command.envs(&self.process.environment);
        command.env("MESYX_BRIDGE", format!("unix:{}", place.socket().display())).env("MESYX_BRIDGE_TOKEN", &token);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (bridge, process) = (name.to_owned(), self.process.clone());
        let child = tokio::task::spawn_blocking(move || Child::start(&bridge, command, &process)).await;
        let child = match child {
            Ok(child) => child.map_err(|error| failed("the bridge's process", &error))?,
            Err(error) => return Err(failed("the bridge's process", &error)),
        };
        let stream = tokio::select! {
            stream = self.connection(name, &listener, &child) => stream.map_err(|error| failed("the bridge's socket", &error))?,
            how = child.ended() => return Err(Fatal::new(format!("{how} (before it connected)"))),
            () = tokio::time::sleep(CONNECT) => {
                return Err(Fatal::new(format!("the process did not connect within {} seconds", CONNECT.as_secs())));
            }
        };
        // Nobody else can connect from here on.
        drop((listener, place));
        let admission = Admission { token: Some(Secret::from(token)), name: Some(name.to_owned()) };
        let connected = tokio::select! {
            connected = RemoteBridge::connect_unix(stream, admission, limits.clone()) => connected,
            how = child.ended() => return Err(Fatal::new(format!("{how} (while it connected)"))),
        };
        Ok((connected?, Running(child)))
    }

    /// The connection of the child itself.
    async fn connection(&self, name: &str, listener: &UnixListener, child: &Child) -> io::Result<UnixStream> {
        loop {
            let (stream, _) = listener.accept().await?;
            let peer = stream.peer_cred()?;
            let of_child = match (peer.pid(), child.pid()) {
                (Some(peer), Some(child)) if self.process.subprocesses => {
                    nix::unistd::getpgid(Some(Pid::from_raw(peer))).is_ok_and(|group| group.as_raw() == child)
                }
                (peer, child) => peer.is_some() && peer == child,
            };
            if of_child && peer.uid() == self.uid() {
                return Ok(stream);
            }
            tracing::warn!(
                bridge = name,
                pid = peer.pid(),
                uid = peer.uid(),
                "refused a connection that is not the bridge's process"
            );
        }
    }
}

/// A program that runs.
#[derive(Debug)]
pub(crate) struct Running(Child);

impl Running {
    /// Gives the program a moment to end, then ends it; how it ended.
    pub(crate) async fn end(self) -> Option<String> {
        let ended = tokio::time::timeout(END, self.0.ended()).await;
        self.0.kill();
        ended.ok()
    }

    /// Resolves when the program has ended, with the way in which it did.
    pub(crate) async fn ended(&self) -> String {
        self.0.ended().await
    }
}

/// This program, told to confine itself and become another, with an empty environment.
pub(crate) fn command(confinement: &Confinement) -> io::Result<Command> {
    // The very file that runs now, also where another has taken its name by an upgrade.
    let mut command = Command::new("/proc/self/exe");
    command.args(["bridge", "exec-confined"]).arg(serde_json::to_string(confinement)?);
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LANG", "C.UTF-8");
    Ok(command)
}

/// 128 random bits in hexadecimal: known to the child alone, good for one connection.
fn token() -> io::Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(random)))
}

/// The ids of a user, by name or number.
fn user(name: &str) -> Result<(u32, u32), Wrong> {
    let absent = || {
        let what = format!("there is no user '{}' on this machine", name.escape_debug());
        Wrong::new("user", what, "make it with `adduser --system --group`, or write a number such as \"64001\"")
    };
    let ids = match User::from_name(name).ok().flatten() {
        Some(user) => (user.uid.as_raw(), user.gid.as_raw()),
        None => {
            let id = name.parse().map_err(|_| absent())?;
            let group = Group::from_gid(Gid::from_raw(id)).ok().flatten().map_or(id, |group| group.gid.as_raw());
            (id, group)
        }
    };
    if ids.0 == 0 {
        return Err(Wrong::new("user", "a bridge's process must not be root", "name another user"));
    }
    Ok(ids)
}
