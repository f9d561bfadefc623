//! CAPABILITY, STARTTLS, LOGIN, AUTHENTICATE and ENABLE.

use crate::connection::{Connection, Fault, Handled, LoggedIn, Reply};
use crate::server::stopped;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mesyx_sdk::{ClientInfo, Credentials, ErrorKind, Secret};
use std::io;
use zeroize::Zeroizing;

/// What is offered at all times.
const ALWAYS: &str = "IMAP4rev1 LITERAL+ SASL-IR ID ENABLE";
/// What is offered once logged in.
const LOGGED_IN: &str = "IDLE NAMESPACE CHILDREN UIDPLUS MOVE UNSELECT SPECIAL-USE CREATE-SPECIAL-USE CONDSTORE QRESYNC \
    ESEARCH LIST-EXTENDED LIST-STATUS STATUS=SIZE OBJECTID MULTIAPPEND UTF8=ACCEPT";

impl Connection {
    /// The capabilities as they are now, with the word CAPABILITY in front.
    pub(crate) fn capabilities(&self) -> String {
        let mut text = format!("CAPABILITY {ALWAYS}");
        if self.user.is_some() {
            text.push(' ');
            text.push_str(LOGGED_IN);
            text.push_str(&format!(" APPENDLIMIT={}", self.shared.limits.append_bytes));
            return text;
        }
        if self.peer.may_start_tls {
            text.push_str(" STARTTLS");
        }
        text.push_str(if self.peer.plain_auth { " AUTH=PLAIN" } else { " LOGINDISABLED" });
        text
    }

    pub(crate) async fn start_tls(&mut self, tag: &str) -> Handled {
        if self.peer.tls {
            return Ok(Reply::bad("The connection is under TLS already"));
        }
        if self.user.is_some() {
            return Ok(Reply::bad("STARTTLS must come before the login"));
        }
        let config = self.shared.tls.as_ref().filter(|_| self.peer.may_start_tls).map(|tls| tls.config());
        let config = match config {
            Some(Ok(config)) => config,
            Some(Err(error)) => return Ok(Reply::no(error.message().to_owned()).code("UNAVAILABLE")),
            None => return Ok(Reply::bad("There is no TLS here")),
        };
        // What follows the command in clear may come from somebody in between: the connection ends, unanswered.
        if !self.wire.framer().is_empty() {
            tracing::warn!("an IMAP client sent more behind STARTTLS without waiting; its connection was dropped");
            return Err(Fault::Bye("Wait for the answer to STARTTLS".into()));
        }
        self.wire.out().put(format_args!("{tag} OK begin TLS now\r\n"));
        self.wire.flush().await?;
        let mut stopping = self.shared.stopping.clone();
        tokio::select! {
            done = self.wire.start_tls(config) => done?,
            () = stopped(&mut stopping) => return Err(io::Error::other("stopped during a TLS handshake").into()),
        }
        self.peer.tls = true;
        self.peer.may_start_tls = false;
        self.peer.plain_auth = true;
        Err(Fault::Answered)
    }

    pub(crate) async fn login(&mut self, name: Vec<u8>, password: Secret) -> Handled {
        if let Some(refused) = self.no_login() {
            return Ok(refused);
        }
        match String::from_utf8(name) {
            Ok(name) => self.check(name, password).await,
            Err(_) => self.failed(Reply::no("A user name must be UTF-8").code("AUTHENTICATIONFAILED")),
        }
    }

    pub(crate) async fn authenticate(&mut self, mechanism: &str, initial: Option<Secret>) -> Handled {
        if let Some(refused) = self.no_login() {
            return Ok(refused);
        }
        if mechanism != "PLAIN" {
            return Ok(Reply::no("Only PLAIN is offered").code("CANNOT"));
        }
        let response = match initial {
            Some(initial) => initial,
            None => {
                self.wire.out().text("+ \r\n");
                let deadline = self.deadline();
                let line = self.frame(true, deadline).await?;
                Secret::new(line.bytes().to_vec())
            }
        };
        if response.expose() == b"*" {
            return Ok(Reply::bad("AUTHENTICATE was given up"));
        }
        match plain(response.expose()) {
            Ok((name, password)) => self.check(name, password).await,
            Err(why) => Ok(Reply::bad(why)),
        }
    }

