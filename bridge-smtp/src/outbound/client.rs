//! The client's side of SMTP without sockets and without a clock: bytes in, bytes and needs out.
//!
//! ```text
//!  greeting -> EHLO -> [STARTTLS -> handshake -> EHLO] -> [AUTH] -> ready
//!  ready -> MAIL, RCPT ... (pipelined) -> DATA or BDAT -> content -> answer -> ready
//! ```
//!
//! What always holds:
//! - Bytes that came before the handshake are never taken for answers after it (CVE-2011-0411).
//! - No password leaves before TLS, unless the host is named as one that needs none.
//! - A message whose recipients were all refused is never begun; only one that was wholly put out counts as maybe sent.

use super::message::{Cursor, Envelope, Message};
use super::reply::{Malformed, Reply, ReplyReader};
pub use super::words::{End, Login, Need, Offers, Report, Said, Stage, StartTls};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::collections::VecDeque;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Most answers that are waited for at once: 50 of the longest lines fit into any receive buffer, so that neither side blocks.
const WINDOW: usize = 50;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the session is ready.
    Opening,
    /// The handshake is due.
    Handshake,
    Ready,
    /// Commands of the envelope are put out.
    Sending,
    /// The content is put out.
    Content {
        chunked: bool,
    },
    /// All is put out.
    Finishing,
    Resetting,
    Quitting,
    Closed,
}

struct Transaction {
    envelope: Envelope,
    message: Arc<Message>,
    said: Vec<Option<Said>>,
    accepted: Vec<usize>,
    next: usize,
    mail_said: bool,
    mail_refused: Option<Reply>,
    data_sent: bool,
    utf8: bool,
    dsn: bool,
    cursor: Cursor,
    put_out: bool,
}

/// One session with one server.
pub struct Client {
    helo: String,
    starttls: StartTls,
    login: Option<Login>,
    offers: Offers,
    state: State,
    awaited: VecDeque<Stage>,
    out: Zeroizing<Vec<u8>>,
    replies: ReplyReader,
    heard: bool,
    transaction: Option<Transaction>,
    report: Option<Report>,
    end: Option<End>,
}

impl std::fmt::Debug for Client {
    /// What is to be written may be a password or a message.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("state", &self.state).field("end", &self.end).finish_non_exhaustive()
    }
}

impl Client {
    /// A session that begins with the server's greeting. `helo` is our own name.
    #[must_use]
    pub fn new(helo: &str, starttls: StartTls, login: Option<Login>) -> Self {
        Self {
            helo: helo.to_owned(),
            starttls,
            login,
            offers: Offers::default(),
            state: State::Opening,
            awaited: VecDeque::from([Stage::Greeting]),
            out: Zeroizing::default(),
            replies: ReplyReader::default(),
            heard: false,
            transaction: None,
            report: None,
            end: None,
        }
    }

    /// What the server offers, once the session is ready.
    #[must_use]
    pub const fn offers(&self) -> &Offers {
        &self.offers
    }

    /// Why the session ended, where it did.
    #[must_use]
    pub const fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Whether the server has said anything since the last message began.
    #[must_use]
    pub const fn heard(&self) -> bool {
        self.heard
    }

    /// How the last message went, once.
    pub fn report(&mut self) -> Option<Report> {
        self.report.take()
    }

    /// What the machine waits for.
    #[must_use]
    pub fn need(&self) -> Need {
        if self.state == State::Closed {
            return Need::Close;
        }
        if !self.out.is_empty() || matches!(self.state, State::Content { .. }) {
            return Need::Write;
        }
        match (self.state, self.awaited.front()) {
            (State::Handshake, _) => Need::Handshake,
            (_, Some(stage)) => Need::Read(*stage),
            (_, None) => Need::Nothing,
        }
    }

