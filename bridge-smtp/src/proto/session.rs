//! One connection's conversation.
//!
//! [`Session::advance`] is fed bytes until it asks for something; what it asks is done by whoever owns the socket and
//! told to [`Session::answer`]. Replies gather in [`Session::output`], to be sent before more bytes are waited for,
//! which is just what PIPELINING wants (RFC 2920, section 3.2).

use super::command::{self, Command};
use super::lines::{Line, LineReader, MAX_AUTH_LINE, command_limit};
use super::reply::{self, Reply};
use super::sasl::{self, Exchange, NameAndPassword, Next};
use super::terms::{Answer, Incoming, Role, Settings, Step, TlsInfo};
use super::trace::helo_name;
use super::transaction::{Pending, Transaction};
use mesyx_sdk::{Accepted, Address, Error, ErrorKind, MailAddress, Timestamp, UserId};
use std::net::IpAddr;
use std::sync::Arc;

/// One connection's conversation.
#[derive(Debug)]
pub struct Session {
    pub(super) settings: Arc<Settings>,
    pub(super) ip: IpAddr,
    starttls: bool,
    login_in_clear: bool,
    pub(super) tls: Option<TlsInfo>,
    pub(super) greeted: Option<Greeted>,
    pub(super) user: Option<UserId>,
    mode: Mode,
    pub(super) transaction: Option<Transaction>,
    lines: LineReader,
    output: Vec<u8>,
    refusals: Vec<u16>,
    errors: u32,
    idle_commands: u32,
    command_bytes: u64,
    stopping: bool,
}

/// What the peer said with HELO or EHLO.
#[derive(Debug)]
pub(super) struct Greeted {
    pub(super) name: String,
    pub(super) extended: bool,
}

/// What the next bytes are.
#[derive(Debug)]
enum Mode {
    Command,
    Auth(Exchange),
    Data,
    /// `left` bytes of a chunk. Without a transaction they are thrown away.
    Chunk {
        left: u64,
        last: bool,
    },
    /// Nothing until the host has answered.
    Waiting(Waiting),
    Closed,
}

#[derive(Debug)]
enum Waiting {
    Recipient(Box<Pending>),
    Sender(Box<command::Mail>),
    Login,
    Take,
    Tls,
}

/// How many errors a wrong password counts as, so that guessing ends the connection soon.
const FAILED_LOGIN_ERRORS: u32 = 4;

impl Session {
    /// A conversation with the peer at `ip`; its greeting is in [`Session::output`].
    ///
    /// `tls` says that the connection is protected already, `starttls` that it can become so, `login_in_clear` that
    /// passwords are taken without it.
    #[must_use]
    pub fn new(
        settings: Arc<Settings>,
        ip: IpAddr,
        tls: Option<TlsInfo>,
        starttls: bool,
        login_in_clear: bool,
    ) -> Self {
        let mut session = Self {
            ip,
            starttls,
            login_in_clear,
            tls,
            greeted: None,
            user: None,
            mode: Mode::Command,
            transaction: None,
            lines: LineReader::default(),
            output: Vec::new(),
            refusals: Vec::new(),
            errors: 0,
            idle_commands: 0,
            command_bytes: 0,
            stopping: false,
            settings,
        };
        let greeting = format!("{} ESMTP Mesyx", session.settings.hostname);
        session.say(Reply::plain(220, greeting));
        session
    }

    /// Takes input until something must happen; `input` then stands behind what was taken.
    pub fn advance(&mut self, input: &mut &[u8], now: Timestamp) -> Step {
        loop {
            if self.stopping && self.is_idle() {
                self.end(going_down());
            }
            let before = input.len();
            let step = match self.mode {
                Mode::Closed | Mode::Waiting(_) => return Step::Close,
                Mode::Command | Mode::Auth(_) => {
                    let step = self.line(input, now);
                    self.count_command_bytes(before - input.len());
                    step
                }
                Mode::Data => self.data(input, now),
                Mode::Chunk { left, last } => self.chunk(input, left, last, now),
            };
            if let Some(step) = step {
                return if matches!(self.mode, Mode::Closed) { Step::Close } else { step };
            }
        }
    }