    /// Why nobody can log in now, if so.
    fn no_login(&self) -> Option<Reply> {
        if self.user.is_some() {
            return Some(Reply::bad("You are logged in already"));
        }
        let text = "Passwords are taken under TLS only; use STARTTLS or the port of imaps";
        (!self.peer.plain_auth).then(|| Reply::no(text).code("PRIVACYREQUIRED"))
    }

    async fn check(&mut self, name: String, password: Secret) -> Handled {
        let client = ClientInfo { ip: self.peer.ip, protocol: "imap".into(), tls: self.peer.tls };
        match self.shared.host.login(Credentials { name, password, client }).await {
            Ok(session) => {
                metrics::counter!("mesyx_imap_logins_total").increment(1);
                tracing::debug!(user = %session.user().id, "logged in by IMAP");
                self.user = Some(Box::new(LoggedIn::new(session)));
                self.wire.framer().logged_in();
                Ok(Reply::ok("logged in").code(self.capabilities()))
            }
            Err(error) => {
                let counts = matches!(error.kind(), ErrorKind::LoginFailed | ErrorKind::TooMany);
                match Fault::from(error) {
                    Fault::Reply(reply) if counts => self.failed(reply),
                    fault => Err(fault),
                }
            }
        }
    }

    fn failed(&mut self, reply: Reply) -> Handled {
        metrics::counter!("mesyx_imap_failed_logins_total").increment(1);
        self.login_failures += 1;
        if self.login_failures < self.shared.limits.login_failures {
            return Ok(reply);
        }
        Err(Fault::Bye("Too many failed logins".into()))
    }

    pub(crate) fn enable(&mut self, names: &[String]) -> Handled {
        let mut enabled = String::new();
        for name in names {
            let user = self.user()?;
            match name.as_str() {
                "CONDSTORE" => self.enable_condstore()?,
                "QRESYNC" => {
                    user.qresync = true;
                    self.enable_condstore()?;
                }
                "UTF8=ACCEPT" if user.selected.is_some() => {
                    return Ok(Reply::bad("UTF8=ACCEPT can't be enabled while a mailbox is selected"));
                }
                "UTF8=ACCEPT" => user.utf8 = true,
                // Others are passed over (RFC 5161, section 3.1).
                _ => continue,
            }
            enabled.push(' ');
            enabled.push_str(name);
        }
        self.wire.out().put(format_args!("* ENABLED{enabled}\r\n"));
        Ok(Reply::ok("enabled"))
    }
}

/// Reads the response of SASL PLAIN (RFC 4616) in base64: `authorisation NUL name NUL password`.
fn plain(encoded: &[u8]) -> Result<(String, Secret), &'static str> {
    // `=` alone is an empty initial response (RFC 4959, section 3).
    let decoded = STANDARD.decode(encoded).map(Zeroizing::new).map_err(|_| "expected base64")?;
    let mut fields = decoded.split(|&byte| byte == 0);
    let wrong = "expected what RFC 4616 says: authorisation identity, NUL, user name, NUL, password";
    let (Some(acting_as), Some(name), Some(password), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(wrong);
    };
    if !acting_as.is_empty() && acting_as != name {
        return Err("nobody can act for somebody else here: leave the authorisation identity out");
    }
    let name = std::str::from_utf8(name).map_err(|_| wrong)?;
    Ok((name.to_owned(), Secret::new(password.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_responses() {
        let encode = |text: &str| STANDARD.encode(text).into_bytes();
        let (name, password) = plain(&encode("\0tim\0tanstaaftanstaaf")).expect("the example of RFC 4616");
        assert_eq!((name.as_str(), password.expose()), ("tim", &b"tanstaaftanstaaf"[..]));
        assert!(plain(&encode("tim\0tim\0x")).is_ok());
        for wrong in ["Ursel\0Kurt\0xipj3plmq", "tim\0x", "\0tim\0x\0y", ""] {
            assert!(plain(&encode(wrong)).is_err(), "{wrong}");
        }
        assert!(plain(b"!").is_err());
        assert!(plain(b"=").is_err());
    }
}
