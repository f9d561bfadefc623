//! Mail from an IRC client: `*mail`, and messages to a mail address.

use base64::Engine as _;
use mesyx_irc_codec::style::plain;
use mesyx_sdk::summary::{MailAddressee, Part, PartKind};
use mesyx_sdk::{
    Address, Content, Envelope, Error, ErrorKind, Flag, FlagChange, Importance, Kind, MailAddress, MailboxId,
    MessageId, Origin, Recipient, Session, Style, Summary, Timestamp, Uid,
};
use time::format_description::well_known::Rfc2822;

/// Mails of one listing.
const LISTED: usize = 10;
/// Lines of a mail that are shown.
const SHOWN: usize = 50;

/// Sends a mail of one paragraph.
pub(super) async fn send(session: &dyn Session, to: &str, text: &str) -> Result<(), Error> {
    let invalid = |what: String| Error::new(ErrorKind::Invalid, what);
    let to: MailAddress = to.parse().map_err(|error| invalid(format!("{error}")))?;
    let user = session.user();
    let (id, now) = (MessageId::random(), Timestamp::now());
    let date = now.utc().format(&Rfc2822).map_err(|error| invalid(error.to_string()))?;
    let text = plain(text);
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{text}\r\n"));
    let lines: Vec<String> =
        encoded.as_bytes().chunks(76).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    let subject: String = text.chars().filter(|c| !c.is_control()).take(40).collect();
    let subject = base64::engine::general_purpose::STANDARD.encode(&subject[..subject.floor_char_boundary(42)]);
    let domain = user.address.domain();
    let content = format!(
        "From: <{}>\r\nTo: <{to}>\r\nDate: {date}\r\nMessage-ID: <{id}@{domain}>\r\nSubject: =?utf-8?b?{subject}?=\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n{}\r\n",
        user.address,
        lines.join("\r\n")
    );
    let envelope = Envelope {
        id,
        dedup: None,
        style: Style::Delayed,
        kind: Kind::Message,
        from: Some(Address::Mail(user.address.clone())),
        to: vec![Recipient::new(Address::Mail(to))],
        conversation: None,
        sent: Some(now),
        received: now,
        importance: Importance::Normal,
        content: Content::from(content.into_bytes()),
        origin: Origin { network: "irc".into(), authenticated: Some(user.id), ..Origin::default() },
        junk: false,
        dsn: mesyx_sdk::Dsn::default(),
    };
    session.submit(envelope).await.map(drop)
}

/// What `*mail` answers.
pub(super) async fn service(session: &dyn Session, text: &str) -> Result<Vec<String>, Error> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        ["list", ..] => list(session).await,
        ["read", number] => match number.parse() {
            Ok(uid) => read(session, uid).await,
            Err(_) => Ok(vec!["Write: read NUMBER, as the list shows it".into()]),
        },
        ["send", to, ..] if words.len() > 2 => {
            let rest = text.trim_start().trim_start_matches("send").trim_start();
            send(session, to, rest.trim_start_matches(to).trim_start()).await?;
            Ok(vec![format!("Sent to {to}")])
        }
        _ => Ok(["list: the newest mails of INBOX", "read NUMBER: one of them", "send ADDRESS TEXT: a new one"]
            .map(str::to_owned)
            .into()),
    }
}

async fn inbox(session: &dyn Session) -> Result<MailboxId, Error> {
    let inbox = session.mailboxes().await?.into_iter().find(|mailbox| mailbox.name.is_inbox());
    inbox.map(|inbox| inbox.id).ok_or_else(|| Error::new(ErrorKind::NotFound, "there is no INBOX"))
}

async fn list(session: &dyn Session) -> Result<Vec<String>, Error> {
    let inbox = inbox(session).await?;
    let entries = session.snapshot(inbox, false).await?.entries;
    let newest = &entries[entries.len().saturating_sub(LISTED)..];
    let uids: Vec<Uid> = newest.iter().map(|entry| entry.uid).collect();
    if uids.is_empty() {
        return Ok(vec!["INBOX is empty".into()]);
    }
    let summaries = session.summaries(inbox, &uids).await?;
    Ok(summaries
        .iter()
        .map(|(uid, summary)| {
            let unread = newest.iter().any(|entry| entry.uid == *uid && !entry.flags.contains(&Flag::Seen));
            format!("{uid}{} {}: {}", if unread { " *" } else { "" }, from(summary), subject(summary))
        })
        .collect())
}

