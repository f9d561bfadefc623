//! Confines a program before it runs: what it inherits, which user it is, what of the kernel and the files it reaches.
//!
//! ```text
//!  server --spawns--> mesyx bridge exec-confined JSON --confines itself--> the program (execve)
//! ```
//!
//! The program in between is ours, has one thread and does nothing else, so no code runs between fork and exec.
//!
//! Order matters: descriptors are closed first, limits are set and the user is changed while we may, then Landlock, then
//! seccomp, which would refuse what came before.

mod filter;

use crate::run::Confine;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What programs need to start at all: read and executed.
const PROGRAMS: &[&str] = &["/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin"];
/// What they need to find libraries, names and certificates: read.
const SYSTEM: &[&str] = &[
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/resolv.conf",
    "/run/systemd/resolve",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/passwd",
    "/etc/group",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/alternatives",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys/kernel",
    "/proc/sys/net/core/somaxconn",
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
    "/sys/kernel/mm/transparent_hugepage",
];
/// Address space beside the memory that may be used: libraries, and what allocators reserve without using it.
const RESERVED: u64 = 4 << 30;
/// The last ABI of Landlock that is made use of; what the kernel lacks of it is left out.
const LANDLOCK: ABI = ABI::V9;

/// How a program is confined; crosses from the server to `exec-confined` as JSON in one argument, so it holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// The program's file; `None` is this program itself.
    pub program: Option<PathBuf>,
    /// Its arguments.
    pub args: Vec<String>,
    /// User and group to become.
    pub ids: Option<(u32, u32)>,
    /// Private memory in bytes.
    pub memory: u64,
    /// Open files.
    pub files: u64,
    /// What may be read beside the system's files.
    pub readable: Vec<PathBuf>,
    /// What may be written to.
    pub writable: Vec<PathBuf>,
    /// TCP ports that may be bound.
    pub ports: Vec<u16>,
    /// Directories whose sockets may be connected to, where the kernel asks.
    pub sockets: Vec<PathBuf>,
    /// Whether it may start processes.
    pub subprocesses: bool,
    /// Whether it must be confined.
    pub confine: Confine,
    /// The process to which it belongs: it ends with it.
    pub parent: i32,
}

/// Confines this process and becomes the program. Returns only where that failed, with the reason.
///
/// Must be called in a process with one thread.
pub fn exec(confinement: &Confinement) -> Result<Infallible, String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    close_descriptors();
    // What is executed is opened while we still may: our own file can lie where its user can't go.
    let own = File::open("/proc/self/exe").map_err(|error| failed("/proc/self/exe", &error))?;
    let program = confinement.program.clone().unwrap_or_else(|| format!("/proc/self/fd/{}", own.as_raw_fd()).into());
    limit(confinement).map_err(|error| failed("limits", &error))?;
    if let Some((uid, gid)) = confinement.ids {
        become_user(Uid::from_raw(uid), Gid::from_raw(gid)).map_err(|error| failed("the bridge's user", &error))?;
    }
    std::env::set_current_dir("/").map_err(|error| failed("/", &error))?;
    prctl::set_no_new_privs().map_err(|error| failed("forbidding new rights", &error))?;
    // Set behind the change of user, which takes it back (prctl(2)).
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| failed("ending with the server", &error))?;
    if Pid::parent().as_raw() != confinement.parent {
        return Err("the server ended meanwhile".into());
    }
    if confinement.confine != Confine::Off {
        let required = confinement.confine == Confine::Require;
        let status = restrict(confinement, &own).map_err(|error| failed("Landlock", &error))?;
        if status == RulesetStatus::NotEnforced {
            if required {
                return Err("this kernel does not offer Landlock, and confine = \"require\" is set".into());
            }
            eprintln!("not confined by Landlock: this kernel does not offer it");
        }
        match filter::apply(confinement.subprocesses) {
            Ok(()) => {}
            Err(error) if required => return Err(failed("seccomp", &error)),
            Err(error) => eprintln!("not confined by seccomp: {error}"),
        }
    }
    let error = Command::new(&program).args(&confinement.args).exec();
    let why = failed(&program.display().to_string(), &error);
    if error.kind() == io::ErrorKind::PermissionDenied {
        let user = nix::unistd::geteuid();
        return Err(format!(
            "{why}: the user {user}, as whom it runs, must be able to execute it and to enter every directory above it"
        ));
    }
    Err(why)
}

/// Closes everything but standard input, output and error. What we opened ourselves is closed by execve.
fn close_descriptors() {
    let open: Vec<i32> = match std::fs::read_dir("/proc/self/fd") {
        Ok(entries) => entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect(),
        Err(_) => (3..65_536).collect(),
    };
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // That of the directory itself is closed already.
        let _ = nix::unistd::close(descriptor);
    }
}

fn limit(confinement: &Confinement) -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    setrlimit(Resource::RLIMIT_NOFILE, confinement.files, confinement.files)?;
    setrlimit(Resource::RLIMIT_DATA, confinement.memory, confinement.memory)?;
    let space = confinement.memory.saturating_add(RESERVED);
    setrlimit(Resource::RLIMIT_AS, space, space)
}

/// Becomes another user for good, without any of root's groups.
fn become_user(uid: Uid, gid: Gid) -> nix::Result<()> {
    nix::unistd::setgroups(&[])?;
    nix::unistd::setresgid(gid, gid, gid)?;
    nix::unistd::setresuid(uid, uid, uid)?;
    if !uid.is_root() && nix::unistd::setuid(Uid::from_raw(0)).is_ok() {
        return Err(nix::Error::EPERM);
    }
    Ok(())
}

/// Restricts what files, ports, sockets and processes are reached.
fn restrict(confinement: &Confinement, own: &File) -> Result<RulesetStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let run = read | AccessFs::Execute;
    let write = AccessFs::from_all(LANDLOCK) & !(AccessFs::Execute | AccessFs::MakeBlock | AccessFs::MakeChar);
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::AbstractUnixSocket)?
        .scope(Scope::Signal)?
        .create()?
        .add_rules(path_beneath_rules(PROGRAMS, run))?
        .add_rules(path_beneath_rules(SYSTEM, read))?
        .add_rules(path_beneath_rules(["/dev/null"], read | AccessFs::WriteFile))?
        .add_rules(path_beneath_rules(&confinement.program, run))?
        .add_rules(path_beneath_rules(&confinement.readable, read))?
        .add_rules(path_beneath_rules(&confinement.writable, write))?
        .add_rules(path_beneath_rules(&confinement.sockets, AccessFs::ResolveUnix))?
        .add_rules(path_beneath_rules(["/run/nscd", "/run/systemd/resolve"], AccessFs::ResolveUnix))?
        .add_rule(PathBeneath::new(own, AccessFs::ReadFile | AccessFs::Execute))?
        // A port of the kernel's choice: what a source address for an outgoing connection is bound with.
        .add_rule(NetPort::new(0, AccessNet::BindTcp))?;
    for port in &confinement.ports {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
    }
    Ok(rules.restrict_self()?.ruleset)
}

/// Whether this kernel offers Landlock, which keeps a process from files that its user could read.
#[must_use]
pub fn landlock_offered() -> bool {
    let strict = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    strict.handle_access(AccessFs::from_all(ABI::V1)).and_then(Ruleset::create).is_ok()
}

/// What is wrong with a path that a program is to be given.
pub(crate) fn check_path(path: &Path) -> io::Result<()> {
    PathFd::new(path).map(drop).map_err(|error| io::Error::other(error.to_string()))
}
