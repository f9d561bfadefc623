//! Cuts what a client sends into commands, with their literals in place.
//!
//! ```text
//! A1 APPEND INBOX {310+}\r\n<310 bytes>\r\n    one frame, given out whole without its last line end
//! ```
//!
//! Nothing is held that is over a limit: a literal is refused when it is announced, and skipped as it comes where the
//! client sends it anyway (LITERAL+, RFC 7888); an overlong line is thrown away up to its end.

use zeroize::Zeroize;

/// Most bytes that a client may send before it has logged in.
pub(crate) const MAX_INPUT_BEFORE_LOGIN: u64 = 100_000;
/// Largest command before login, literals included.
const MAX_COMMAND_BEFORE_LOGIN: usize = 8 * 1024;
/// Largest command after login: lines and literals, but for the messages of APPEND.
const MAX_COMMAND: usize = 256 * 1024;
/// Largest literal but for the messages of APPEND.
const MAX_LITERAL: u64 = 64 * 1024;
/// Most that is skipped of one refused command; who sends more is cut off.
const MAX_SKIPPED: u64 = 1024 * 1024 * 1024;
/// Longest tag that is remembered of a refused command.
const MAX_TAG: usize = 64;
/// What must have come of a message for its sender not to count as idle.
const PROGRESS: u64 = 256 * 1024;

/// What the framer wants done next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Read more.
    Incomplete,
    /// A whole command, without its last line end.
    Frame(Frame),
    /// Tell the client to go on (`+`), then read more.
    Continue,
    /// A message of APPEND is announced: answer with [`Framer::admit`] or [`Framer::refuse`].
    Message { size: u64 },
    /// A command was thrown away: answer it so.
    Refused { tag: Option<String>, why: Refusal },
    /// The client sends too much: say BYE.
    Overrun,
}

/// The bytes of one command, erased when dropped where a password may be in it.
#[derive(PartialEq, Eq)]
pub(crate) struct Frame {
    bytes: Vec<u8>,
    secret: bool,
}

impl Frame {
    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes the bytes out, for messages that are given on without copying them.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        if self.secret {
            self.bytes.zeroize();
        }
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame({} bytes)", self.bytes.len())
    }
}

/// Why a command was thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A literal or the whole command is over its limit (`NO [TOOBIG]`, RFC 7889 section 4).
    TooBig,
    /// There is no memory for the message now (`NO [LIMIT]`).
    NoMemory,
    /// The line is over its limit.
    LineTooLong,
    /// A line ends without CR.
    BareLineFeed,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Framer {
    buffer: Vec<u8>,
    /// Where the current line of the command begins: behind its last literal.
    line: usize,
    /// Up to where the current line was looked through.
    scanned: usize,
    /// Bytes of the command that are messages of APPEND.
    messages: usize,
    state: State,
    logged_in: bool,
    append_limit: u64,
    received: u64,
    /// What was received when [`Framer::message_progressed`] last said yes.
    progressed: u64,
}

#[derive(Debug)]
enum State {
    Line,
    /// A literal that ends at this place in the buffer.
    Literal(usize),
    /// A message of APPEND was announced; waits for admission.
    Announced {
        size: u64,
        sync: bool,
        line_end: usize,
    },
    /// Throws away the rest of a refused command: what is left of a literal, then lines.
    Discard {
        literal: u64,
        skipped: u64,
        tag: Option<String>,
        why: Refusal,
    },
}

impl Framer {
    /// A framer for a client that has not logged in.
    pub(crate) const fn new(append_limit: u64) -> Self {
        Self {
            buffer: Vec::new(),
            line: 0,
            scanned: 0,
            messages: 0,
            state: State::Line,
            logged_in: false,
            append_limit,
            received: 0,
            progressed: 0,
        }
    }

    /// The client has logged in: the wider limits hold.
    pub(crate) const fn logged_in(&mut self) {
        self.logged_in = true;
    }

    /// Whether bytes are held that were not given out.
    pub(crate) const fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The buffer to read into, behind what it holds. Tell [`Framer::fed`] how much came.
    pub(crate) fn space(&mut self) -> &mut Vec<u8> {
        if self.buffer.capacity() == self.buffer.len() {
            // Small while little comes, so that an idle connection costs little.
            let more = self.buffer.len().clamp(1024, 64 * 1024);
            self.buffer.reserve_exact(more);
        }
        &mut self.buffer
    }

    /// So many bytes were read into [`Framer::space`].
    pub(crate) const fn fed(&mut self, bytes: usize) {
        self.received += bytes as u64;
    }

