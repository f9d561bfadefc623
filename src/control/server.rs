//! The server's end of the control socket.

use super::{Answered, Asked, AskedVersion, MAX_REQUEST, Reply, VERSION};
use crate::exit::{Failure, trying};
use crate::serve::instance::Instance;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

/// Commands at once; an operator types one.
const MAX_CONNECTIONS: usize = 16;
/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(60);

/// The listening control socket; its file is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    path: PathBuf,
    listener: Option<UnixListener>,
}

impl ControlSocket {
    /// Binds it. A file that a killed server left behind is replaced; one that somebody answers on is not.
    pub(crate) fn bind(path: &Path) -> Result<Self, Failure> {
        let what = || format!("the control socket {}", path.display());
        if StdStream::connect(path).is_ok() {
            return Err(Failure::new(format!("{}: another server answers there; stop it first", what())));
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(trying(what())(error)),
            _ => {}
        }
        // From the first moment on nobody else may connect: made in a directory that only we can enter, then moved.
        let parent = path.parent().unwrap_or(Path::new("."));
        let closed = tempfile::Builder::new().prefix(".control-").tempdir_in(parent).map_err(trying(what()))?;
        let inner = closed.path().join("s");
        let listener = UnixListener::bind(&inner).map_err(trying(what()))?;
        std::fs::set_permissions(&inner, std::fs::Permissions::from_mode(0o600)).map_err(trying(what()))?;
        std::fs::rename(&inner, path).map_err(trying(what()))?;
        Ok(Self { path: path.to_owned(), listener: Some(listener) })
    }

    /// Answers until the task is aborted.
    pub(crate) fn serve(&mut self, instance: Arc<Instance>) -> Option<JoinHandle<()>> {
        let listener = self.listener.take()?;
        Some(tokio::spawn(accept(listener, instance)))
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn accept(listener: UnixListener, instance: Arc<Instance>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let instance = Arc::clone(&instance);
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &instance).await {
                        tracing::debug!(%error, "a control connection failed");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket could not take a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, instance: &Instance) -> io::Result<()> {
    // The file's mode keeps others out already; this holds where somebody changed it.
    let peer = stream.peer_cred()?.uid();
    if peer != 0 && peer != nix::unistd::geteuid().as_raw() {
        tracing::warn!(uid = peer, "refused a control connection of another user");
        return Ok(());
    }
    // A bridge's process can be of the server's user, and must not become the operator by that.
    if stream.peer_cred()?.pid().is_none_or(mesyx_bridges::is_of_bridge) {
        tracing::warn!("refused a control connection of a bridge");
        return Ok(());
    }
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading);
    loop {
        let mut line = Zeroizing::new(Vec::new());
        let mut limited = (&mut reading).take(MAX_REQUEST);
        let Ok(read) = tokio::time::timeout(IDLE, limited.read_until(b'\n', &mut line)).await else {
            return Ok(());
        };
        if read? == 0 {
            return Ok(());
        }
        let whole = line.last() == Some(&b'\n');
        let reply = if whole { answer(&line, instance).await } else { Reply::Error("the request is too long".into()) };
        let mut text = Zeroizing::new(serde_json::to_vec(&Answered { version: VERSION, reply })?);
        text.push(b'\n');
        writing.write_all(&text).await?;
        if !whole {
            return Ok(());
        }
    }
}

async fn answer(line: &[u8], instance: &Instance) -> Reply {
    match serde_json::from_slice::<AskedVersion>(line) {
        Ok(asked) if asked.version != VERSION => {
            let text = format!("the server speaks version {VERSION} of the control protocol: use its own `mesyx`");
            return Reply::Error(text);
        }
        _ => {}
    }
    match serde_json::from_slice::<Asked>(line) {
        Ok(asked) => match instance.operate(asked.request).await {
            Ok(value) => Reply::Ok(value),
            Err(failure) => Reply::Error(failure.text),
        },
        // The parser's own message may quote the line.
        Err(error) => Reply::Error(format!("the request can't be read, at column {}", error.column())),
    }
}
