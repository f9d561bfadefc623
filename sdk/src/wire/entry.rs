//! A bridge as a program of its own.

use super::drive::one_life;
use super::logs;
#[cfg(unix)]
use super::serve_bridge_unix;
use crate::{Bridge, Fatal, Secret};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

/// Where the host is: `unix:PATH`, or `tls:HOST:PORT`.
const ADDRESS: &str = "MESYX_BRIDGE";
/// What shows that this program is the one that was started: the token itself, or the file that it stands in.
const TOKEN: &str = "MESYX_BRIDGE_TOKEN";
const TOKEN_FILE: &str = "MESYX_BRIDGE_TOKEN_FILE";
/// For `tls:`: PEM files with the certificates that the host's own is checked against, this bridge's certificate, and its key.
const CA: &str = "MESYX_BRIDGE_CA";
const CERTIFICATE: &str = "MESYX_BRIDGE_CERT";
const KEY: &str = "MESYX_BRIDGE_KEY";
/// For `tls:`: the name in the host's certificate, where it is not that in the address.
const NAME: &str = "MESYX_BRIDGE_NAME";

/// The pause after a connection to another host has failed, which doubles with each further failure, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long connecting to another host may take.
const CONNECT: Duration = Duration::from_secs(30);

/// The `main` of a bridge that is a program of its own.
///
/// With the argument `--manifest` it prints the manifest as JSON. Otherwise it does as the environment says:
///
/// | variable | meaning |
/// | --- | --- |
/// | `MESYX_BRIDGE` | `unix:PATH`: the host's socket; one life, then the program ends. `tls:HOST:PORT`: a host elsewhere; the program connects anew until it gets SIGTERM |
/// | `MESYX_BRIDGE_TOKEN`, `MESYX_BRIDGE_TOKEN_FILE` | the token, or the file that holds it |
/// | `MESYX_BRIDGE_CA`, `MESYX_BRIDGE_CERT`, `MESYX_BRIDGE_KEY` | for `tls:`: PEM files |
/// | `MESYX_BRIDGE_NAME` | for `tls:`: the name in the host's certificate, where it is another than HOST |
///
/// Exits with 0 when it was told to stop, 1 when it failed (the reason stands on standard error), 2 for what it was started with.
///
/// # Examples
/// ```no_run
/// # use mesyx_sdk::*;
/// # use std::sync::Arc;
/// # struct MyBridge;
/// # #[async_trait]
/// # impl Bridge for MyBridge {
/// #     fn manifest() -> Manifest { unimplemented!() }
/// #     fn build(_: Config) -> Result<Self, ConfigErrors> { unimplemented!() }
/// #     async fn run(&self, _: Arc<dyn Host>) -> Result<(), Fatal> { unimplemented!() }
/// #     async fn deliver(&self, _: Arc<dyn Host>, _: Delivery) -> Vec<Outcome> { unimplemented!() }
/// # }
/// fn main() -> std::process::ExitCode {
///     mesyx_sdk::main::<MyBridge>()
/// }
/// ```
#[must_use]
pub fn main<B: Bridge>() -> ExitCode {
    match env::args().nth(1).as_deref() {
        None => {}
        Some("--manifest") => {
            use std::io::Write;
            let written = std::io::stdout().write_all(B::manifest().to_json().as_bytes());
            return if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        Some(other) => {
            eprintln!("'{other}' is no argument of a bridge; there is --manifest. A bridge is started by `mesyx run`.");
            return ExitCode::from(2);
        }
    }
    from_environment::<B>()
}

/// [`main`] for a program that has arguments of its own: does as the environment says, whatever stands on the command line.
#[must_use]
pub fn from_environment<B: Bridge>() -> ExitCode {
    let place = match Place::from_environment() {
        Ok(place) => place,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    logs::install();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("can't start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(place.serve::<B>());
    runtime.shutdown_timeout(Duration::from_secs(1));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => {
            eprintln!("{}: {fatal}", B::manifest().name);
            ExitCode::FAILURE
        }
    }
}

/// Where the host is, and what it wants to see.
struct Place {
    host: At,
    token: Option<Secret>,
}

enum At {
    #[cfg(unix)]
    Unix(PathBuf),
    Tls {
        address: String,
        name: ServerName<'static>,
        config: Arc<ClientConfig>,
    },
}

impl Place {
    fn from_environment() -> Result<Self, String> {
        let address = env::var(ADDRESS).map_err(|_| {
            format!(
                "{ADDRESS} is not set: this is a bridge of Mesyx, which `mesyx run` starts as its configuration says"
            )
        })?;
        let token = match (env::var(TOKEN), env::var_os(TOKEN_FILE)) {
            (Ok(token), _) => Some(Secret::from(token)),
            (Err(_), Some(file)) => {
                let text = std::fs::read_to_string(&file).map(Zeroizing::new);
                let text = text.map_err(|error| format!("can't read {TOKEN_FILE}: {error}"))?;
                Some(Secret::from(text.trim().to_owned()))
            }
            (Err(_), None) => None,
        };
        let host = match address.split_once(':') {
            #[cfg(unix)]
            Some(("unix", path)) => At::Unix(path.into()),
            Some(("tls", address)) => tls(address)?,
            _ => return Err(format!("{ADDRESS} is '{address}'; write unix:PATH or tls:HOST:PORT")),
        };
        Ok(Self { host, token })
    }

    async fn serve<B: Bridge>(self) -> Result<(), Fatal> {
        match self.host {
            #[cfg(unix)]
            At::Unix(path) => {
                let stream = std::os::unix::net::UnixStream::connect(&path)
                    .map_err(|error| Fatal::new(format!("can't connect to the host at {}: {error}", path.display())))?;
                serve_bridge_unix::<B>(stream, self.token).await
            }
            At::Tls { address, name, config } => {
                let connector = TlsConnector::from(config);
                tokio::select! {
                    never = keep_connected::<B>(&address, &name, &connector, self.token.as_ref()) => match never {},
                    () = asked_to_end() => Ok(()),
                }
            }
        }
    }
}

/// One life after the other, with growing pauses while they fail. A host that let the bridge run is soon there again, where it was only
/// started anew: the pauses begin from the first.
async fn keep_connected<B: Bridge>(
    address: &str,
    name: &ServerName<'static>,
    connector: &TlsConnector,
    token: Option<&Secret>,
) -> std::convert::Infallible {
    let mut pause = FIRST_PAUSE;
    let mut told = String::new();
    loop {
        let mut ran = false;
        let life = async {
            let unreachable =
                |error: std::io::Error| Fatal::new(format!("can't connect to the host at {address}: {error}"));
            let connecting = async {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                connector.connect(name.clone(), stream).await
            };
            let late =
                |_| Fatal::new(format!("the host at {address} did not answer within {} seconds", CONNECT.as_secs()));
            let stream = tokio::time::timeout(CONNECT, connecting).await.map_err(late)?.map_err(unreachable)?;
            one_life::<B, _>(stream, token.cloned(), &mut ran).await
        };
        let how = match life.await {
            Ok(()) => "the host stopped the bridge".to_owned(),
            Err(fatal) => fatal.to_string(),
        };
        // Once for a host that is away for hours.
        if how != told {
            eprintln!("{how}; connecting anew");
        }
        told = if ran { String::new() } else { how };
        if ran {
            pause = FIRST_PAUSE;
        }
        tokio::time::sleep(some_of(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// At least half of a pause, by chance: bridges that lost their host together don't come back all at the same moment.
fn some_of(pause: Duration) -> Duration {
    let mut by = [0];
    // Without chance, they do.
    let _ = getrandom::fill(&mut by);
    pause / 2 + pause / 2 * u32::from(by[0]) / u32::from(u8::MAX)
}

/// Mutual TLS, with nothing trusted but what the operator named.
fn tls(address: &str) -> Result<At, String> {
    let (host, _) = address.rsplit_once(':').ok_or_else(|| format!("{ADDRESS} lacks a port: write tls:HOST:PORT"))?;
    let name = env::var(NAME).unwrap_or_else(|_| host.trim_matches(['[', ']']).to_owned());
    let name = ServerName::try_from(name).map_err(|_| format!("{NAME} is no host name"))?;
    let file = |variable: &str| {
        env::var_os(variable).map(PathBuf::from).ok_or_else(|| format!("{variable} is not set; it names a PEM file"))
    };
    let unreadable =
        |variable: &str, error: &dyn std::fmt::Display| format!("can't use the file in {variable}: {error}");
    let certificates = |variable: &str| -> Result<Vec<CertificateDer<'static>>, String> {
        let read = CertificateDer::pem_file_iter(file(variable)?).and_then(Iterator::collect);
        read.map_err(|error| unreadable(variable, &error))
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(CA)? {
        roots.add(certificate).map_err(|error| unreadable(CA, &error))?;
    }
    let key = PrivateKeyDer::from_pem_file(file(KEY)?).map_err(|error| unreadable(KEY, &error))?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(CERTIFICATE)?, key)
        .map_err(|error| unreadable(CERTIFICATE, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(At::Tls { address: address.to_owned(), name, config: Arc::new(config) })
}

/// Resolves on SIGTERM or SIGINT.
async fn asked_to_end() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            return;
        }
    }
    // Without signals, the process is ended from outside.
    std::future::pending::<()>().await;
}
