//! Giving up what the program need not have.

use crate::config::RunAs;
use crate::config::locate::Located;
use crate::exit::{Failure, trying};
use nix::sys::prctl;
use nix::unistd::{Gid, Group, Uid, User};
use std::ffi::CString;

/// Notes users and groups that there are not.
pub(crate) fn check(run_as: &RunAs, located: &mut Located) {
    if !matches!(User::from_name(&run_as.user), Ok(Some(_))) {
        let fix = "make it with `adduser --system`, or name another";
        located.note("run_as.user", format!("there is no user '{}' on this machine", run_as.user), fix);
    }
    if let Some(group) = &run_as.group
        && !matches!(Group::from_name(group), Ok(Some(_)))
    {
        let fix = "make it with `addgroup --system`, or leave it out";
        located.note("run_as.group", format!("there is no group '{group}' on this machine"), fix);
    }
}

/// The ids to become.
pub(crate) fn ids(run_as: &RunAs) -> Result<(Uid, Gid), Failure> {
    let absent = |kind: &str, name: &str| Failure::new(format!("there is no {kind} '{name}' on this machine"));
    let user = User::from_name(&run_as.user).ok().flatten().ok_or_else(|| absent("user", &run_as.user))?;
    let group = match &run_as.group {
        Some(name) => Group::from_name(name).ok().flatten().ok_or_else(|| absent("group", name))?.gid,
        None => user.gid,
    };
    Ok((user.uid, group))
}

/// Becomes the configured user, for good. Does nothing but hardening where the program was not started by root.
///
/// Called before any thread is started.
pub(crate) fn drop(run_as: Option<&RunAs>) -> Result<(), Failure> {
    if let Some(run_as) = run_as {
        let (uid, gid) = ids(run_as)?;
        if Uid::effective().is_root() {
            super::memory::lift_limit();
            let name = CString::new(run_as.user.as_str()).map_err(trying("run_as.user"))?;
            nix::unistd::initgroups(&name, gid).map_err(trying("giving up root's groups"))?;
            nix::unistd::setresgid(gid, gid, gid).map_err(trying("taking the group"))?;
            nix::unistd::setresuid(uid, uid, uid).map_err(trying("taking the user"))?;
            if !uid.is_root() && nix::unistd::setuid(Uid::from_raw(0)).is_ok() {
                return Err(Failure::new("root's rights could be taken back after giving them up"));
            }
        } else if Uid::effective() != uid {
            let text = format!("run_as.user is '{}', but only root can become another user", run_as.user);
            return Err(Failure::new(text));
        }
    }
    harden()
}

/// No program that is started from here gains rights, and nobody but root can look into our memory.
pub(crate) fn harden() -> Result<(), Failure> {
    prctl::set_no_new_privs().map_err(trying("forbidding new rights"))?;
    // Becoming another user made us dumpable again (prctl(2)).
    super::memory::undumpable()
}
