//! The commands' end of the control socket, and what they do where no server runs.

use super::{Answered, Asked, MAX_REPLY, Reply, Request, VERSION};
use crate::config::check::Checked;
use crate::exit::{Failure, NOT_RUNNING, trying};
use crate::operate;
use mesyx_core::core::Core;
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long the server may take, since a backup of much mail does.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Has a request carried out: by the server where one runs, otherwise here, with the store to ourselves.
pub(crate) fn ask(checked: &Checked, request: Request) -> Result<Value, Failure> {
    match connect(&checked.control_socket)? {
        Some(stream) => converse(stream, request),
        None => alone(checked, request),
    }
}

/// Has a request carried out by the running server, or fails with [`NOT_RUNNING`].
pub(crate) fn ask_server(socket: &Path, request: Request) -> Result<Value, Failure> {
    let absent = || Failure::with(NOT_RUNNING, "no server is running; start it with `mesyx run`");
    converse(connect(socket)?.ok_or_else(absent)?, request)
}

/// A connection to the server; `None` where none runs.
fn connect(path: &Path) -> Result<Option<UnixStream>, Failure> {
    match UnixStream::connect(path) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) => {
            let hint = "run this command as root or as the server's user";
            let text = format!("the server at {} can't be reached: {error}; {hint}", path.display());
            Err(Failure::with(NOT_RUNNING, text))
        }
    }
}

/// Whether a server runs.
pub(crate) fn is_running(checked: &Checked) -> Result<bool, Failure> {
    Ok(connect(&checked.control_socket)?.is_some())
}

fn converse(mut stream: UnixStream, request: Request) -> Result<Value, Failure> {
    let broke = |error: io::Error| Failure::with(NOT_RUNNING, format!("the server did not answer: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).map_err(broke)?;
    let asked = Asked { version: VERSION, request };
    let mut line = Zeroizing::new(serde_json::to_vec(&asked).map_err(trying("the request"))?);
    line.push(b'\n');
    stream.write_all(&line).map_err(broke)?;
    let mut line = Zeroizing::new(Vec::new());
    BufReader::new(stream.take(MAX_REPLY)).read_until(b'\n', &mut line).map_err(broke)?;
    let answered: Answered = serde_json::from_slice(&line).map_err(|_| {
        let text = "the server's answer can't be read; is it of another version? Its log may say more";
        Failure::with(NOT_RUNNING, text)
    })?;
    match answered.reply {
        Reply::Ok(value) => Ok(value),
        Reply::Error(text) => Err(Failure::new(text)),
    }
}

fn alone(checked: &Checked, request: Request) -> Result<Value, Failure> {
    with_core(checked, async |core| operate::operate(core, request).await)
}

/// Does something with the store to ourselves, where no server runs.
pub(crate) fn with_core<T>(
    checked: &Checked,
    work: impl AsyncFnOnce(&Core) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(trying("starting a runtime"))?;
    runtime.block_on(async {
        let core = Core::open(checked.core.clone()).await.map_err(|error| {
            let text = format!(
                "no server answers at {}, and the store can't be opened here: {error}",
                checked.control_socket.display()
            );
            Failure::with(NOT_RUNNING, text)
        })?;
        let result = work(&core).await;
        core.close().await;
        result
    })
}
