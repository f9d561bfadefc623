//! Sending as a user: who may stand as the sender.

use super::session::AccessSession;
use crate::intake::is_own;
use mesyx_sdk::summary::MailAddressee;
use mesyx_sdk::{Accepted, Domain, Envelope, Error, ErrorKind, MailAddress, Sender, Session, Style, mime};

impl AccessSession {
    pub(super) async fn send(&self, mut envelope: Envelope) -> Result<Accepted, Error> {
        // A line is written anew with its speaker's own name, whatever its headers say.
        match (envelope.style, &envelope.from) {
            (Style::Instant, None) => {}
            (Style::Instant, Some(from)) if is_own(&self.shared, self.user().id, from) => {}
            (Style::Instant, Some(from)) => return Err(foreign(&from.to_string())),
            _ => self.check_sender(&envelope)?,
        }
        envelope.origin.authenticated = Some(self.user().id);
        let bridge = std::mem::take(&mut envelope.origin.bridge);
        let bridge = if bridge.is_empty() { "submission".to_owned() } else { bridge };
        if let Some(accepted) = self.shared.submit_line(&self.keys, &bridge, &envelope).await? {
            return Ok(accepted);
        }
        if envelope.style == Style::Instant {
            self.check_sender(&envelope)?;
        }
        self.shared.take_in(&bridge, envelope, &Sender::User(self.user().id), Some(&self.keys)).await
    }

    /// The envelope sender (where it is not null, as of a disposition notice), and every address in From and Sender, must be the user's own.
    /// Looked for in the exact headers, every field of that name, so that a second From hides nothing.
    fn check_sender(&self, envelope: &Envelope) -> Result<(), Error> {
        let user = self.user().id;
        if let Some(from) = &envelope.from
            && !is_own(&self.shared, user, from)
        {
            return Err(foreign(&format!("{from} (in the envelope)")));
        }
        let mut authors = 0;
        for name in ["From", "Sender"] {
            let addresses = mime::addresses_in(&envelope.content, name)
                .map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()))?;
            for addressee in addresses {
                let MailAddressee::Mailbox { local, domain, .. } = addressee else { continue };
                if !address(&local, &domain).is_some_and(|address| is_own(&self.shared, user, &address.into())) {
                    let (local, domain) = (String::from_utf8_lossy(&local), String::from_utf8_lossy(&domain));
                    return Err(foreign(&format!("{local}@{domain} (in the header {name})")));
                }
                authors += usize::from(name == "From");
            }
        }
        if authors == 0 {
            let text = "the message has no From with an address; write one of your own addresses there";
            return Err(Error::new(ErrorKind::Forbidden, text));
        }
        Ok(())
    }
}

fn address(local: &[u8], domain: &[u8]) -> Option<MailAddress> {
    let domain: Domain = std::str::from_utf8(domain).ok()?.parse().ok()?;
    MailAddress::new(std::str::from_utf8(local).ok()?, domain).ok()
}

fn foreign(whom: &str) -> Error {
    Error::new(ErrorKind::Forbidden, format!("{whom} is not an address of yours; send as one that is"))
}
