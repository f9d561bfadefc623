//! One mail transaction: MAIL, RCPT, and DATA or BDAT up to the message that the host is asked to take.

use super::command::{Mail, Rcpt, needs_utf8};
use super::content::{Assembly, Refusal, Whole};
use super::headers::{self, Headers};
use super::path::Path;
use super::reply::Reply;
use super::session::Session;
use super::shares::{Held, Purse};
use super::terms::{Incoming, Role, Step};
use super::trace::{self, Trace};
use mesyx_sdk::{
    Address, Content, Dsn, Envelope, Error, Kind, MailAddress, MessageId, Origin, Protection, Recipient,
    RecipientStatus, Style, Timestamp,
};
use std::sync::Arc;

/// What a transaction has gathered.
#[derive(Debug)]
pub(super) struct Transaction {
    id: MessageId,
    from: Option<MailAddress>,
    utf8: bool,
    dsn: Dsn,
    to: Vec<Recipient>,
    /// Memory of the recipients, counted against the byte budget, because strangers fill it.
    recipients_memory: Option<Held>,
    recipients_bytes: usize,
    /// The message, once DATA or BDAT has begun.
    pub(super) assembly: Option<Assembly>,
}

impl Transaction {
    pub(super) const fn sender(&self) -> Option<&MailAddress> {
        self.from.as_ref()
    }
}

/// A recipient whose address is being looked up.
#[derive(Debug)]
pub(super) struct Pending(Recipient);

/// What a recipient costs besides its texts, in bytes.
const RECIPIENT_OVERHEAD: usize = 128;

impl Session {
    pub(super) fn mail(&mut self, mail: Box<Mail>) -> Option<Step> {
        let submission = self.settings.role == Role::Submission;
        let refusal = if self.greeted.is_none() {
            Reply::new(503, "5.5.1", "say EHLO first")
        } else if submission && self.user.is_none() {
            Reply::new(530, "5.7.0", "log in first")
        } else if self.transaction.is_some() {
            Reply::new(503, "5.5.1", "a message is being handed in already; RSET gives it up")
        } else if mail.size.is_some_and(|size| size > self.settings.limits.message_size as u64) {
            too_large()
        } else if mail.size.is_some_and(|size| size > self.settings.budget.available() as u64) {
            budget_spent()
        } else {
            return match &mail.from {
                Path::Mailbox { address, .. } if submission => {
                    let address = address.clone();
                    self.ask_sender(mail, address)
                }
                _ => {
                    self.begin_transaction(*mail);
                    None
                }
            };
        };
        self.say(refusal);
        None
    }

    pub(super) fn begin_transaction(&mut self, mail: Mail) {
        let from = match mail.from {
            Path::Mailbox { address, .. } => Some(address),
            Path::Null | Path::Postmaster => None,
        };
        self.transaction = Some(Transaction {
            id: MessageId::random(),
            from,
            utf8: mail.utf8,
            dsn: mail.dsn,
            to: Vec::new(),
            recipients_memory: None,
            recipients_bytes: 0,
            assembly: None,
        });
        self.say(Reply::new(250, "2.1.0", "sender ok"));
    }

    pub(super) fn rcpt(&mut self, rcpt: Rcpt) -> Option<Step> {
        match self.judge_rcpt(rcpt) {
            Ok(pending) => {
                let address = pending.0.address.clone();
                self.ask_recipient(pending, address)
            }
            Err(reply) => {
                self.say(reply);
                None
            }
        }
    }

    fn judge_rcpt(&self, rcpt: Rcpt) -> Result<Pending, Reply> {
        let transaction = self.transaction.as_ref().ok_or_else(no_mail)?;
        if transaction.assembly.is_some() {
            return Err(Reply::new(503, "5.5.1", "too late for recipients"));
        }
        if transaction.to.len() >= self.settings.limits.recipients {
            return Err(Reply::new(452, "4.5.3", "too many recipients; send the rest in another message"));
        }
        let utf8 = matches!(rcpt.to, Path::Mailbox { utf8: true, .. })
            || rcpt.original.as_ref().is_some_and(|original| !original.is_ascii());
        if utf8 && !transaction.utf8 {
            return Err(needs_utf8());
        }
        let address = match rcpt.to {
            Path::Mailbox { address, .. } => address,
            Path::Postmaster | Path::Null => self.postmaster()?,
        };
        Ok(Pending(Recipient { address: Address::Mail(address), notify: rcpt.notify, original: rcpt.original }))
    }

