//! AUTH PLAIN and LOGIN (RFC 4954; RFC 4616).

use super::reply::Reply;
use base64::Engine as _;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig, general_purpose};
use mesyx_sdk::Secret;
use zeroize::Zeroizing;

/// What a finished exchange gave.
#[derive(Debug)]
pub(crate) struct NameAndPassword {
    pub(crate) name: String,
    pub(crate) password: Secret,
}

/// An exchange that waits for the client's next line.
#[derive(Debug)]
pub(crate) enum Exchange {
    /// PLAIN: everything in one response.
    Plain,
    /// LOGIN: the name.
    LoginName,
    /// LOGIN: the password of that name.
    LoginPassword(String),
}

/// How an exchange goes on.
#[derive(Debug)]
pub(crate) enum Next {
    /// Ask with this challenge (already encoded).
    Ask(Exchange, &'static str),
    /// All is known.
    Done(NameAndPassword),
}

/// `Username:`
const ASK_NAME: &str = "VXNlcm5hbWU6";
/// `Password:`
const ASK_PASSWORD: &str = "UGFzc3dvcmQ6";

/// Padding and its absence are both taken: clients differ, and both mean the same bytes.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

/// Begins an exchange.
pub(crate) fn begin(mechanism: &str, initial: Option<&str>) -> Result<Next, Reply> {
    let exchange = match mechanism.to_ascii_uppercase().as_str() {
        "PLAIN" => Exchange::Plain,
        "LOGIN" => Exchange::LoginName,
        _ => return Err(Reply::new(504, "5.5.4", "use AUTH PLAIN or AUTH LOGIN")),
    };
    match (initial, &exchange) {
        (Some("="), _) => exchange.respond(b""),
        (Some(initial), _) => exchange.respond(initial.as_bytes()),
        (None, Exchange::Plain) => Ok(Next::Ask(exchange, "")),
        (None, _) => Ok(Next::Ask(exchange, ASK_NAME)),
    }
}

impl Exchange {
    /// Goes on with the client's line.
    pub(crate) fn respond(self, line: &[u8]) -> Result<Next, Reply> {
        if line == b"*" {
            return Err(Reply::new(501, "5.7.0", "given up, as you wished"));
        }
        let mut decoded = Zeroizing::new(vec![0; line.len() + 3]);
        let length =
            BASE64.decode_slice(line, &mut decoded).map_err(|_| Reply::new(501, "5.5.2", "that is not base64"))?;
        let text = &decoded[..length];
        match self {
            Self::Plain => plain(text),
            Self::LoginName => {
                let name = std::str::from_utf8(text).map_err(|_| malformed())?.to_owned();
                Ok(Next::Ask(Self::LoginPassword(name), ASK_PASSWORD))
            }
            Self::LoginPassword(name) => Ok(Next::Done(NameAndPassword { name, password: Secret::new(text.to_vec()) })),
        }
    }
}

/// `[authzid] NUL authcid NUL passwd`.
fn plain(text: &[u8]) -> Result<Next, Reply> {
    let mut parts = text.split(|byte| *byte == 0);
    let (Some(acts_as), Some(name), Some(password), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed());
    };
    if !acts_as.is_empty() && acts_as != name {
        return Err(Reply::new(535, "5.7.8", "nobody can log in for another here"));
    }
    let name = std::str::from_utf8(name).map_err(|_| malformed())?.to_owned();
    Ok(Next::Done(NameAndPassword { name, password: Secret::new(password.to_vec()) }))
}

fn malformed() -> Reply {
    Reply::new(501, "5.5.2", "the response is malformed")
}

/// Encodes as a client would; for tests and simulations.
#[must_use]
pub fn plain_response(name: &str, password: &str) -> String {
    general_purpose::STANDARD.encode(format!("\0{name}\0{password}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(next: Result<Next, Reply>) -> (String, Vec<u8>) {
        match next {
            Ok(Next::Done(done)) => (done.name, done.password.expose().to_vec()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn plain_in_one_or_two_steps() {
        let expected = ("alice".to_owned(), b"secret".to_vec());
        assert_eq!(done(begin("plain", Some(&plain_response("alice", "secret")))), expected);
        let Ok(Next::Ask(exchange, "")) = begin("PLAIN", None) else { panic!() };
        assert_eq!(done(exchange.respond(plain_response("alice", "secret").as_bytes())), expected);
        // "alice NUL alice NUL secret", and another's name.
        assert_eq!(done(begin("PLAIN", Some("YWxpY2UAYWxpY2UAc2VjcmV0"))), expected);
        assert_eq!(begin("PLAIN", Some("Ym9iAGFsaWNlAHNlY3JldA==")).unwrap_err().code, 535);
    }

    #[test]
    fn login() {
        let Ok(Next::Ask(exchange, ASK_NAME)) = begin("LOGIN", None) else { panic!() };
        let Ok(Next::Ask(exchange, ASK_PASSWORD)) = exchange.respond(b"YWxpY2U=") else { panic!() };
        assert_eq!(done(exchange.respond(b"c2VjcmV0")), ("alice".to_owned(), b"secret".to_vec()));
    }

    #[test]
    fn malformed_responses() {
        for bad in ["!", "YWxpY2U=", "=", "AAAA", "*"] {
            assert_eq!(begin("PLAIN", Some(bad)).unwrap_err().code, 501, "{bad}");
        }
        assert_eq!(begin("CRAM-MD5", None).unwrap_err().code, 504);
    }
}
