//! One small file by HTTPS, as MTA-STS (RFC 8461) and WKD publish them.

use crate::address::is_public;
use crate::dns::{Dns, DnsError};
use crate::roots::{RootsError, roots};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, LOCATION, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How files are fetched from other hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpsConfig {
    /// A PEM file with the certificate authorities to believe, for mail hosts too. Unless given, the system's.
    #[schemars(extend("examples" = ["/etc/mesyx/authorities.pem"]))]
    pub roots: Option<PathBuf>,
    /// The port to ask at. Standards say 443; others are for laboratories.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: u16,
    /// Seconds that a fetch may take in all. RFC 8461, section 3.3, suggests one minute.
    #[schemars(range(min = 1, max = 300))]
    pub timeout_seconds: u32,
    /// Fetches from private and loopback addresses too. Off, since whoever writes to a user of ours chooses the host, and could
    /// have us ask inside our own network. For laboratories.
    pub allow_private: bool,
}

impl Default for HttpsConfig {
    fn default() -> Self {
        Self { roots: None, port: 443, timeout_seconds: 60, allow_private: false }
    }
}

/// Why nothing was fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpsError {
    /// The host's name has no address.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// The host's addresses are all private.
    #[error("{0} has private addresses only, which are not asked")]
    Private(String),
    /// The connection failed, or did not last.
    #[error("{0} can't be reached: {1}")]
    Unreachable(String, String),
    /// The host could not show that it is the host.
    #[error("the TLS handshake with {0} failed: {1}")]
    Tls(String, String),
    /// It took too long.
    #[error("{0} took longer than {1} s")]
    Slow(String, u64),
    /// The answer is larger than asked for.
    #[error("{0} sent more than {1} bytes")]
    TooLarge(String, usize),
    /// What came is no HTTP, or a redirection that is not followed.
    #[error("{0} answered wrongly: {1}")]
    Wrong(String, String),
}

/// What to fetch, and what it may cost.
#[derive(Debug, Clone)]
pub struct Get<'a> {
    /// The host's name, in ASCII; never an IP address.
    pub host: &'a str,
    /// Path and query, beginning with `/`.
    pub path: &'a str,
    /// Most bytes of the body.
    pub max_bytes: usize,
    /// How many redirections to follow; only to HTTPS at the configured port.
    pub redirects: u8,
}

/// What was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// HTTP's status code, such as 200 or 404.
    pub status: u16,
    /// The media type in lower case, without parameters; empty where there is none.
    pub media_type: String,
    /// The body.
    pub body: Vec<u8>,
}

/// Fetches files. Clones share everything; no connection is kept.
#[derive(Clone)]
pub struct Https {
    dns: Dns,
    tls: Arc<ClientConfig>,
    config: HttpsConfig,
}

impl std::fmt::Debug for Https {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Https(port {})", self.config.port)
    }
}

/// How long one address may take to accept before the next one is tried.
const CONNECT: Duration = Duration::from_secs(10);