    /// `<postmaster>` is the one of this host.
    fn postmaster(&self) -> Result<MailAddress, Reply> {
        let domain = self.settings.hostname.parse();
        domain
            .and_then(|domain| MailAddress::new("postmaster", domain))
            .map_err(|_| Reply::new(451, "4.3.5", "the configured host name is no domain name; tell the operator"))
    }

    pub(super) fn recipient_known(&mut self, pending: Pending, status: Result<RecipientStatus, Error>) {
        let reply = match status {
            Ok(RecipientStatus::Local) => self.add_recipient(pending.0),
            Ok(RecipientStatus::Remote) if self.settings.role == Role::Submission => self.add_recipient(pending.0),
            Ok(RecipientStatus::Unknown) => Reply::new(550, "5.1.1", "there is nobody of that name here"),
            Ok(RecipientStatus::Foreign) if self.settings.role == Role::Submission => {
                Reply::new(550, "5.7.1", "this server brings nothing there; only its own addresses work")
            }
            // No relay for strangers, whatever the host says.
            Ok(RecipientStatus::Foreign | RecipientStatus::Remote) => {
                Reply::new(550, "5.7.1", "that address is not ours, and we relay for nobody")
            }
            Ok(RecipientStatus::Refused(why)) => Reply::new(550, "5.7.1", why),
            Err(error) => Reply::of_error(&error),
        };
        self.say(reply);
    }

    fn add_recipient(&mut self, recipient: Recipient) -> Reply {
        let purse = self.purse();
        let Some(transaction) = &mut self.transaction else { return no_mail() };
        let ok = Reply::new(250, "2.1.5", "recipient ok");
        if transaction.to.iter().any(|known| known.address == recipient.address) {
            return ok;
        }
        let text = recipient.address.as_mail().map_or(0, |mail| mail.local().len() + 64);
        let bytes = transaction.recipients_bytes
            + text
            + recipient.original.as_ref().map_or(0, String::len)
            + RECIPIENT_OVERHEAD;
        if !purse.grow(&mut transaction.recipients_memory, bytes) {
            return budget_spent();
        }
        transaction.recipients_bytes = bytes;
        transaction.to.push(recipient);
        ok
    }

    fn purse(&self) -> Purse {
        let budget = self.settings.budget.clone();
        match self.user {
            Some(_) => Purse::whole(budget),
            None => Purse::of_stranger(budget, Arc::clone(&self.settings.shares), self.ip),
        }
    }

    pub(super) fn begin_data(&mut self, now: Timestamp) {
        match self.ready_for_content() {
            Ok(()) if self.transaction.as_ref().is_some_and(|transaction| transaction.assembly.is_some()) => {
                self.say(Reply::new(503, "5.5.1", "go on with BDAT, or give up with RSET"));
            }
            Ok(()) => {
                self.begin_assembly(now);
                self.say(Reply::plain(354, "send the message; a line with a dot alone ends it"));
                self.receive_data();
            }
            Err(reply) => self.say(reply),
        }
    }

    fn ready_for_content(&self) -> Result<(), Reply> {
        match &self.transaction {
            None => Err(no_mail()),
            Some(transaction) if transaction.to.is_empty() => Err(Reply::new(554, "5.5.1", "no recipient was taken")),
            Some(_) => Ok(()),
        }
    }

    /// The chunk's bytes follow the command at once, so they are read even where they are not wanted.
    pub(super) fn begin_chunk(&mut self, size: u64, last: bool, now: Timestamp) {
        let wanted = self.ready_for_content().is_ok();
        if wanted && self.transaction.as_ref().is_some_and(|transaction| transaction.assembly.is_none()) {
            self.begin_assembly(now);
        }
        let held =
            self.transaction.as_ref().and_then(|transaction| transaction.assembly.as_ref()).map_or(0, Assembly::len);
        if size > (self.settings.limits.message_size - held) as u64 {
            return self.close_with(Reply::new(552, "5.3.4", "the message is too large; goodbye"));
        }
        self.receive_chunk(size, last);
    }

    /// A chunk's last byte is in.
    pub(super) fn chunk_done(&mut self, last: bool, now: Timestamp) -> Option<Step> {
        let state = self.transaction.as_ref().and_then(|transaction| transaction.assembly.as_ref());
        let reply = match state {
            None => {
                let reply = self.ready_for_content().err().unwrap_or_else(no_mail);
                self.transaction = None;
                reply
            }
            Some(assembly) if assembly.refused().is_some() || last => return self.finish(now),
            Some(assembly) => Reply::new(250, "2.0.0", format!("{} bytes so far", assembly.len())),
        };
        self.say(reply);
        None
    }