async fn read(session: &dyn Session, uid: Uid) -> Result<Vec<String>, Error> {
    let inbox = inbox(session).await?;
    let summaries = session.summaries(inbox, &[uid]).await?;
    let bodies = session.bodies(inbox, &[uid]).await?;
    let (Some((_, summary)), Some((_, body))) = (summaries.first(), bodies.first()) else {
        return Ok(vec![format!("There is no mail {uid} in INBOX")]);
    };
    let mut lines = vec![format!("From: {}", from(summary)), format!("Subject: {}", subject(summary))];
    let Some(part) = text_part(&summary.structure) else {
        lines.push("It has no plain text; read it with a mail program".into());
        return Ok(lines);
    };
    let range = usize::try_from(part.body.start).unwrap_or(0)..usize::try_from(part.body.end).unwrap_or(0);
    let text = decode(body.get(range).unwrap_or_default(), &part.encoding);
    let mut shown = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
    lines.extend(shown.by_ref().take(SHOWN).map(str::to_owned));
    if shown.next().is_some() {
        lines.push("… (more of it with a mail program)".into());
    }
    session.store_flags(inbox, &[uid], &FlagChange::Add(vec![Flag::Seen]), None).await?;
    Ok(lines)
}

fn from(summary: &Summary) -> String {
    let sender = summary.fields.from.iter().find_map(|addressee| match addressee {
        MailAddressee::Mailbox { local, domain, .. } => {
            Some(format!("{}@{}", String::from_utf8_lossy(local), String::from_utf8_lossy(domain)))
        }
        _ => None,
    });
    sender.unwrap_or_else(|| "(nobody)".into())
}

/// The subject with its encoded words decoded (RFC 2047), where they are UTF-8 or ASCII.
fn subject(summary: &Summary) -> String {
    let raw = summary.fields.subject.clone().unwrap_or_default();
    let raw = String::from_utf8_lossy(&raw).into_owned();
    let mut clear = String::new();
    let mut rest = raw.as_str();
    while let Some(at) = rest.find("=?") {
        let Some(word) = encoded_word(&rest[at + 2..]) else {
            clear.push_str(&rest[..at + 2]);
            rest = &rest[at + 2..];
            continue;
        };
        // White space between two encoded words is none.
        if !rest[..at].trim().is_empty() || clear.is_empty() {
            clear.push_str(&rest[..at]);
        }
        clear.push_str(&word.0);
        rest = &rest[at + 2 + word.1..];
    }
    clear.push_str(rest);
    clear
}

/// `charset?q?text?=`: the text, and the length read.
fn encoded_word(text: &str) -> Option<(String, usize)> {
    let (charset, rest) = text.split_once('?')?;
    let (encoding, rest) = rest.split_once('?')?;
    let (word, _) = rest.split_once("?=")?;
    let length = charset.len() + encoding.len() + word.len() + 4;
    let bytes = match encoding {
        "b" | "B" => base64::engine::general_purpose::STANDARD.decode(word).ok()?,
        "q" | "Q" => unquote(word.replace('_', " ").as_bytes()),
        _ => return None,
    };
    Some((String::from_utf8_lossy(&bytes).into_owned(), length))
}

fn text_part(part: &Part) -> Option<&Part> {
    match &part.kind {
        PartKind::Leaf => {
            let (kind, sub) = &part.content_type;
            (kind.eq_ignore_ascii_case(b"text") && sub.eq_ignore_ascii_case(b"plain")).then_some(part)
        }
        PartKind::Multipart(parts) => parts.iter().find_map(text_part),
        PartKind::Message(..) => None,
    }
}

fn decode(body: &[u8], encoding: &[u8]) -> String {
    let bytes = if encoding.eq_ignore_ascii_case(b"base64") {
        let compact: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        base64::engine::general_purpose::STANDARD.decode(compact).unwrap_or_default()
    } else if encoding.eq_ignore_ascii_case(b"quoted-printable") {
        unquote(body)
    } else {
        body.to_vec()
    };
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Quoted-printable (RFC 2045, section 6.7); what is none stays as it is.
fn unquote(text: &[u8]) -> Vec<u8> {
    let mut clear = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let hex = |digits: &[u8]| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok();
        if byte != b'=' {
            clear.push(byte);
        } else if let Some(next) = after.strip_prefix(b"\r\n").or_else(|| after.strip_prefix(b"\n")) {
            rest = next;
        } else if let Some(value) = after.get(..2).and_then(hex) {
            clear.push(value);
            rest = &after[2..];
        } else {
            clear.push(byte);
        }
    }
    clear
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_text_is_read() {
        assert_eq!(decode(b"caf=C3=A9 =\r\nau lait", b"quoted-printable"), "café au lait");
        assert_eq!(decode(b"Y2Fm\r\nw6k=", b"BASE64"), "café");
        assert_eq!(encoded_word("utf-8?q?caf=C3=A9_x?= y").unwrap(), ("café x".into(), 21));
    }
}