    /// Whether a message of APPEND is coming in, a fair part of it since this was last asked.
    pub(crate) const fn message_progressed(&mut self) -> bool {
        let incoming = matches!(self.state, State::Literal(_)) && self.messages > 0;
        let progressed = incoming && self.received - self.progressed >= PROGRESS;
        if progressed {
            self.progressed = self.received;
        }
        progressed
    }

    /// Gives memory back while nothing is held.
    pub(crate) fn rest(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
    }

    /// What to do next. Call until it says [`Step::Incomplete`].
    pub(crate) fn step(&mut self) -> Step {
        if !self.logged_in && self.received > MAX_INPUT_BEFORE_LOGIN {
            return Step::Overrun;
        }
        // A loop and no recursion: a command may hold tens of thousands of empty literals.
        loop {
            match self.state {
                State::Line => {
                    if let Some(step) = self.step_line() {
                        return step;
                    }
                }
                State::Literal(end) if self.buffer.len() < end => return Step::Incomplete,
                State::Literal(end) => {
                    self.line = end;
                    self.scanned = end;
                    self.state = State::Line;
                }
                State::Announced { size, .. } => return Step::Message { size },
                State::Discard { .. } => return self.step_discard(),
            }
        }
    }

    /// `None`: the line announced a literal that the client sends unasked.
    fn step_line(&mut self) -> Option<Step> {
        let Some(at) = self.buffer[self.scanned..].iter().position(|&byte| byte == b'\n') else {
            self.scanned = self.buffer.len();
            if self.buffer.len() - self.messages > self.max_command() {
                return Some(self.discard(self.line, 0, Refusal::LineTooLong));
            }
            return Some(Step::Incomplete);
        };
        let line_end = self.scanned + at + 1;
        if line_end - self.messages > self.max_command() {
            return Some(self.discard(self.line, 0, Refusal::LineTooLong));
        }
        if !self.buffer[self.line..line_end].ends_with(b"\r\n") {
            return Some(self.refuse_now(line_end, Refusal::BareLineFeed));
        }
        let Some(literal) = announced(&self.buffer[self.line..line_end]) else {
            return Some(Step::Frame(self.give_out(line_end)));
        };
        if self.logged_in && self.is_append() {
            if literal.size > self.append_limit {
                return Some(self.turn_down(literal, line_end, Refusal::TooBig));
            }
            self.state = State::Announced { size: literal.size, sync: literal.sync, line_end };
            return Some(Step::Message { size: literal.size });
        }
        let used = (line_end - self.messages) as u64;
        if literal.size > MAX_LITERAL || used + literal.size > self.max_command() as u64 {
            return Some(self.turn_down(literal, line_end, Refusal::TooBig));
        }
        self.await_literal(literal, line_end)
    }

    /// Takes the announced message: memory for it is there. What comes next may be another announcement.
    pub(crate) fn admit(&mut self) -> Step {
        let State::Announced { size, sync, line_end } = self.state else {
            return Step::Incomplete;
        };
        self.progressed = self.received;
        self.messages += usize::try_from(size).unwrap_or(usize::MAX);
        self.await_literal(Literal { size, sync }, line_end).unwrap_or_else(|| self.step())
    }

    /// Turns the announced message down.
    pub(crate) fn refuse(&mut self, why: Refusal) -> Step {
        let State::Announced { size, sync, line_end } = self.state else {
            return Step::Incomplete;
        };
        self.turn_down(Literal { size, sync }, line_end, why)
    }

    fn await_literal(&mut self, literal: Literal, line_end: usize) -> Option<Step> {
        let end = line_end + usize::try_from(literal.size).unwrap_or(usize::MAX - line_end);
        self.state = State::Literal(end);
        // A little more than the literal, for the line that follows it.
        self.buffer.reserve_exact((end + 128).saturating_sub(self.buffer.len()));
        literal.sync.then_some(Step::Continue)
    }

    fn turn_down(&mut self, literal: Literal, line_end: usize, why: Refusal) -> Step {
        if literal.sync {
            // The client waits for an answer before it sends the literal, and now will not.
            return self.refuse_now(line_end, why);
        }
        self.discard(line_end, literal.size, why)
    }

    fn refuse_now(&mut self, line_end: usize, why: Refusal) -> Step {
        let tag = self.tag();
        self.drop_front(line_end);
        Step::Refused { tag, why }
    }

    fn discard(&mut self, held: usize, literal: u64, why: Refusal) -> Step {
        let tag = self.tag();
        self.drop_front(held);
        self.state = State::Discard { literal, skipped: 0, tag, why };
        self.step_discard()
    }

