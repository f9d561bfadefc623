//! The table `http`: pages for mail programs and for other hosts.

use super::locate::Located;
use mesyx_sdk::{Domain, ListenSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

/// Pages for mail programs and other hosts.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Http {
    /// Where to listen. Unless given: nowhere. Needs a restart.
    #[schemars(extend("examples" = [[
        { "name": "https-v4", "address": "0.0.0.0:443" },
        { "name": "https-v6", "address": "[::]:443" },
    ]]))]
    pub(crate) listeners: Option<Vec<HttpListener>>,
    /// Shows anybody who asks for an address of ours the OpenPGP certificate of its user.
    pub(crate) wkd: bool,
    /// Tells mail programs how to reach the listeners of imap and submission.
    pub(crate) autoconfig: bool,
    /// The servers that mail programs are told of, where these are others than the listeners here, as behind a proxy.
    #[schemars(extend("examples" = [[{ "service": "imaps", "host": "imap.example.org", "port": 993 }]]))]
    pub(crate) announce: Option<Vec<Announce>>,
    /// What other hosts are told of TLS on the way to us (MTA-STS, RFC 8461).
    pub(crate) mta_sts: MtaSts,
    /// What a connection may cost.
    pub(crate) limits: HttpLimits,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listeners: None,
            wkd: true,
            autoconfig: true,
            announce: None,
            mta_sts: MtaSts::default(),
            limits: HttpLimits::default(),
        }
    }
}

/// A listening socket.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpListener {
    /// Its name in `mesyx status`; systemd's `FileDescriptorName=` for it is `mesyx.NAME`.
    pub(crate) name: String,
    /// Address and port, such as `0.0.0.0:443` or `[::]:443`; IPv4 and IPv6 are listed apart.
    pub(crate) address: String,
    /// With TLS. Without it, for a proxy on this machine that does TLS, or for mail programs that ask on port 80.
    #[serde(default = "yes")]
    pub(crate) tls: bool,
}

const fn yes() -> bool {
    true
}

/// A server that mail programs are told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Announce {
    /// What it serves.
    pub(crate) service: Service,
    /// Its name.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
}

/// What a mail program talks to. The order is that of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Service {
    /// IMAP with TLS from the first byte.
    Imaps,
    /// IMAP with STARTTLS.
    Imap,
    /// Submission with TLS from the first byte.
    Submissions,
    /// Submission with STARTTLS.
    Submission,
}

impl Service {
    /// Its name in SRV records (RFC 6186, RFC 8314).
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Imaps => "imaps",
            Self::Imap => "imap",
            Self::Submissions => "submissions",
            Self::Submission => "submission",
        }
    }
}

/// The MTA-STS policy.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MtaSts {
    /// What others do where TLS to us can't be verified: none (as before), testing (deliver, and report where asked to), enforce (don't deliver).
    pub(crate) mode: StsMode,
    /// For how many seconds others remember the policy: a week. Longer protects better against who stands between, and
    /// makes a mistake last longer.
    #[schemars(range(min = 86_400, max = 31_557_600))]
    pub(crate) max_age: u32,
    /// The hosts of MX records; `*.example.org` for any one name below. Unless given, this host alone.
    #[schemars(extend("examples" = [["mail.example.org"]]))]
    pub(crate) mx: Option<Vec<String>>,
}

impl Default for MtaSts {
    fn default() -> Self {
        Self { mode: StsMode::Testing, max_age: 604_800, mx: None }
    }
}

/// RFC 8461, section 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StsMode {
    /// No policy.
    None,
    /// To be reported, not followed.
    Testing,
    /// To be followed.
    Enforce,
}

/// What a connection may cost.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HttpLimits {
    /// Connections at once, over all listeners: each costs some 50 KiB. Needs a restart.
    #[schemars(range(min = 1, max = 100_000))]
    pub(crate) connections: usize,
    /// Connections at once from one IPv4 address or IPv6 /64 network; loopback is not counted. Needs a restart.
    #[schemars(range(min = 1, max = 100_000))]
    pub(crate) connections_per_ip: usize,
    /// Seconds for the head of a request to come in, and for a TLS handshake.
    #[schemars(range(min = 1, max = 300))]
    pub(crate) head_seconds: u64,
    /// Seconds that a connection may last, whatever it does. Nothing here takes long.
    #[schemars(range(min = 5, max = 3600))]
    pub(crate) connection_seconds: u64,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self { connections: 500, connections_per_ip: 50, head_seconds: 10, connection_seconds: 60 }
    }
}

