//! A bridge as a library that the program loads.
//!
//! What such a library must offer is four lines, so that any language that can make a shared library can: the two C functions that
//! [`crate::plugin!`] writes, and the manifest's JSON text in the section `.mesyx.manifest`, which is read without loading the library.

use super::drive::panic_text;
use crate::{Bridge, Manifest};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// The life was over because the bridge was told to stop.
pub const STOPPED: i32 = 0;
/// It failed; it has told the host why.
pub const FAILED: i32 = 1;
/// Something panicked outside the bridge's own tasks.
pub const PANICKED: i32 = 2;
/// What was handed over is no socket that can be used.
pub const NO_SOCKET: i32 = 3;

/// Makes a library of a bridge: exports `mesyx_bridge_abi` and `mesyx_bridge_main`, and puts the manifest into the section
/// `.mesyx.manifest`.
///
/// It belongs into the `lib.rs` of a package of its own with `crate-type = ["cdylib"]`, never into the bridge's own library: two bridges
/// linked into one program would both bring these symbols.
///
/// The manifest must stand in the file before anything runs, so it is a file beside `lib.rs`, written by
/// `MESYX_WRITE_MANIFEST=$PWD/manifest.json cargo test` (an empty file will do for the first time); a test that comes with the macro fails
/// when it is not what [`Bridge::manifest`] says.
///
/// ```text
/// mesyx_sdk::plugin!(my_bridge::MyBridge, manifest = include_str!("../manifest.json"));
/// ```
#[macro_export]
macro_rules! plugin {
    ($bridge:ty, manifest = $manifest:expr) => {
        const MESYX_MANIFEST: &str = $manifest;

        #[used]
        #[unsafe(link_section = ".mesyx.manifest")]
        static MESYX_MANIFEST_SECTION: [u8; MESYX_MANIFEST.len()] = $crate::wire::plugin::bytes(MESYX_MANIFEST);

        /// Which way of being called this library knows.
        #[unsafe(no_mangle)]
        pub extern "C" fn mesyx_bridge_abi() -> u32 {
            $crate::wire::ABI
        }

        /// One life of the bridge over a connected unix stream socket, which it takes over. Returns when that life is over.
        #[unsafe(no_mangle)]
        pub extern "C" fn mesyx_bridge_main(fd: i32) -> i32 {
            $crate::wire::plugin::run::<$bridge>(fd)
        }

        #[cfg(test)]
        #[test]
        fn the_manifest_in_the_library_is_the_bridges() {
            $crate::wire::plugin::check::<$bridge>(MESYX_MANIFEST);
        }
    };
}

/// A text's bytes as an array.
///
/// # Panics
/// While compiling, where `N` is not the text's length.
#[must_use]
pub const fn bytes<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(text.as_bytes());
    bytes
}

/// Compares a library's manifest with its bridge's, or writes it where `MESYX_WRITE_MANIFEST` says.
///
/// # Panics
/// Where they differ.
#[allow(clippy::panic)]
pub fn check<B: Bridge>(manifest: &str) {
    let wanted = B::manifest().to_json();
    if let Some(file) = std::env::var_os("MESYX_WRITE_MANIFEST") {
        if let Err(error) = std::fs::write(&file, &wanted) {
            panic!("can't write the manifest: {error}");
        }
        return;
    }
    if Manifest::from_json(manifest).ok().as_ref() != Some(&B::manifest()) {
        panic!("the manifest's file is not what the bridge says; write it anew: MESYX_WRITE_MANIFEST=FILE cargo test");
    }
}

/// What `mesyx_bridge_main` does: one life over a socket, with threads of its own. Nothing that happens inside reaches the caller but the
/// number: [`STOPPED`], [`FAILED`], [`PANICKED`] or [`NO_SOCKET`].
#[cfg(unix)]
#[must_use]
pub fn run<B: Bridge>(fd: i32) -> i32 {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let Some(stream) = socket(fd) else { return NO_SOCKET };
        super::logs::install();
        let runtime = tokio::runtime::Builder::new_multi_thread().thread_name("bridge").enable_all().build();
        let Ok(runtime) = runtime else { return FAILED };
        let result = runtime.block_on(super::serve_bridge_unix::<B>(stream, None));
        // What the bridge left behind must not go on in a program that has ended its life.
        runtime.shutdown_timeout(Duration::from_secs(2));
        if result.is_ok() { STOPPED } else { FAILED }
    }));
    outcome.unwrap_or_else(|panic| {
        eprintln!("a bridge's library panicked: {}", panic_text(&*panic));
        PANICKED
    })
}

/// Takes over a descriptor, if it is an open one.
#[cfg(unix)]
#[allow(unsafe_code)]
fn socket(fd: i32) -> Option<std::os::unix::net::UnixStream> {
    use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
    if fd < 0 {
        return None;
    }
    // SAFETY: borrowed for one system call that only looks; a descriptor that is not open gives an error.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let kind = nix::sys::socket::getsockopt(&borrowed, nix::sys::socket::sockopt::SockType).ok()?;
    if kind != nix::sys::socket::SockType::Stream {
        return None;
    }
    // SAFETY: it is open, and the contract of `mesyx_bridge_main` hands it over: nobody else closes it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) }.into())
}
