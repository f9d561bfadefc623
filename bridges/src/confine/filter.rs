//! The seccomp filter: which system calls a confined program is refused.
//!
//! A list of what is refused, since a bridge may be written in any language. On it is what a program needs to look into or steer
//! others, to change the machine, or to get round this filter; each answers EPERM, as it would to somebody without rights.

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use std::collections::BTreeMap;

/// Refused whatever the arguments.
const REFUSED: &[i64] = &[
    // Others' memory and descriptors.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Leaving the process group, by which the server knows its bridges and ends them.
    libc::SYS_setsid,
    libc::SYS_setpgid,
    // Becoming somebody else.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_capset,
    // Namespaces, mounts, roots.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_mknodat,
    // The kernel: modules, programs inside it, what watches it, its keys.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_syslog,
    // System calls that no filter sees.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // The machine: power, swap, names, clock, accounting.
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_personality,
    libc::SYS_vhangup,
];

/// The same on x86-64 alone.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[i64] =
    &[libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt, libc::SYS_mknod, libc::SYS_kexec_file_load];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[i64] = &[];

/// Making processes in the ways that take no flags.
#[cfg(target_arch = "x86_64")]
const FORKS: &[i64] = &[libc::SYS_fork, libc::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
const FORKS: &[i64] = &[];

/// Applies the filter to this thread and all that comes of it.
pub(super) fn apply(subprocesses: bool) -> Result<(), seccompiler::Error> {
    // The first makes C libraries take clone(2), whose flags can be looked at.
    seccompiler::apply_filter(&without_clone3()?)?;
    seccompiler::apply_filter(&refusals(subprocesses)?)
}

fn without_clone3() -> Result<BpfProgram, BackendError> {
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let enosys = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, enosys, std::env::consts::ARCH.try_into()?)?.try_into()
}

fn refusals(subprocesses: bool) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in REFUSED.iter().chain(REFUSED_HERE) {
        rules.insert(*call, Vec::new());
    }
    let flags = |mask: i32, value: i32| {
        let (mask, value) = (u64::from(mask.cast_unsigned()), u64::from(value.cast_unsigned()));
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), value)
    };
    let mut clone = Vec::new();
    for namespace in [
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWCGROUP,
    ] {
        clone.push(SeccompRule::new(vec![flags(namespace, namespace)?])?);
    }
    if !subprocesses {
        clone.push(SeccompRule::new(vec![flags(libc::CLONE_THREAD, 0)?])?);
        rules.extend(FORKS.iter().map(|call| (*call, Vec::new())));
    }
    rules.insert(libc::SYS_clone, clone);
    // Sockets of the Internet, of this machine, and the one that C libraries ask for addresses.
    let other = |family: i32| {
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, u64::from(family.cast_unsigned()))
    };
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    let foreign = families.into_iter().map(other).collect::<Result<Vec<_>, _>>()?;
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(foreign)?]);
    // Putting characters into a terminal's input.
    let push = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, libc::TIOCSTI)?;
    rules.insert(libc::SYS_ioctl, vec![SeccompRule::new(vec![push])?]);
    let eperm = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let program: BpfProgram =
        SeccompFilter::new(rules, SeccompAction::Allow, eperm.clone(), std::env::consts::ARCH.try_into()?)?
            .try_into()?;
    Ok(without_x32(eperm, program))
}

/// Refuses the second set of call numbers that x86-64 kernels may have (x32, bit 30), which the rules don't know.
#[cfg(target_arch = "x86_64")]
fn without_x32(refuse: SeccompAction, rest: BpfProgram) -> BpfProgram {
    use seccompiler::sock_filter;
    const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS, of the call's number at offset 0
    const JUMP_IF_GREATER_OR_EQUAL: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let mut program = vec![
        step(LOAD_WORD, 0, 0, 0),
        step(JUMP_IF_GREATER_OR_EQUAL, 0, 1, 0x4000_0000),
        step(RETURN, 0, 0, refuse.into()),
    ];
    program.extend(rest);
    program
}

#[cfg(not(target_arch = "x86_64"))]
fn without_x32(_refuse: SeccompAction, rest: BpfProgram) -> BpfProgram {
    rest
}