impl Https {
    /// Reads the certificate authorities; asks nothing yet.
    ///
    /// # Errors
    /// Where there are none.
    pub fn new(config: &HttpsConfig, dns: Dns) -> Result<Self, RootsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| RootsError::File(PathBuf::new(), error.to_string()))?;
        let mut tls = builder.with_root_certificates(roots(config.roots.as_deref())?).with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { dns, tls: Arc::new(tls), config: config.clone() })
    }

    /// Fetches one file, whatever its status code.
    ///
    /// # Errors
    /// [`HttpsError`]. Redirections beyond `get.redirects` are [`HttpsError::Wrong`].
    pub async fn get(&self, get: &Get<'_>) -> Result<Fetched, HttpsError> {
        let limit = Duration::from_secs(self.config.timeout_seconds.into());
        let slow = |_| HttpsError::Slow(get.host.to_owned(), limit.as_secs());
        timeout(limit, self.follow(get)).await.map_err(slow)?
    }

    async fn follow(&self, get: &Get<'_>) -> Result<Fetched, HttpsError> {
        let (mut host, mut path) = (get.host.to_owned(), get.path.to_owned());
        for left in (0..=get.redirects).rev() {
            let (fetched, location) = self.once(&host, &path, get.max_bytes).await?;
            let Some(location) = location else { return Ok(fetched) };
            if left == 0 {
                return Err(HttpsError::Wrong(host, "it sends us elsewhere, which is not followed".to_owned()));
            }
            (host, path) = self.target(&host, &location)?;
        }
        Err(HttpsError::Wrong(host, "it sends us in a circle".to_owned()))
    }

    /// Where a redirection leads.
    fn target(&self, host: &str, location: &str) -> Result<(String, String), HttpsError> {
        let wrong = |what: &str| HttpsError::Wrong(host.to_owned(), format!("it sends us {what}"));
        let uri: Uri = location.parse().map_err(|_| wrong("to what is no address"))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        match (uri.scheme_str(), uri.host()) {
            (None, None) if path.starts_with('/') => Ok((host.to_owned(), path)),
            (Some("https"), Some(to)) if uri.port_u16().unwrap_or(self.config.port) == self.config.port => {
                Ok((to.to_owned(), path))
            }
            _ => Err(wrong("away from HTTPS")),
        }
    }

    /// One request; the second part is where it sends us.
    async fn once(&self, host: &str, path: &str, most: usize) -> Result<(Fetched, Option<String>), HttpsError> {
        let wrong = |what: &dyn std::fmt::Display| HttpsError::Wrong(host.to_owned(), what.to_string());
        let unreachable = |what: &dyn std::fmt::Display| HttpsError::Unreachable(host.to_owned(), what.to_string());
        let tcp = self.connect(host).await?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| wrong(&error))?;
        let tls = TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await;
        let tls = tls.map_err(|error| HttpsError::Tls(host.to_owned(), error.to_string()))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await;
        let (mut sender, connection) = handshake.map_err(|error| unreachable(&error))?;
        let authority = match self.config.port {
            443 => host.to_owned(),
            port => format!("{host}:{port}"),
        };
        let request = Request::get(path)
            .header(HOST, authority)
            .header(USER_AGENT, HeaderValue::from_static("mesyx"))
            .body(Empty::<Bytes>::new())
            .map_err(|error| wrong(&error))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
            let (head, body) = response.into_parts();
            let text = |name| head.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
            let location = matches!(
                head.status,
                StatusCode::MOVED_PERMANENTLY
                    | StatusCode::FOUND
                    | StatusCode::SEE_OTHER
                    | StatusCode::TEMPORARY_REDIRECT
                    | StatusCode::PERMANENT_REDIRECT
            )
            .then(|| text(LOCATION).unwrap_or_default().to_owned());
            let media_type = text(CONTENT_TYPE).unwrap_or_default();
            let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            let body = match Limited::new(body, most).collect().await {
                Ok(body) => body.to_bytes().to_vec(),
                Err(error) if error.is::<LengthLimitError>() => {
                    return Err(HttpsError::TooLarge(host.to_owned(), most));
                }
                Err(error) => return Err(unreachable(&error)),
            };
            Ok((Fetched { status: head.status.as_u16(), media_type, body }, location))
        };
        // The connection is driven beside the exchange, and dropped with it: no task is left behind.
        let mut connection = std::pin::pin!(connection);
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            biased;
            done = &mut exchange => done,
            ended = &mut connection => match ended {
                Ok(()) => exchange.await,
                Err(error) => Err(unreachable(&error)),
            },
        }
    }

    async fn connect(&self, host: &str) -> Result<TcpStream, HttpsError> {
        if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            return Err(HttpsError::Wrong(host.to_owned(), "an IP address stands where a name must".to_owned()));
        }
        let addresses = self.dns.addresses(host).await?;
        let mut last = None;
        for ip in addresses.ips.into_iter().filter(|ip| self.config.allow_private || is_public(*ip)) {
            match timeout(CONNECT, TcpStream::connect(SocketAddr::new(ip, self.config.port))).await {
                Ok(Ok(tcp)) => return Ok(tcp),
                Ok(Err(error)) => last = Some(error.to_string()),
                Err(_) => last = Some("no answer".to_owned()),
            }
        }
        Err(match last {
            Some(error) => HttpsError::Unreachable(host.to_owned(), error),
            None => HttpsError::Private(host.to_owned()),
        })
    }
}