    /// Waiting for a command, and no message is half in.
    fn is_idle(&self) -> bool {
        let receiving = self.transaction.as_ref().is_some_and(|transaction| transaction.assembly.is_some());
        matches!(self.mode, Mode::Command | Mode::Auth(_)) && !receiving
    }

    /// The answer to the step that [`Session::advance`] gave last.
    pub fn answer(&mut self, answer: Answer) {
        let waiting = match std::mem::replace(&mut self.mode, Mode::Command) {
            Mode::Waiting(waiting) => waiting,
            mode => {
                self.mode = mode;
                return;
            }
        };
        match (waiting, answer) {
            (Waiting::Recipient(pending), Answer::Recipient(status)) => self.recipient_known(*pending, status),
            (Waiting::Sender(mail), Answer::Sender(Ok(true))) => self.begin_transaction(*mail),
            (Waiting::Sender(_), Answer::Sender(Ok(false))) => {
                self.say(Reply::new(550, "5.7.1", "that sender address is not yours"));
            }
            (Waiting::Sender(_), Answer::Sender(Err(error))) => self.say(Reply::of_error(&error)),
            (Waiting::Login, Answer::Login(result)) => self.login_done(result),
            (Waiting::Take, Answer::Taken(result)) => self.taken(result),
            (Waiting::Tls, Answer::Tls(tls)) => {
                // Everything learnt before the handshake is forgotten (RFC 3207, section 4.2).
                self.tls = Some(tls);
                self.greeted = None;
                self.transaction = None;
                self.lines = LineReader::default();
            }
            _ => self.end(Reply::new(451, "4.3.0", "internal error")),
        }
    }