    fn begin_assembly(&mut self, now: Timestamp) {
        let Some(transaction) = &self.transaction else { return };
        let trace = Trace {
            from: transaction.from.as_ref(),
            helo: self.greeted.as_ref().map_or("unknown", |greeted| greeted.name.as_str()),
            ip: self.ip,
            hostname: &self.settings.hostname,
            extended: self.greeted.as_ref().is_some_and(|greeted| greeted.extended),
            utf8: transaction.utf8,
            authenticated: self.user.is_some(),
            tls: self.tls.as_ref(),
            id: transaction.id,
            now,
        };
        let headers = trace.headers();
        let assembly = Assembly::new(headers, self.settings.limits.message_size, self.purse());
        if let Some(transaction) = &mut self.transaction {
            transaction.assembly = Some(assembly);
        }
    }

    /// The message is in, to its true end: ask the host to take it, or refuse it.
    pub(super) fn finish(&mut self, now: Timestamp) -> Option<Step> {
        let mut transaction = self.transaction.take()?;
        let result = match transaction.assembly.take()?.finish() {
            Ok(whole) => self.incoming(transaction, whole, now),
            Err(refusal) => Err(refused(refusal)),
        };
        match result {
            Ok(incoming) => self.take(incoming),
            Err(reply) => {
                self.say(reply);
                None
            }
        }
    }

    fn incoming(&self, transaction: Transaction, whole: Whole, now: Timestamp) -> Result<Incoming, Reply> {
        let Whole { mut bytes, trace, reservation } = whole;
        if bytes.get(trace).is_some_and(|first| matches!(first, b' ' | b'\t')) {
            return Err(Reply::new(
                554,
                "5.6.0",
                "the message begins with white space, which would continue our header",
            ));
        }
        if headers::are_too_large(&bytes[trace..]) {
            return Err(Reply::new(554, "5.6.0", "the message has more than 10,000 header lines or 1 MB of headers"));
        }
        let headers = Headers::scan(&bytes, trace);
        if headers.received > self.settings.limits.received {
            return Err(Reply::new(554, "5.4.6", "the message has been through too many hosts; it goes in a circle"));
        }
        let sent = headers.sent(&bytes).map(Timestamp::from_seconds);
        let message_id = headers.id(&bytes).map(<[u8]>::to_vec);
        if self.settings.role == Role::Submission {
            let id = format!("<{}@{}>", MessageId::random(), self.settings.hostname);
            headers::complete(&mut bytes, trace, &headers, &trace::date(now), &id);
        }
        let peer = self.greeted.as_ref().map_or("", |greeted| greeted.name.as_str());
        let envelope = Envelope {
            id: transaction.id,
            dedup: None,
            style: Style::Delayed,
            kind: Kind::Message,
            from: transaction.from.map(Address::Mail),
            to: transaction.to,
            conversation: None,
            sent,
            received: now,
            importance: headers.importance,
            content: Content::from(bytes),
            origin: Origin {
                bridge: String::new(),
                network: "smtp".to_owned(),
                peer: Some(format!("{} ({peer})", self.ip)),
                protection: self.tls.as_ref().map_or(Protection::None, |tls| Protection::Tls {
                    version: tls.version.clone(),
                    cipher: tls.cipher.clone(),
                }),
                authenticated: self.user,
                checks: Vec::new(),
            },
            junk: false,
            dsn: transaction.dsn,
        };
        Ok(Incoming { envelope, trace, message_id, reservation })
    }
}

fn no_mail() -> Reply {
    Reply::new(503, "5.5.1", "say MAIL FROM first")
}

fn too_large() -> Reply {
    Reply::new(552, "5.3.4", "the message is larger than SIZE allows")
}

fn budget_spent() -> Reply {
    Reply::new(452, "4.3.1", "too many messages are coming in at once; try again later")
}

fn refused(refusal: Refusal) -> Reply {
    match refusal {
        Refusal::BareLineEnd => {
            Reply::new(554, "5.6.0", "the message has a CR or LF that is no part of a CR LF; it was not taken")
        }
        Refusal::Nul => Reply::new(554, "5.6.0", "the message has a NUL byte; it was not taken"),
        Refusal::TooLarge => too_large(),
        Refusal::Budget => budget_spent(),
    }
}
