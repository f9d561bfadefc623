//! Logins, certificates, sockets, health.

use super::super::v1;
use super::{address, each, id, invalid, need};
use crate::{
    Accepted, Certificates, ClientInfo, ConfigError, Credentials, Error, Health, ListenSpec, MessageId,
    RecipientStatus, Secret, Sender, TlsIdentity, User, UserId,
};
use rustls_pki_types::PrivateKeyDer;

impl From<Accepted> for v1::Accepted {
    fn from(accepted: Accepted) -> Self {
        Self { id: accepted.id.0.to_vec(), duplicate: accepted.duplicate }
    }
}

impl TryFrom<v1::Accepted> for Accepted {
    type Error = Error;

    fn try_from(wire: v1::Accepted) -> Result<Self, Error> {
        Ok(Self { id: MessageId(id(&wire.id)?), duplicate: wire.duplicate })
    }
}

/// How one message was taken.
impl From<Result<Accepted, Error>> for v1::AcceptResult {
    fn from(result: Result<Accepted, Error>) -> Self {
        use v1::accept_result::Result as Wire;
        Self {
            result: Some(
                result.map_or_else(|error| Wire::Error((&error).into()), |taken| Wire::Accepted(taken.into())),
            ),
        }
    }
}

impl TryFrom<v1::AcceptResult> for Accepted {
    type Error = Error;

    fn try_from(wire: v1::AcceptResult) -> Result<Self, Error> {
        use v1::accept_result::Result as Wire;
        match need(wire.result, "result")? {
            Wire::Accepted(accepted) => accepted.try_into(),
            Wire::Error(error) => Err(super::super::status::told(&error)),
        }
    }
}

/// The user behind a question of the directory.
pub(in super::super) fn asking(sender: &Sender) -> Option<Vec<u8>> {
    match sender {
        Sender::Stranger => None,
        Sender::User(user) => Some(user.0.to_vec()),
    }
}

/// Who asks the directory.
pub(in super::super) fn sender(user: Option<Vec<u8>>) -> Result<Sender, Error> {
    Ok(match user {
        None => Sender::Stranger,
        Some(user) => Sender::User(UserId(id(&user)?)),
    })
}

impl From<RecipientStatus> for v1::RecipientReply {
    fn from(status: RecipientStatus) -> Self {
        let (status, why) = match status {
            RecipientStatus::Local => (v1::RecipientStatus::Local, String::new()),
            RecipientStatus::Unknown => (v1::RecipientStatus::Unknown, String::new()),
            RecipientStatus::Foreign => (v1::RecipientStatus::Foreign, String::new()),
            RecipientStatus::Remote => (v1::RecipientStatus::Remote, String::new()),
            RecipientStatus::Refused(why) => (v1::RecipientStatus::Refused, why),
        };
        Self { status: status.into(), why }
    }
}

impl From<v1::RecipientReply> for RecipientStatus {
    fn from(wire: v1::RecipientReply) -> Self {
        match v1::RecipientStatus::try_from(wire.status) {
            Ok(v1::RecipientStatus::Local) => Self::Local,
            Ok(v1::RecipientStatus::Unknown) => Self::Unknown,
            Ok(v1::RecipientStatus::Remote) => Self::Remote,
            Ok(v1::RecipientStatus::Refused) => Self::Refused(wire.why),
            Ok(v1::RecipientStatus::Unspecified | v1::RecipientStatus::Foreign) | Err(_) => Self::Foreign,
        }
    }
}

impl From<&Credentials> for v1::LoginRequest {
    fn from(credentials: &Credentials) -> Self {
        Self {
            name: credentials.name.clone(),
            password: credentials.password.expose().to_vec(),
            ip: credentials.client.ip.to_string(),
            protocol: credentials.client.protocol.clone(),
            tls: credentials.client.tls,
        }
    }
}

impl TryFrom<v1::LoginRequest> for Credentials {
    type Error = Error;

    fn try_from(wire: v1::LoginRequest) -> Result<Self, Error> {
        // First of all, so that it is erased however this ends.
        let password = Secret::new(wire.password);
        if wire.protocol.len() > 64 {
            return Err(invalid("a protocol's name has at most 64 bytes"));
        }
        let ip = wire.ip.parse().map_err(|_| invalid("the client's IP address can't be read"))?;
        Ok(Self { name: wire.name, password, client: ClientInfo { ip, protocol: wire.protocol, tls: wire.tls } })
    }
}

impl From<&User> for v1::User {
    fn from(user: &User) -> Self {
        Self { id: user.id.0.to_vec(), name: user.name.clone(), address: user.address.to_string() }
    }
}

