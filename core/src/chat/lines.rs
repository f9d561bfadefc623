//! Lines as they are stored, and as they are read back.

use mesyx_sdk::{
    Address, ChatLine, Content, Domain, Error, ErrorKind, Line, LineHeaders, MailboxId, MessageId, Protection,
    Timestamp, Uid,
};
use std::fmt::Write as _;

/// The header that tells what protected a line on its way here.
const PROTECTION: &str = "Mesyx-Protection";

/// A line that is to be stored.
#[derive(Debug, Clone)]
pub(crate) struct Spoken {
    pub(crate) id: MessageId,
    pub(crate) from: Address,
    pub(crate) nick: String,
    /// The other one, or the group.
    pub(crate) to: Address,
    /// Whether `to` is a group: answers go there.
    pub(crate) group: bool,
    pub(crate) line: Line,
    pub(crate) protection: Protection,
    /// The Message-ID of what it answers.
    pub(crate) answers: Option<String>,
}

impl Spoken {
    /// The MIME entity that is stored.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where an address has no spelling in mail.
    pub(crate) fn content(&self, at: Timestamp, domain: &Domain) -> Result<Content, Error> {
        let invalid = |error: mesyx_sdk::AddressError| Error::new(ErrorKind::Invalid, error.to_string());
        let headers =
            LineHeaders { id: self.id, from: self.from.clone(), nick: self.nick.clone(), to: self.to.clone(), at };
        let body = self.line.to_content(&headers, domain).map_err(invalid)?;
        let mut front = String::with_capacity(body.len() + 200);
        if let Some(protection) = spell(&self.protection) {
            let _ = write!(front, "{PROTECTION}: {protection}\r\n");
        }
        if let Some(answers) = self.answers.as_deref().filter(|id| is_message_id(id)) {
            let _ = write!(front, "In-Reply-To: <{answers}>\r\nReferences: <{answers}>\r\n");
        }
        if self.group {
            let to = mesyx_sdk::chat::to_mail(&self.to, domain).map_err(invalid)?;
            let _ = write!(front, "Reply-To: <{to}>\r\n");
        }
        if front.is_empty() {
            return Ok(body);
        }
        let mut whole = front.into_bytes();
        whole.extend_from_slice(&body);
        Ok(Content::from(whole))
    }

    /// As readers of a feed see it.
    pub(crate) fn chat_line(&self, mailbox: MailboxId, uid: Uid, at: Timestamp, own: bool) -> ChatLine {
        ChatLine {
            mailbox,
            uid,
            id: self.id,
            at,
            from: self.from.clone(),
            nick: self.nick.clone(),
            own,
            seen: own,
            line: self.line.clone(),
            protection: self.protection.clone(),
        }
    }
}

/// A stored line, opened; `None` for a message that is no line.
pub(crate) fn read(
    content: &Content,
    domain: &Domain,
    (mailbox, uid, seen): (MailboxId, Uid, bool),
    me: &Address,
) -> Option<ChatLine> {
    let (headers, line) = Line::from_content(content, domain)?;
    let protection = mesyx_sdk::mime::fields(content).find(|field| field.is(PROTECTION));
    let protection = protection.and_then(|field| String::from_utf8(mesyx_sdk::mime::unfold(field.value)).ok());
    let LineHeaders { id, from, nick, at, .. } = headers;
    let own = from == *me;
    let protection = protection.map_or(Protection::None, |text| unspell(&text));
    Some(ChatLine { mailbox, uid, id, at, from, nick, own, seen, line, protection })
}

fn spell(protection: &Protection) -> Option<String> {
    let word = |text: &str| text.chars().filter(|c| c.is_ascii_graphic() && *c != ';').take(80).collect::<String>();
    match protection {
        Protection::Tls { version, cipher } => Some(format!("tls; {}; {}", word(version), word(cipher))),
        Protection::Otr { verified: true } => Some("otr; verified".to_owned()),
        Protection::Otr { verified: false } => Some("otr".to_owned()),
        Protection::Pgp => Some("pgp".to_owned()),
        _ => None,
    }
}

fn unspell(text: &str) -> Protection {
    let mut words = text.split("; ");
    match (words.next(), words.next(), words.next()) {
        (Some("tls"), Some(version), Some(cipher)) => {
            Protection::Tls { version: version.to_owned(), cipher: cipher.to_owned() }
        }
        (Some("otr"), verified, _) => Protection::Otr { verified: verified == Some("verified") },
        (Some("pgp"), ..) => Protection::Pgp,
        _ => Protection::None,
    }
}

/// A Message-ID without its brackets, that can't make a second header.
fn is_message_id(id: &str) -> bool {
    id.len() <= 250 && id.contains('@') && id.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_back_with_what_protected_it() {
        let domain = "example.org".parse().expect("a domain");
        let me: Address = "mesyx:alice@example.org".parse().expect("an address");
        let from: Address = "irc:libera/bob".parse().expect("an address");
        let tls = Protection::Tls { version: "TLSv1.3".into(), cipher: "AES".into() };
        for protection in
            [Protection::None, Protection::Otr { verified: true }, Protection::Otr { verified: false }, tls]
        {
            let spoken = Spoken {
                id: MessageId([1; 16]),
                from: from.clone(),
                nick: "Bob".into(),
                to: me.clone(),
                group: false,
                line: Line::say("hello"),
                protection,
                answers: Some("x@y\r\nX: 1".into()),
            };
            let content = spoken.content(Timestamp(5), &domain).expect("an entity");
            assert!(!String::from_utf8_lossy(&content).contains("In-Reply-To"));
            let mailbox = MailboxId([2; 16]);
            let read = read(&content, &domain, (mailbox, 3, false), &me).expect("a line");
            assert_eq!(read, spoken.chat_line(mailbox, 3, Timestamp(5), false));
        }
    }
}
