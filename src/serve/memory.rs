//! What is in our memory stays there: no page of it on a swap area, none in a core file.
//!
//! All pages are locked, not only those that hold keys: a key passes through stacks, registers and buffers of libraries that
//! nobody could name one by one. Pages are locked as they come into use (`MCL_ONFAULT`), so that reserved but unused memory, such as
//! the stacks of threads, costs nothing.

use crate::config::memory::MemoryLock;
use crate::exit::{Failure, trying};
use nix::libc::{MCL_ONFAULT, RLIM_INFINITY};
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// How memory is kept, for `mesyx status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemoryStatus {
    /// Every page is locked: none reaches a swap area.
    pub(crate) locked: bool,
    /// Why not, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

/// The capability that makes the limit of locked memory void: CAP_IPC_LOCK (capabilities(7)).
const CAP_IPC_LOCK: u32 = 14;

/// Nobody but root can look into our memory, and no core file is written of it.
pub(crate) fn undumpable() -> Result<(), Failure> {
    prctl::set_dumpable(false).map_err(trying("forbidding core dumps"))?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(trying("forbidding core files"))
}

/// Takes the limit of locked memory away where we may, which is before root's rights are given up: the limit stays, the rights don't.
pub(crate) fn lift_limit() {
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
}

/// Locks what is in memory and what will be. Called once privileges are given up and before any thread is started.
///
/// Under a finite limit nothing is locked: once the limit were reached, every further allocation would fail.
pub(crate) fn lock(wanted: MemoryLock) -> Result<MemoryStatus, Failure> {
    let unlocked = |why: String| MemoryStatus { locked: false, why: Some(why) };
    if wanted == MemoryLock::Off {
        return Ok(unlocked("memory.lock = \"off\"".into()));
    }
    let why = match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((soft, _)) if soft != RLIM_INFINITY && !may_lock_all() => {
            let limit = soft >> 10;
            format!(
                "only {limit} KiB may be locked; set LimitMEMLOCK=infinity in the systemd unit, or `ulimit -l unlimited`"
            )
        }
        Ok(_) => {
            let on_fault = MlockAllFlags::from_bits_retain(MCL_ONFAULT);
            match mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault) {
                Ok(()) => return Ok(MemoryStatus { locked: true, why: None }),
                Err(error) => format!("the operating system refuses it: {error}"),
            }
        }
        Err(error) => format!("the limit of locked memory can't be read: {error}"),
    };
    if wanted == MemoryLock::Require {
        let text = format!("memory can't be locked: {why}; or write memory.lock = \"try\" in the configuration");
        return Err(Failure::new(text));
    }
    tracing::warn!("memory is not locked, so keys may reach a swap area: {why}");
    Ok(unlocked(why))
}

fn may_lock_all() -> bool {
    let effective = of_process("CapEff:").and_then(|text| u64::from_str_radix(&text, 16).ok());
    effective.is_some_and(|set| set & 1 << CAP_IPC_LOCK != 0)
}

/// A line of proc(5)'s `status` about ourselves.
fn of_process(key: &str) -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix(key)).map(|text| text.trim().to_owned())
}