    fn step_discard(&mut self) -> Step {
        let State::Discard { literal, skipped, tag, why } = &mut self.state else {
            return Step::Incomplete;
        };
        loop {
            if *skipped + *literal > MAX_SKIPPED {
                return Step::Overrun;
            }
            if *literal > 0 {
                let skip = usize::try_from(*literal).unwrap_or(usize::MAX).min(self.buffer.len());
                erase_front(&mut self.buffer, skip, self.logged_in);
                *literal -= skip as u64;
                *skipped += skip as u64;
                if *literal > 0 {
                    return Step::Incomplete;
                }
            }
            let Some(at) = self.buffer.iter().position(|&byte| byte == b'\n') else {
                // Enough of the line's end stays to see whether a literal is announced there.
                let skip = self.buffer.len().saturating_sub(32);
                erase_front(&mut self.buffer, skip, self.logged_in);
                *skipped += skip as u64;
                return Step::Incomplete;
            };
            let next = announced(&self.buffer[..=at]);
            *skipped += at as u64 + 1;
            erase_front(&mut self.buffer, at + 1, self.logged_in);
            match next {
                Some(next) if !next.sync => *literal = next.size,
                _ => {
                    let refused = Step::Refused { tag: tag.take(), why: *why };
                    self.drop_front(0);
                    return refused;
                }
            }
        }
    }

    /// The next whole line without its end, for `DONE` and the answers of AUTHENTICATE.
    pub(crate) fn step_raw_line(&mut self) -> Step {
        if !self.logged_in && self.received > MAX_INPUT_BEFORE_LOGIN {
            return Step::Overrun;
        }
        if let State::Discard { .. } = self.state {
            return self.step_discard();
        }
        match self.buffer.iter().position(|&byte| byte == b'\n') {
            Some(at) if self.buffer[..=at].ends_with(b"\r\n") => Step::Frame(self.give_out(at + 1)),
            Some(at) => self.refuse_now(at + 1, Refusal::BareLineFeed),
            None if self.buffer.len() > MAX_COMMAND_BEFORE_LOGIN => self.discard(0, 0, Refusal::LineTooLong),
            None => Step::Incomplete,
        }
    }

    /// Gives out the command that ends with the line end before `line_end`.
    fn give_out(&mut self, line_end: usize) -> Frame {
        let rest = if line_end < self.buffer.len() { self.buffer.split_off(line_end) } else { Vec::new() };
        let mut bytes = std::mem::replace(&mut self.buffer, rest);
        bytes.truncate(line_end - 2);
        self.begin();
        Frame { bytes, secret: !self.logged_in }
    }

    fn drop_front(&mut self, bytes: usize) {
        erase_front(&mut self.buffer, bytes, self.logged_in);
        self.begin();
    }

    fn begin(&mut self) {
        self.line = 0;
        self.scanned = 0;
        self.messages = 0;
        self.state = State::Line;
    }

    const fn max_command(&self) -> usize {
        if self.logged_in { MAX_COMMAND } else { MAX_COMMAND_BEFORE_LOGIN }
    }

    /// The tag of the command in the buffer, where it has a plausible one.
    fn tag(&self) -> Option<String> {
        let tag = self.buffer.split(|byte| !is_tag_byte(*byte)).next()?;
        let plausible = (1..=MAX_TAG).contains(&tag.len()) && self.buffer.get(tag.len()) == Some(&b' ');
        plausible.then(|| String::from_utf8_lossy(tag).into_owned())
    }

    fn is_append(&self) -> bool {
        let mut words = self.buffer.splitn(3, |&byte| byte == b' ');
        words.next().is_some_and(|tag| tag.len() <= MAX_TAG)
            && words.next().is_some_and(|command| command.eq_ignore_ascii_case(b"APPEND"))
            && words.next().is_some()
    }
}

/// Takes bytes off the front; erased where a password may be among them.
fn erase_front(buffer: &mut Vec<u8>, bytes: usize, logged_in: bool) {
    if !logged_in {
        buffer[..bytes].zeroize();
    }
    buffer.drain(..bytes);
}

/// Whether the byte may stand in a tag (RFC 3501, section 9).
pub(crate) const fn is_tag_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\' | b'+')
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Literal {
    size: u64,
    sync: bool,
}

/// The literal that a line announces at its end (RFC 3501, section 4.3; RFC 7888).
fn announced(line: &[u8]) -> Option<Literal> {
    let line = line.strip_suffix(b"}\r\n")?;
    let (line, sync) = line.strip_suffix(b"+").map_or((line, true), |line| (line, false));
    let digits = line.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (before, number) = line.split_at(line.len() - digits);
    if digits == 0 || !before.ends_with(b"{") {
        return None;
    }
    // More digits than fit name a size over every limit.
    let size = std::str::from_utf8(number).ok()?.parse().unwrap_or(u64::MAX / 2);
    Some(Literal { size, sync })
}

#[cfg(test)]
#[path = "framing_tests.rs"]
mod tests;