    /// Moves what is to be written into `out`; at most some 64 KiB of content at once.
    pub fn output(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.out);
        let (State::Content { chunked }, Some(transaction)) = (self.state, &mut self.transaction) else { return };
        let more = if chunked {
            transaction.cursor.plain(&transaction.message, out)
        } else {
            transaction.cursor.stuffed(&transaction.message, out)
        };
        if !more {
            if !chunked {
                out.extend_from_slice(b".\r\n");
            }
            transaction.put_out = true;
            self.state = State::Finishing;
            self.awaited.push_back(Stage::End);
        }
    }

    /// Takes what the server said.
    pub fn input(&mut self, mut bytes: &[u8]) {
        while self.state != State::Closed {
            match self.replies.next(&mut bytes) {
                Ok(Some(reply)) => {
                    self.heard = true;
                    self.hear(reply);
                }
                Ok(None) => break,
                Err(malformed) => self.close(End::Malformed(malformed)),
            }
            if self.state == State::Handshake && !(bytes.is_empty() && self.replies.is_empty()) {
                self.close(End::Injected);
            }
        }
    }

    /// The handshake is done: nothing that was said before counts any more.
    pub fn secured(&mut self) {
        if self.state != State::Handshake {
            return;
        }
        self.replies = ReplyReader::default();
        self.offers = Offers::default();
        self.starttls = StartTls::Never;
        self.state = State::Opening;
        self.say_hello();
    }

    /// The connection broke: why, for people.
    pub fn lost(&mut self, why: &str) {
        if self.state != State::Closed {
            self.close(End::Lost(why.to_owned()));
        }
    }

    /// Begins a message. The session must be ready and free.
    pub fn send(&mut self, envelope: Envelope, message: Arc<Message>) {
        debug_assert!(self.need() == Need::Nothing);
        self.heard = false;
        let local = envelope.from.as_ref().is_some_and(mesyx_sdk::MailAddress::needs_utf8);
        let whole = self.unable(&message, local);
        let needs = |at: &mesyx_sdk::Recipient| at.address.as_mail().is_some_and(mesyx_sdk::MailAddress::needs_utf8);
        let said: Vec<_> = envelope
            .to
            .iter()
            .map(|recipient| whole.or((needs(recipient) && !self.offers.utf8).then_some(NO_UTF8)).map(Said::Unable))
            .collect();
        let utf8 = self.offers.utf8 && (message.utf8_headers || local || envelope.to.iter().any(needs));
        let dsn = self.offers.dsn;
        let transaction = Transaction {
            said,
            accepted: Vec::new(),
            next: 0,
            mail_said: false,
            mail_refused: None,
            data_sent: false,
            utf8,
            dsn,
            cursor: Cursor::default(),
            put_out: false,
            envelope,
            message,
        };
        if transaction.said.iter().all(Option::is_some) {
            self.transaction = Some(transaction);
            return self.finish();
        }
        self.command(Stage::Mail, &transaction.envelope.mail(&transaction.message, &self.offers, utf8));
        self.transaction = Some(transaction);
        self.state = State::Sending;
        self.advance();
    }

    /// What the whole message needs and the server lacks.
    fn unable(&self, message: &Message, local: bool) -> Option<&'static str> {
        let offers = &self.offers;
        if (message.utf8_headers || local) && !offers.utf8 {
            return Some(NO_UTF8);
        }
        if message.eight_bit && !offers.eight_bit {
            return Some("5.6.3 the message has 8-bit text, which the receiving server does not take (no 8BITMIME)");
        }
        let most = offers.size.unwrap_or(0);
        (most != 0 && message.size > most).then_some("5.3.4 the message is larger than the receiving server takes")
    }

    /// Ends the session politely.
    pub fn quit(&mut self) {
        if self.need() == Need::Nothing {
            self.state = State::Quitting;
            self.command(Stage::Quit, "QUIT");
        } else {
            self.close(End::Quit);
        }
    }

    fn command(&mut self, stage: Stage, line: &str) {
        debug_assert!(!line.contains(['\r', '\n']));
        self.out.extend_from_slice(line.as_bytes());
        self.out.extend_from_slice(b"\r\n");
        self.awaited.push_back(stage);
    }

    fn say_hello(&mut self) {
        let line = format!("EHLO {}", self.helo);
        self.command(Stage::Ehlo, &line);
    }

    fn hear(&mut self, reply: Reply) {
        let stage = self.awaited.pop_front();
        // An answer to EHLO is read and not kept; any other may be kept for each recipient.
        let reply = if stage == Some(Stage::Ehlo) && reply.is_yes() { reply } else { reply.brief() };
        let Some(stage) = stage else {
            if matches!(self.state, State::Content { .. }) && reply.code >= 400 {
                // It refuses a message that it has half of; there is no way to stop but to go.
                return self.refuse_all(Stage::End, reply);
            }
            // A server that ends the session may say so at any time; nothing else may come unasked.
            return if reply.code == 421 {
                self.close(End::Refused(Stage::Reset, reply))
            } else {
                self.close(End::Malformed(Malformed("it answered where nothing was asked")))
            };
        };
        if reply.code == 421 && stage != Stage::Quit {
            return self.refuse_all(stage, reply);
        }
        match stage {
            Stage::Greeting if reply.is_yes() => self.say_hello(),
            Stage::Greeting => self.close(End::Refused(stage, reply)),
            Stage::Ehlo if reply.is_yes() => {
                self.offers = Offers::read(&reply);
                self.greeted();
            }
            Stage::Ehlo if reply.is_final() && self.starttls != StartTls::Always && self.login.is_none() => {
                let line = format!("HELO {}", self.helo);
                self.command(Stage::Helo, &line);
            }
            Stage::Helo if reply.is_yes() => self.state = State::Ready,
            Stage::Ehlo | Stage::Helo => self.close(End::Refused(stage, reply)),
            Stage::StartTls if reply.is_yes() => self.state = State::Handshake,
            Stage::StartTls if self.starttls == StartTls::Always => self.close(End::TlsRefused(reply)),
            Stage::StartTls => self.log_in(),
            Stage::Auth(step) => self.authenticate(step, reply),
            Stage::Mail | Stage::Rcpt(_) | Stage::Data | Stage::End => self.transact(stage, reply),
            Stage::Reset if reply.is_yes() => self.state = State::Ready,
            Stage::Reset => self.close(End::Refused(stage, reply)),
            Stage::Quit => self.close(End::Quit),
        }
    }

    fn greeted(&mut self) {
        match self.starttls {
            StartTls::Never => self.log_in(),
            _ if self.offers.starttls => self.command(Stage::StartTls, "STARTTLS"),
            StartTls::Always => self.close(End::NoTls),
            StartTls::IfOffered => self.log_in(),
        }
    }

    fn log_in(&mut self) {
        let Some(login) = &self.login else {
            self.state = State::Ready;
            return;
        };
        if self.offers.auth_plain {
            let mut response = Zeroizing::new(vec![0]);
            response.extend_from_slice(login.name.as_bytes());
            response.push(0);
            response.extend_from_slice(login.password.expose());
            let line = Zeroizing::new(format!("AUTH PLAIN {}", *Zeroizing::new(BASE64_STANDARD.encode(&*response))));
            self.command(Stage::Auth(2), &line);
        } else if self.offers.auth_login {
            self.command(Stage::Auth(0), "AUTH LOGIN");
        } else {
            self.close(End::NoLogin);
        }
    }

    fn authenticate(&mut self, step: u8, reply: Reply) {
        let Some(login) = &self.login else { return };
        match (step, reply.code) {
            (0, 334) => {
                let line = BASE64_STANDARD.encode(&login.name);
                self.command(Stage::Auth(1), &line);
            }
            (1, 334) => {
                let line = Zeroizing::new(BASE64_STANDARD.encode(login.password.expose()));
                self.command(Stage::Auth(2), &line);
            }
            (_, 200..=299) => {
                // The answer is not needed again, and nor is the password.
                self.login = None;
                self.state = State::Ready;
            }
            _ => self.close(End::LoginRefused(reply)),
        }
    }

    fn transact(&mut self, stage: Stage, reply: Reply) {
        let Some(transaction) = &mut self.transaction else { return };
        match stage {
            Stage::Mail => {
                transaction.mail_said = true;
                if !reply.is_yes() {
                    transaction.mail_refused = Some(reply.clone());
                    transaction.settle(&Said::Refused(stage, reply));
                }
            }
            Stage::Rcpt(index) => {
                let said = &mut transaction.said[index];
                if said.is_none() && reply.is_yes() {
                    transaction.accepted.push(index);
                } else if said.is_none() {
                    *said = Some(Said::Refused(stage, reply));
                }
            }
            Stage::Data if reply.code == 354 => {
                if transaction.accepted.is_empty() {
                    // Even a lone dot could be taken for an empty message.
                    return self.close(End::Abandoned);
                }
                self.state = State::Content { chunked: false };
                return;
            }
            Stage::Data | Stage::End => {
                let taken = stage == Stage::End && reply.is_yes();
                let said = if taken { Said::Taken(reply) } else { Said::Refused(stage, reply) };
                transaction.settle(&said);
                // A server that refused DATA or the content has ended the transaction; one that refused all recipients may not have.
                self.state = if stage == Stage::End { State::Ready } else { State::Sending };
                return if stage == Stage::End { self.finish() } else { self.advance() };
            }
            _ => {}
        }
        self.advance();
    }

    /// Puts out as much of the envelope as may be put out now, and ends it when all is answered.
    fn advance(&mut self) {
        let Some(transaction) = &mut self.transaction else { return };
        if self.state != State::Sending {
            return;
        }
        let window = if self.offers.pipelining { WINDOW } else { 1 };
        let mut commands = Vec::new();
        while transaction.mail_refused.is_none() && transaction.next < transaction.said.len() {
            if transaction.said[transaction.next].is_some() {
                transaction.next += 1;
                continue;
            }
            if self.awaited.len() + commands.len() >= window {
                break;
            }
            let line = transaction.envelope.rcpt(transaction.next, &self.offers, transaction.utf8);
            commands.push((Stage::Rcpt(transaction.next), line));
            transaction.next += 1;
        }
        let all_said = transaction.next == transaction.said.len() && transaction.mail_refused.is_none();
        let waiting = self.awaited.len() + commands.len();
        let hopeful = !transaction.accepted.is_empty();
        let mut content = false;
        if all_said && !transaction.data_sent {
            if self.offers.chunking {
                if waiting == 0 && hopeful {
                    transaction.data_sent = true;
                    content = true;
                }
            } else if (self.offers.pipelining && waiting < window) || (waiting == 0 && hopeful) {
                transaction.data_sent = true;
                commands.push((Stage::Data, "DATA".to_owned()));
            }
        }
        let size = transaction.message.size;
        for (stage, line) in commands {
            self.command(stage, &line);
        }
        if content {
            self.out.extend_from_slice(format!("BDAT {size} LAST\r\n").as_bytes());
            self.state = State::Content { chunked: true };
        } else if self.awaited.is_empty() {
            // Everything is answered and nothing is begun: the envelope is forgotten.
            self.state = State::Resetting;
            self.command(Stage::Reset, "RSET");
            self.finish();
        }
    }

    /// A 421: it holds for everything that is not answered.
    fn refuse_all(&mut self, stage: Stage, reply: Reply) {
        if let Some(transaction) = &mut self.transaction {
            transaction.settle(&Said::Refused(stage, reply.clone()));
        }
        self.close(End::Refused(stage, reply));
    }

    fn finish(&mut self) {
        if let Some(transaction) = self.transaction.take() {
            let dsn = transaction.dsn;
            let maybe_sent = transaction.put_out;
            let unheard = Said::Unheard { maybe_sent };
            let said = transaction.said.into_iter().map(|said| said.unwrap_or_else(|| unheard.clone())).collect();
            self.report = Some(Report { said, dsn });
        }
    }

    fn close(&mut self, end: End) {
        self.state = State::Closed;
        self.awaited.clear();
        self.out = Zeroizing::default();
        self.end = Some(end);
        self.finish();
    }
}

const NO_UTF8: &str =
    "5.6.7 an address or header has characters beyond ASCII, which the receiving server does not take (no SMTPUTF8)";

impl Transaction {
    /// What holds for all recipients that were not refused before.
    fn settle(&mut self, said: &Said) {
        for known in self.said.iter_mut().filter(|known| known.is_none()) {
            *known = Some(said.clone());
        }
    }
}