impl TryFrom<v1::User> for User {
    type Error = Error;

    fn try_from(wire: v1::User) -> Result<Self, Error> {
        let address = address(&wire.address)?;
        let address = address.as_mail().ok_or_else(|| invalid("a user's address is no mail address"))?;
        Ok(Self { id: UserId(id(&wire.id)?), name: wire.name, address: address.clone() })
    }
}

/// With the private keys.
impl From<&Certificates> for v1::CertificatesReply {
    fn from(certificates: &Certificates) -> Self {
        let identity = |identity: &TlsIdentity| v1::TlsIdentity {
            names: identity.names.clone(),
            chain: identity.chain.iter().map(|certificate| certificate.to_vec()).collect(),
            key: identity.key.secret_der().to_vec(),
            format: match &identity.key {
                PrivateKeyDer::Pkcs1(_) => v1::KeyFormat::Pkcs1,
                PrivateKeyDer::Sec1(_) => v1::KeyFormat::Sec1,
                _ => v1::KeyFormat::Pkcs8,
            }
            .into(),
        };
        Self { identities: certificates.0.iter().map(identity).collect() }
    }
}

impl TryFrom<v1::CertificatesReply> for Certificates {
    type Error = Error;

    fn try_from(wire: v1::CertificatesReply) -> Result<Self, Error> {
        let identity = |identity: v1::TlsIdentity| {
            let key = match v1::KeyFormat::try_from(identity.format) {
                Ok(v1::KeyFormat::Unspecified | v1::KeyFormat::Pkcs8) => PrivateKeyDer::Pkcs8(identity.key.into()),
                Ok(v1::KeyFormat::Pkcs1) => PrivateKeyDer::Pkcs1(identity.key.into()),
                Ok(v1::KeyFormat::Sec1) => PrivateKeyDer::Sec1(identity.key.into()),
                Err(_) => return Err(invalid("a private key is written in a way that is not known here")),
            };
            let chain = identity.chain.into_iter().map(Into::into).collect();
            Ok(TlsIdentity { names: identity.names, chain, key })
        };
        Ok(Self(each(wire.identities, identity)?))
    }
}

impl From<&ListenSpec> for v1::ListenSpec {
    fn from(spec: &ListenSpec) -> Self {
        Self { name: spec.name.clone(), address: spec.address.to_string() }
    }
}

impl TryFrom<v1::ListenSpec> for ListenSpec {
    type Error = Error;

    fn try_from(wire: v1::ListenSpec) -> Result<Self, Error> {
        if wire.name.is_empty() || wire.name.len() > 64 || wire.name.contains(char::is_control) {
            return Err(invalid("a listener's name has 1 to 64 bytes and no control character"));
        }
        let address = wire.address.parse().map_err(|_| invalid("a listener's address is not IP:PORT"))?;
        Ok(Self { name: wire.name, address })
    }
}

impl From<&Health> for v1::HealthRequest {
    fn from(health: &Health) -> Self {
        use v1::health_request::Health as Wire;
        let health = match health {
            Health::Listening { name, address } => {
                Wire::Listening(v1::ListenSpec { name: name.clone(), address: address.to_string() })
            }
            Health::Ready => Wire::Ready(v1::Ready {}),
            Health::Degraded(why) => Wire::Degraded(why.clone()),
        };
        Self { health: Some(health) }
    }
}

/// What a bridge tells; `None` for what is not known here.
pub(in super::super) fn health(wire: v1::HealthRequest) -> Result<Option<Health>, Error> {
    use v1::health_request::Health as Wire;
    Ok(match wire.health {
        Some(Wire::Listening(spec)) => {
            let spec = ListenSpec::try_from(spec)?;
            Some(Health::Listening { name: spec.name, address: spec.address })
        }
        Some(Wire::Ready(_)) => Some(Health::Ready),
        Some(Wire::Degraded(why)) => {
            Some(Health::Degraded(super::super::status::cut(&why).replace(|c: char| c.is_control(), " ")))
        }
        None => None,
    })
}

impl From<&ConfigError> for v1::ConfigError {
    fn from(error: &ConfigError) -> Self {
        Self { path: error.path.clone(), what: error.what.clone(), fix: error.fix.clone() }
    }
}

impl From<v1::ConfigError> for ConfigError {
    fn from(wire: v1::ConfigError) -> Self {
        let line = |text: &str| super::super::status::cut(text).replace(|c: char| c.is_control(), " ");
        Self { path: line(&wire.path), what: line(&wire.what), fix: line(&wire.fix) }
    }
}
