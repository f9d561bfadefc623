//! A bridge as a shared library, loaded into this process.
//!
//! It shares our memory, so it is trusted as the program itself is. What is checked before it is loaded: who could have
//! changed the file, its SHA-256 where the configuration has one, that its manifest and its ABI are ones that we know. It is never unloaded:
//! threads and thread-local storage of it may be in use to the end.
#![allow(
    unsafe_code,
    reason = "loading foreign code and calling it can't be checked by the compiler; each place says why it holds"
)]

use crate::describe::{self, Server, Wrong};
use crate::run::Library;
use crate::trust;
use libloading::os::unix::{Library as Handle, RTLD_LOCAL, RTLD_NOW};
use mesyx_sdk::Fatal;
use mesyx_sdk::wire::ABI;
use mesyx_sdk::wire::host::{Admission, Limits, RemoteBridge};
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

/// How long the library's thread may take to end once its life is over.
const END: Duration = Duration::from_secs(2);

/// `uint32_t mesyx_bridge_abi(void)`
type Abi = unsafe extern "C" fn() -> u32;
/// `int32_t mesyx_bridge_main(int32_t)`
type Main = unsafe extern "C" fn(i32) -> i32;

/// What is loaded, by file and its last change: a file is loaded once.
static LOADED: Mutex<Option<HashMap<Identity, Main>>> = Mutex::new(None);

/// Device, inode, and when the inode was last changed.
type Identity = (u64, u64, i64, i64);

/// A library that can be started.
#[derive(Debug)]
pub(crate) struct Loaded {
    library: Library,
    owner: u32,
    /// Whether a life of it goes on.
    alive: Arc<AtomicBool>,
}

/// A library that runs on a thread of its own.
#[derive(Debug)]
pub(crate) struct Running(oneshot::Receiver<i32>);

impl Loaded {
    pub(crate) fn new(library: &Library, server: Server) -> Self {
        Self { library: library.clone(), owner: server.uid, alive: Arc::default() }
    }

    /// Loads it, where that was not done before, and starts its thread.
    pub(crate) async fn start(&self, name: &str, limits: &Limits) -> Result<(RemoteBridge, Running), Fatal> {
        let path = self.library.library.display().to_string();
        let failed = |why: &dyn std::fmt::Display| Fatal::new(format!("{path}: {why}"));
        let (library, owner, of) = (self.library.clone(), self.owner, name.to_owned());
        let loaded = tokio::task::spawn_blocking(move || load(&library, owner, &of)).await;
        let main = loaded.map_err(|error| failed(&error))?.map_err(|why| failed(&why))?;
        let (ours, theirs) = StdStream::pair().map_err(|error| failed(&error))?;
        ours.set_nonblocking(true).map_err(|error| failed(&error))?;
        if self.alive.swap(true, Ordering::AcqRel) {
            let why = "its last life has not ended, and nothing can end it from outside: restart the server";
            return Err(failed(&why));
        }
        let (ends, ended) = oneshot::channel();
        let alive = Arc::clone(&self.alive);
        let thread = std::thread::Builder::new().name(format!("bridge {name}")).spawn(move || {
            // SAFETY: `load` took this from the symbol that ABI 1 defines with this signature, of a library that is never unloaded. The
            // descriptor is open, and from here on the library's to close. It catches its own panics (ABI 1).
            let code = unsafe { main(theirs.into_raw_fd()) };
            alive.store(false, Ordering::Release);
            let _ = ends.send(code);
        });
        if let Err(error) = thread {
            self.alive.store(false, Ordering::Release);
            return Err(failed(&error));
        }
        let stream = UnixStream::from_std(ours).map_err(|error| failed(&error))?;
        let admission = Admission { token: None, name: Some(name.to_owned()) };
        let mut ended = ended;
        tokio::select! {
            biased;
            connected = RemoteBridge::connect_unix(stream, admission, limits.clone()) => Ok((connected?, Running(ended))),
            code = &mut ended => {
                let why = describe_end(code.unwrap_or(PANICKED));
                Err(failed(&format!("{why} before it introduced itself")))
            }
        }
    }
}

impl Running {
    /// Waits a moment for the thread's end; how it ended, where that says more than the connection did.
    pub(crate) async fn end(self) -> Option<String> {
        match tokio::time::timeout(END, self.0).await {
            Ok(Ok(code @ PANICKED)) => Some(describe_end(code)),
            Ok(_) => None,
            Err(_) => Some("the library's thread has not ended; it is left behind".into()),
        }
    }
}

/// The number by which a library says that it panicked.
const PANICKED: i32 = mesyx_sdk::wire::plugin::PANICKED;

fn describe_end(code: i32) -> String {
    match code {
        PANICKED => "the library panicked; the log has the place".into(),
        code => format!("the library ended with {code}"),
    }
}

/// Checks and loads a library; its entry.
fn load(library: &Library, owner: u32, name: &str) -> Result<Main, String> {
    let file = trust::open(&library.library, owner, library.sha256.as_deref())?;
    let text = describe::section(&file)?.ok_or("it has no manifest, so it is no bridge of ours")?;
    let manifest = describe::parse(&text)?;
    if manifest.name != name {
        return Err(format!("it is the bridge '{}', not '{name}'", manifest.name));
    }
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    let identity = (metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec());
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = loaded.get_or_insert_default();
    if let Some(main) = loaded.get(&identity) {
        return Ok(*main);
    }
    let main = open(file)?;
    loaded.insert(identity, main);
    Ok(main)
}

/// Loads what was checked, for good.
fn open(file: File) -> Result<Main, String> {
    // By its descriptor, so that it is the very file that was checked. The loader knows libraries by this name, so the descriptor stays open,
    // and its number is never another's.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::mem::forget(file);
    // SAFETY: loading runs the library's initialisers. It is one that the operator named, that only root or the server's user could have
    // written, and that carries a bridge's manifest; it is trusted as the program itself is.
    let handle = unsafe { Handle::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(|error| error.to_string())?;
    // SAFETY: a library with a bridge's manifest has this symbol with this signature, in every ABI.
    let abi = unsafe { handle.get::<Abi>(b"mesyx_bridge_abi\0") }
        .map_err(|error| format!("it has no function mesyx_bridge_abi: {error}"))?;
    // SAFETY: as above; it takes nothing and only returns a number.
    let abi = unsafe { abi() };
    if abi != ABI {
        return Err(format!(
            "it was made for ABI {abi}, and this program has ABI {ABI}: build it with this version's SDK"
        ));
    }
    // SAFETY: ABI 1, which was just checked, has this symbol with this signature.
    let main = unsafe { handle.get::<Main>(b"mesyx_bridge_main\0") }
        .map_err(|error| format!("it has no function mesyx_bridge_main: {error}"))?;
    let entry = *main;
    // Never unloaded, so the entry stays good.
    std::mem::forget(handle);
    Ok(entry)
}

/// What is wrong with a library that the configuration names, before it is loaded.
pub(crate) fn check(library: &Library) -> Result<(), Wrong> {
    let hex = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match &library.sha256 {
        Some(text) if !hex(text.trim()) => {
            Err(Wrong::new("sha256", "that is no SHA-256", "write the 64 digits that `sha256sum FILE` prints"))
        }
        _ => Ok(()),
    }
}