/// The table without errors.
#[derive(Debug, Clone)]
pub(crate) struct CheckedHttp {
    /// Where to listen, and whether with TLS.
    pub(crate) listeners: Vec<(ListenSpec, bool)>,
    /// Whether to serve a Web Key Directory.
    pub(crate) wkd: bool,
    /// Whether to serve settings for mail programs.
    pub(crate) autoconfig: bool,
    /// Servers to tell of instead of our listeners.
    pub(crate) announce: Vec<Announce>,
    /// The MTA-STS policy; `None` for none.
    pub(crate) policy: Option<Policy>,
    /// Connections at once.
    pub(crate) connections: usize,
    /// Connections at once from one network.
    pub(crate) connections_per_ip: usize,
    /// For the head of a request, and for a TLS handshake.
    pub(crate) head: Duration,
    /// For all of a connection.
    pub(crate) life: Duration,
}

/// An MTA-STS policy that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    /// The file's text.
    pub(crate) text: String,
    /// What the TXT record tells: another where the text is another.
    pub(crate) id: String,
}

impl CheckedHttp {
    /// Checks what the schema can't.
    pub(crate) fn of(http: &Http, hostname: &str, located: &mut Located) -> Self {
        let mut names = HashSet::new();
        let mut listeners = Vec::new();
        for (index, listener) in http.listeners.iter().flatten().enumerate() {
            let path = |key: &str| format!("http.listeners[{index}].{key}");
            let named = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if listener.name.is_empty() || !listener.name.chars().all(named) || listener.name == "admin" {
                located.note(
                    &path("name"),
                    "that is no name of a listener",
                    "write some of a-z 0-9 -, as https-v4; not admin",
                );
            } else if !names.insert(&listener.name) {
                located.note(&path("name"), "this name stands here twice", "give each listener its own");
            }
            match listener.address.parse::<SocketAddr>() {
                Ok(address) => listeners.push((ListenSpec { name: listener.name.clone(), address }, listener.tls)),
                Err(_) => {
                    located.note(
                        &path("address"),
                        "that is no IP address with a port",
                        "write 0.0.0.0:443 or [::]:443",
                    );
                }
            }
        }
        let mut announce = Vec::new();
        for (index, server) in http.announce.iter().flatten().enumerate() {
            match server.host.parse::<Domain>() {
                Ok(Domain::Name(name)) if server.port != 0 => {
                    announce.push(Announce { host: name.to_string(), ..server.clone() });
                }
                Ok(Domain::Name(_)) => {
                    located.note(&format!("http.announce[{index}].port"), "0 is no port", "write one, such as 993");
                }
                _ => {
                    let path = format!("http.announce[{index}].host");
                    located.note(&path, "that is no name of a host", "write one such as imap.example.org");
                }
            }
        }
        Self {
            listeners,
            wkd: http.wkd,
            autoconfig: http.autoconfig,
            announce,
            policy: policy(&http.mta_sts, hostname, located),
            connections: http.limits.connections,
            connections_per_ip: http.limits.connections_per_ip,
            head: Duration::from_secs(http.limits.head_seconds),
            life: Duration::from_secs(http.limits.connection_seconds),
        }
    }

    /// Whether something is served by HTTPS, from here or by a proxy before a listener here.
    pub(crate) fn is_served(&self) -> bool {
        !self.listeners.is_empty()
    }
}

fn policy(sts: &MtaSts, hostname: &str, located: &mut Located) -> Option<Policy> {
    let mut hosts = Vec::new();
    for (index, host) in sts.mx.iter().flatten().enumerate() {
        let (star, rest) = host.strip_prefix("*.").map_or(("", host.as_str()), |rest| ("*.", rest));
        match rest.parse::<Domain>() {
            Ok(Domain::Name(name)) => hosts.push(format!("{star}{name}")),
            _ => located.note(
                &format!("http.mta_sts.mx[{index}]"),
                "that is no name of a host",
                "write one such as mail.example.org or *.example.org",
            ),
        }
    }
    if sts.mx.as_ref().is_some_and(Vec::is_empty) {
        located.note("http.mta_sts.mx", "there is none", "name the hosts of your MX records, or leave it out");
    }
    if hosts.is_empty() {
        hosts.push(hostname.to_owned());
    }
    let mode = match sts.mode {
        StsMode::None => return None,
        StsMode::Testing => "testing",
        StsMode::Enforce => "enforce",
    };
    let hosts: String = hosts.iter().map(|host| format!("mx: {host}\r\n")).collect();
    let text = format!("version: STSv1\r\nmode: {mode}\r\n{hosts}max_age: {}\r\n", sts.max_age);
    let id = crate::tls::sha256(text.as_bytes())[..10].iter().map(|byte| format!("{byte:02x}")).collect();
    Some(Policy { text, id })
}