    /// Bytes to send; whoever sends them clears it.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Codes of the refusals since they were last asked for.
    pub fn refusals(&mut self) -> std::vec::Drain<'_, u16> {
        self.refusals.drain(..)
    }

    /// The host stops: what was begun is finished, nothing new is taken.
    /// `true` where the connection is idle and ended just now; [`Session::output`] has the last reply then.
    pub fn stop(&mut self) -> bool {
        self.stopping = true;
        let idle = self.is_idle();
        if idle {
            self.end(going_down());
        }
        idle
    }

    /// The peer was silent for too long.
    pub fn timed_out(&mut self) {
        self.end(Reply::new(421, "4.4.2", "you were silent, or slow, for too long"));
    }

    /// Whether a message's bytes are coming in.
    #[must_use]
    pub const fn is_receiving(&self) -> bool {
        matches!(self.mode, Mode::Data | Mode::Chunk { .. })
    }

    /// Whether a message is partly in, which may be between two chunks.
    #[must_use]
    pub fn has_part_of_message(&self) -> bool {
        let assembly = self.transaction.as_ref().and_then(|transaction| transaction.assembly.as_ref());
        self.is_receiving() || assembly.is_some()
    }

    /// Whether somebody has logged in.
    #[must_use]
    pub const fn is_logged_in(&self) -> bool {
        self.user.is_some()
    }

    /// The envelope sender of the message that is being handed in, where it has one.
    #[must_use]
    pub fn sender(&self) -> Option<&MailAddress> {
        self.transaction.as_ref().and_then(Transaction::sender)
    }

    /// The name that the peer gave itself.
    #[must_use]
    pub fn helo(&self) -> &str {
        self.greeted.as_ref().map_or("", |greeted| greeted.name.as_str())
    }

    pub(super) fn say(&mut self, reply: Reply) {
        if reply.is_refusal() {
            self.refusals.push(reply.code);
            self.errors = self.errors.saturating_add(1);
        }
        reply.write(&mut self.output);
        if reply.is_refusal() && self.errors >= self.settings.limits.errors {
            self.end(Reply::new(421, "4.7.0", "too many errors; goodbye"));
        }
    }

    /// Says a last word. Whatever was begun is given up.
    fn end(&mut self, reply: Reply) {
        if matches!(self.mode, Mode::Closed) {
            return;
        }
        self.refusals.push(reply.code);
        reply.write(&mut self.output);
        self.close();
    }

    fn close(&mut self) {
        self.mode = Mode::Closed;
        self.transaction = None;
    }

    fn wait(&mut self, waiting: Waiting, step: Step) -> Option<Step> {
        self.mode = Mode::Waiting(waiting);
        Some(step)
    }

    fn count_command_bytes(&mut self, bytes: usize) {
        if self.user.is_some() {
            return;
        }
        self.command_bytes += bytes as u64;
        if self.command_bytes > self.settings.limits.command_bytes {
            self.end(Reply::new(421, "4.7.0", "too much said and no message; goodbye"));
        }
    }

    /// Takes a line of a command or of an AUTH exchange.
    fn line(&mut self, input: &mut &[u8], now: Timestamp) -> Option<Step> {
        let limit: fn(&[u8]) -> usize = match self.mode {
            Mode::Auth(_) => |_| MAX_AUTH_LINE,
            _ => command_limit,
        };
        let mut lines = std::mem::take(&mut self.lines);
        let step = match lines.next(input, limit) {
            Line::More => Some(Step::Read),
            Line::Whole(line) => match std::mem::replace(&mut self.mode, Mode::Command) {
                Mode::Auth(exchange) => self.exchange(exchange.respond(line)),
                _ => self.command(line, input, now),
            },
            Line::TooLong => {
                self.mode = Mode::Command;
                self.say(Reply::new(500, "5.5.2", "the line is too long"));
                None
            }
            // What follows may be meant as part of this line, and is never acted on.
            Line::BareLineEnd => {
                self.end(Reply::new(500, "5.5.2", "lines end in CR LF, not in CR or LF alone; goodbye"));
                None
            }
        };
        self.lines = lines;
        step
    }

    fn command(&mut self, line: &[u8], input: &[u8], now: Timestamp) -> Option<Step> {
        let command = match command::parse(line) {
            Ok(command) => command,
            Err(reply) => {
                self.say(reply);
                if is_http(line) {
                    self.end(Reply::new(421, "4.7.0", "this is no web server; goodbye"));
                }
                return None;
            }
        };
        self.count_idle(&command);
        if matches!(self.mode, Mode::Closed) {
            return None;
        }
        match command {
            Command::Ehlo(name) => self.greet(name, true),
            Command::Helo(name) => self.greet(name, false),
            Command::Mail(mail) => return self.mail(mail),
            Command::Rcpt(rcpt) => return self.rcpt(*rcpt),
            Command::Data => self.begin_data(now),
            Command::Bdat { size, last } => self.begin_chunk(size, last, now),
            Command::Rset => {
                self.transaction = None;
                self.say(Reply::new(250, "2.0.0", "reset"));
            }
            Command::Noop => self.say(Reply::new(250, "2.0.0", "ok")),
            Command::Quit => {
                self.say(Reply::new(221, "2.0.0", "goodbye"));
                self.close();
            }
            Command::Vrfy => self.say(Reply::new(252, "2.0.0", "not told here; send a message to find out")),
            Command::Expn => self.say(Reply::new(502, "5.5.1", "EXPN is not offered")),
            Command::Help => self.say(Reply::new(214, "2.0.0", "see RFC 5321; the operator is postmaster")),
            Command::StartTls => return self.start_tls(input),
            Command::Auth { mechanism, initial } => return self.auth(mechanism, initial),
        }
        None
    }

    fn count_idle(&mut self, command: &Command<'_>) {
        let useful = matches!(
            command,
            Command::Mail(_) | Command::Rcpt(_) | Command::Data | Command::Bdat { .. } | Command::Quit
        );
        if useful {
            return;
        }
        self.idle_commands += 1;
        if self.idle_commands > self.settings.limits.idle_commands {
            self.end(Reply::new(421, "4.7.0", "too many commands and no message; goodbye"));
        }
    }

    fn greet(&mut self, name: &str, extended: bool) {
        let Some(name) = helo_name(name) else {
            return self.say(Reply::new(501, "5.5.4", "say who you are: a host name, or an address in [ ]"));
        };
        self.transaction = None;
        let hello = format!("{} greets {name}", self.settings.hostname);
        self.greeted = Some(Greeted { name, extended });
        if !extended {
            return self.say(Reply::plain(250, hello));
        }
        let size = format!("SIZE {}", self.settings.limits.message_size);
        let mut lines = vec![hello.into(), "PIPELINING".into(), size.into(), "8BITMIME".into(), "SMTPUTF8".into()];
        lines.extend(["CHUNKING".into(), "ENHANCEDSTATUSCODES".into(), "DSN".into()]);
        if self.starttls && self.tls.is_none() {
            lines.push("STARTTLS".into());
        }
        if self.may_log_in() && self.user.is_none() {
            lines.push("AUTH PLAIN LOGIN".into());
        }
        reply::write_lines(&mut self.output, 250, lines);
    }

    fn start_tls(&mut self, input: &[u8]) -> Option<Step> {
        if self.tls.is_some() || self.user.is_some() {
            self.say(Reply::new(503, "5.5.1", "too late for STARTTLS"));
            return None;
        }
        if !self.starttls {
            self.say(Reply::new(502, "5.5.1", "STARTTLS is not offered"));
            return None;
        }
        // Whoever put them there, they are not under the protection that begins now (CVE-2011-0411).
        if !input.is_empty() {
            self.end(Reply::new(501, "5.5.1", "nothing may follow STARTTLS before the handshake; goodbye"));
            return None;
        }
        self.transaction = None;
        self.say(Reply::new(220, "2.0.0", "begin TLS"));
        self.wait(Waiting::Tls, Step::StartTls)
    }

    fn may_log_in(&self) -> bool {
        self.settings.role == Role::Submission && (self.tls.is_some() || self.login_in_clear)
    }

    fn auth(&mut self, mechanism: &str, initial: Option<&str>) -> Option<Step> {
        let refusal = if self.settings.role == Role::Mx {
            Reply::new(502, "5.5.1", "nobody logs in here; use the submission port")
        } else if self.user.is_some() {
            Reply::new(503, "5.5.1", "you are logged in already")
        } else if self.greeted.as_ref().is_none_or(|greeted| !greeted.extended) {
            Reply::new(503, "5.5.1", "say EHLO first")
        } else if self.transaction.is_some() {
            Reply::new(503, "5.5.1", "not while a message is being handed in")
        } else if !self.may_log_in() {
            Reply::new(538, "5.7.11", "passwords are taken under TLS only; say STARTTLS first")
        } else {
            return self.exchange(sasl::begin(mechanism, initial));
        };
        self.say(refusal);
        None
    }

    fn exchange(&mut self, next: Result<Next, Reply>) -> Option<Step> {
        match next {
            Ok(Next::Ask(exchange, challenge)) => {
                self.say(Reply::plain(334, challenge));
                self.mode = Mode::Auth(exchange);
                None
            }
            Ok(Next::Done(NameAndPassword { name, password })) => {
                self.wait(Waiting::Login, Step::Login { name, password })
            }
            Err(reply) => {
                self.say(reply);
                None
            }
        }
    }

    fn login_done(&mut self, result: Result<UserId, Error>) {
        match result {
            Ok(user) => {
                self.user = Some(user);
                self.say(Reply::new(235, "2.7.0", "logged in"));
            }
            Err(error) if error.kind() == ErrorKind::LoginFailed => {
                self.errors = self.errors.saturating_add(FAILED_LOGIN_ERRORS - 1);
                self.say(Reply::new(535, "5.7.8", error.message().to_owned()));
            }
            Err(error) => self.say(Reply::new(454, "4.7.0", error.message().to_owned())),
        }
    }

    /// A message was taken or not; a new one may begin either way.
    fn taken(&mut self, result: Result<Accepted, Error>) {
        self.transaction = None;
        match result {
            Ok(accepted) => {
                self.errors = 0;
                self.idle_commands = 0;
                self.command_bytes = 0;
                self.say(Reply::new(250, "2.0.0", format!("taken as {}", accepted.id)));
            }
            Err(error) => self.say(Reply::of_error(&error)),
        }
    }

    fn data(&mut self, input: &mut &[u8], now: Timestamp) -> Option<Step> {
        if input.is_empty() {
            return Some(Step::Read);
        }
        let Some(assembly) = self.transaction.as_mut().and_then(|transaction| transaction.assembly.as_mut()) else {
            self.mode = Mode::Command;
            return None;
        };
        if assembly.data(input) {
            let suspicious = assembly.has_bare_line_end();
            self.mode = Mode::Command;
            let step = self.finish(now);
            if suspicious {
                // What follows may stand behind a false end that another server took for the true one.
                self.close();
            }
            return step;
        }
        if assembly.is_flood() {
            self.end(Reply::new(552, "5.3.4", "the message is far too large; goodbye"));
        }
        None
    }

    /// Asks the sender or recipient question of a pending command.
    pub(super) fn ask_recipient(&mut self, pending: Pending, address: Address) -> Option<Step> {
        self.wait(Waiting::Recipient(Box::new(pending)), Step::Recipient(address))
    }

    pub(super) fn ask_sender(&mut self, mail: Box<command::Mail>, address: MailAddress) -> Option<Step> {
        self.wait(Waiting::Sender(mail), Step::Sender(address))
    }

    pub(super) fn take(&mut self, incoming: Incoming) -> Option<Step> {
        self.wait(Waiting::Take, Step::Take(Box::new(incoming)))
    }

    pub(super) fn receive_data(&mut self) {
        self.mode = Mode::Data;
    }

    /// A chunk begins. `size` must have been judged: it is read, whatever comes of it.
    pub(super) fn receive_chunk(&mut self, size: u64, last: bool) {
        self.mode = Mode::Chunk { left: size, last };
    }

    pub(super) fn close_with(&mut self, reply: Reply) {
        self.end(reply);
    }

    fn chunk(&mut self, input: &mut &[u8], left: u64, last: bool, now: Timestamp) -> Option<Step> {
        if input.is_empty() && left > 0 {
            return Some(Step::Read);
        }
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        let (piece, rest) = input.split_at(taken);
        *input = rest;
        match self.transaction.as_mut().and_then(|transaction| transaction.assembly.as_mut()) {
            Some(assembly) => assembly.chunk(piece),
            None => self.count_command_bytes(taken),
        }
        let left = left - taken as u64;
        if matches!(self.mode, Mode::Closed) {
            return None;
        }
        self.mode = if left > 0 { Mode::Chunk { left, last } } else { Mode::Command };
        if left > 0 { None } else { self.chunk_done(last, now) }
    }
}

fn going_down() -> Reply {
    Reply::new(421, "4.3.2", "this host is going down; come back later")
}

/// A browser was made to talk to us (cross-protocol requests): its headers would be taken for commands.
fn is_http(line: &[u8]) -> bool {
    [&b"GET "[..], b"POST ", b"PUT ", b"HEAD ", b"OPTIONS ", b"CONNECT ", b"Host:"]
        .iter()
        .any(|start| line.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start)))
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
