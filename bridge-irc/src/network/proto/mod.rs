//! One connection to a network, without I/O and without a clock.
//!
//! ```text
//!  line of the server, now --> Engine --> Event (said, news, answers, outcomes, over)
//!  say, ask, join, …       -->        --> next_bytes(now): lines to write, no faster than the server wants
//!                                     --> deadline(): when tick(now) has something to do
//! ```
//!
//! What must hold:
//! - Every line that goes out is made by [`mesyx_irc_codec::Writer`], so no text can become a second command.
//! - A text is reported as delivered only after the server has answered a PING that was written behind it, and has not refused the text by then.
//! - Nothing that a server sends grows without bound: rooms, members, batches, answers and splits all have limits.

mod answers;
mod charset;
mod incoming;
mod numerics;
mod outbox;
mod register;
mod rooms;
mod say;
mod splits;
#[cfg(test)]
mod tests;

pub use charset::Charset;

use crate::link::{News, Presence, Reply, State, Who};
use answers::Asks;
pub(crate) use answers::Which;
use mesyx_irc_codec::isupport::Isupport;
use mesyx_irc_codec::pace::Pace;
use mesyx_irc_codec::{Limits, Line, WriteError, Writer};
use mesyx_sdk::address::CaseMapping;
use mesyx_sdk::{Secret, Timestamp, Verb};
use outbox::Outbox;
use register::Caps;
pub(crate) use rooms::Standing;
use rooms::{Room, Wanted};
use say::Jobs;
use splits::Splits;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// What is taken from a server: tags as IRCv3 has them, and more than the 512 bytes of old, since some servers send them.
pub(crate) const FROM_NETWORK: Limits = Limits { tags: 8191, rest: 16_384 };
/// What stands in a PING that only asks whether the server is there.
const KEEPALIVE: &str = "there";
/// Most members of a room that are kept; beyond, a room's names are asked for anew each time.
const MOST_MEMBERS: usize = 50_000;
/// Most rooms.
const MOST_ROOMS: usize = 1_000;
/// Most batches that are open at once, and most bytes and lines of one message in several lines.
const MOST_BATCHES: usize = 16;
const MOST_BATCH_LINES: usize = 512;

/// Who the user is on the network, and how the network wants to be spoken to.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) nick: String,
    pub(crate) altnicks: Vec<String>,
    pub(crate) username: String,
    pub(crate) realname: String,
    pub(crate) pass: Option<Secret>,
    pub(crate) sasl: Option<Sasl>,
    /// Channels with their keys.
    pub(crate) channels: Vec<(String, Option<String>)>,
    /// Lines at once, and time for each further one.
    pub(crate) pace: (u32, Duration),
    /// Silence after which the server is asked whether it is there, and after which it is taken for dead.
    pub(crate) silence: (Duration, Duration),
    pub(crate) charset: Charset,
    /// The connection is protected by TLS.
    pub(crate) tls: bool,
    /// What is answered to CTCP VERSION.
    pub(crate) version: String,
}

/// How to log in to an account.
#[derive(Debug, Clone)]
pub(crate) enum Sasl {
    Plain { account: String, password: Secret },
    External,
}

/// Something said to the user or in a channel.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    /// The channel, as the server writes it; `None`: to the user.
    pub(crate) channel: Option<String>,
    pub(crate) who: Who,
    /// Say, Notice or Action.
    pub(crate) verb: Verb,
    /// The text as it came: bytes for OTR, which comes before decoding.
    pub(crate) raw: Vec<u8>,
    /// When the server says it was said.
    pub(crate) at: Option<Timestamp>,
    pub(crate) msgid: Option<String>,
    /// Said in the channel to those with a rank alone (STATUSMSG).
    pub(crate) to_some: bool,
}

/// How a text fared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Written and not refused, as far as the server lets us know.
    Taken { msgid: Option<String> },
    /// Refused: why.
    Refused(String),
    /// Not now: why, and when again.
    Later(String, Duration),
}

/// What comes of lines and time.
#[derive(Debug)]
pub(crate) enum Event {
    /// Registered, under this nick.
    Ready,
    News(News),
    Said(Said),
    /// What became of [`Engine::say`].
    Job(u64, Fate),
    /// The answer to [`Engine::ask`].
    Answer(u64, Vec<Reply>),
    /// The connection is to be closed.
    Over(Over),
}

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Over {
    pub(crate) why: String,
    pub(crate) again: Again,
}

/// When to connect again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// After the usual pause.
    Soon,
    /// After the longest pause: it will not be better soon (a wrong password, a ban).
    Late,
    /// At once, by TLS to this port (IRCv3 `sts`).
    Tls(u16),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Registering,
    /// 001 came; the rest of the greeting has not.
    Greeted,
    Ready,
    Over,
}

/// The user as the network has them.
#[derive(Debug, Default)]
struct Me {
    nick: String,
    user: String,
    host: String,
    account: String,
    modes: String,
    away: Option<String>,
}

/// A batch that is open.
struct Batch {
    kind: String,
    parameters: Vec<String>,
    /// The first line of a message in several lines, and what the text came to.
    said: Option<Said>,
    lines: usize,
    msgid: Option<String>,
}

/// One connection.
pub(crate) struct Engine {
    id: Identity,
    origin: Instant,
    began: Instant,
    phase: Phase,
    out: Outbox,
    events: VecDeque<Event>,
    caps: Caps,
    isupport: Isupport,
    tokens: Vec<String>,
    me: Me,
    wanted: BTreeMap<String, Wanted>,
    rooms: BTreeMap<String, Room>,
    asks: Asks,
    /// Texts under way, the oldest first.
    jobs: Jobs,
    splits: Splits,
    batches: HashMap<String, Batch>,
    ctcp: Pace,
    /// How many nicks were tried while registering.
    nicks_tried: usize,
    regain: Option<Instant>,
    /// Our own ISON is unanswered.
    asked_ison: bool,
    heard: Instant,
    pinged: bool,
    next_batch: u64,
}

impl Engine {
    /// A connection that was just made: the first lines wait to be written.
    pub(crate) fn new(id: Identity, now: Instant) -> Self {
        let mut engine = Self {
            origin: now,
            began: now,
            phase: Phase::Registering,
            out: Outbox::new(Pace::new(id.pace.0, id.pace.1)),
            events: VecDeque::new(),
            caps: Caps::default(),
            isupport: Isupport::default(),
            tokens: Vec::new(),
            me: Me { nick: id.nick.clone(), ..Me::default() },
            wanted: BTreeMap::new(),
            rooms: BTreeMap::new(),
            asks: Asks::default(),
            jobs: Jobs::new(),
            splits: Splits::default(),
            batches: HashMap::new(),
            ctcp: Pace::new(3, Duration::from_secs(10)),
            nicks_tried: 0,
            regain: None,
            asked_ison: false,
            heard: now,
            pinged: false,
            next_batch: 0,
            id,
        };
        engine.open();
        engine
    }

    /// The next event.
    pub(crate) fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Takes in a line of the server, without its end.
    pub(crate) fn line(&mut self, bytes: &[u8], now: Instant) {
        self.heard = now;
        self.pinged = false;
        if self.phase == Phase::Over {
            return;
        }
        match Line::parse(bytes, FROM_NETWORK) {
            Ok(line) => self.incoming(&line, now),
            Err(error) => tracing::debug!(%error, "a line of the server can't be read"),
        }
    }

    /// The next line to write, where one may go now.
    pub(crate) fn next_bytes(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.out.next(now.saturating_duration_since(self.origin))
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.phase == Phase::Over {
            return;
        }
        let silent = now.saturating_duration_since(self.heard);
        if silent >= self.id.silence.1 {
            let why = format!("the server has not answered for {} seconds", silent.as_secs());
            return self.over(why, Again::Soon);
        }
        if silent >= self.id.silence.0 && !self.pinged {
            self.pinged = true;
            self.urgent(Writer::new("PING").and_then(|line| line.trailing(KEEPALIVE.as_bytes())));
        }
        if self.phase != Phase::Ready {
            if now.saturating_duration_since(self.began) > Duration::from_secs(90) {
                self.over("the server did not finish the greeting within 90 seconds".to_owned(), Again::Soon);
            }
            return;
        }
        self.join_due(now);
        self.regain_nick(now);
        self.flush_splits(now);
    }

    /// When [`Engine::tick`] or [`Engine::next_bytes`] has something to do.
    pub(crate) fn deadline(&self, now: Instant) -> Instant {
        let silence = if self.pinged { self.id.silence.1 } else { self.id.silence.0 };
        let mut at = self.heard + silence;
        let mut sooner = |when: Option<Instant>| at = at.min(when.unwrap_or(at));
        if self.phase == Phase::Ready {
            sooner(self.wanted.values().filter_map(|wanted| wanted.next).min());
            sooner(self.regain);
            sooner(self.splits.deadline());
        } else {
            sooner(Some(self.began + Duration::from_secs(91)));
        }
        sooner(self.out.wait(now.saturating_duration_since(self.origin)).map(|wait| now + wait));
        at
    }

    /// Takes leave: the QUIT waits to be written.
    pub(crate) fn quit(&mut self, reason: &str) {
        self.urgent(Writer::new("QUIT").and_then(|line| line.trailing(reason.as_bytes())));
        self.phase = Phase::Over;
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    pub(crate) fn casemapping(&self) -> CaseMapping {
        self.isupport.casemapping()
    }

    pub(crate) fn is_channel(&self, name: &str) -> bool {
        self.isupport.is_channel(name)
    }

    pub(crate) fn decode(&self, bytes: &[u8]) -> String {
        self.id.charset.decode(bytes)
    }

    /// Whether this is our own nick.
    pub(crate) fn is_own(&self, nick: &str) -> bool {
        self.is_me(nick)
    }

    /// What the user is here.
    pub(crate) fn presence(&self) -> Presence {
        let me = &self.me;
        Presence {
            state: if self.is_ready() { State::Connected } else { State::Connecting },
            nick: me.nick.clone(),
            user: me.user.clone(),
            host: me.host.clone(),
            account: me.account.clone(),
            modes: me.modes.clone(),
            away: me.away.clone(),
            isupport: self.tokens.clone(),
            capabilities: self.caps.on.iter().cloned().collect(),
        }
    }

    /// Other words to be said here than before: nick and channels take effect now, the rest at the next connection.
    pub(crate) fn change(&mut self, id: Identity, now: Instant) {
        let leave: Vec<_> = (self.id.channels.iter())
            .filter(|(old, _)| !id.channels.iter().any(|(new, _)| self.same(old, new)))
            .map(|(name, _)| name.clone())
            .collect();
        for name in leave {
            self.part(&name, "");
        }
        let nick = id.nick != self.id.nick;
        self.id = id;
        if self.phase == Phase::Ready {
            self.want_channels(now);
            self.join_due(now);
            if nick {
                self.regain = Some(now);
                self.regain_nick(now);
            }
        }
    }

    /// The user took another nick: it is the wanted one from now on.
    pub(crate) fn wish_nick(&mut self, nick: &str) {
        nick.clone_into(&mut self.id.nick);
        self.regain = None;
    }

    /// The user is away, or no longer.
    pub(crate) fn away(&mut self, text: Option<&str>) {
        let line = Writer::new("AWAY");
        let line = match text {
            Some(text) => {
                let text = if text.is_empty() { "away" } else { text };
                let most = self.isupport.number("AWAYLEN").unwrap_or(300);
                line.and_then(|line| line.trailing(&text.as_bytes()[..text.floor_char_boundary(most)]))
            }
            None => line,
        };
        self.normal(line);
    }

    fn over(&mut self, why: impl Into<String>, again: Again) {
        self.phase = Phase::Over;
        self.events.push_back(Event::Over(Over { why: why.into(), again }));
    }

    fn news(&mut self, news: News) {
        self.events.push_back(Event::News(news));
    }

    fn fold(&self, name: &str) -> String {
        self.casemapping().fold(name)
    }

    fn same(&self, one: &str, other: &str) -> bool {
        self.fold(one) == self.fold(other)
    }

    fn is_me(&self, nick: &str) -> bool {
        self.same(nick, &self.me.nick)
    }

    /// What may be sent without tags: as long as the server takes.
    fn limits(&self) -> Limits {
        Limits { tags: Limits::FROM_CLIENT.tags, rest: self.isupport.line_bytes() - 2 }
    }

    /// Writes a line before all others, whatever the pace.
    fn urgent(&mut self, line: Result<Writer, WriteError>) {
        let limits = self.limits();
        match line.and_then(|line| line.finish(limits)) {
            Ok(bytes) => self.out.urgent(bytes),
            Err(error) => tracing::debug!(%error, "a line can't be written"),
        }
    }

    /// Writes a line when it is its turn. Whether it could be made.
    fn normal(&mut self, line: Result<Writer, WriteError>) -> bool {
        let limits = self.limits();
        match line.and_then(|line| line.finish(limits)) {
            Ok(bytes) => self.out.normal(bytes),
            Err(error) => {
                tracing::debug!(%error, "a line can't be written");
                return false;
            }
        }
        true
    }
}

/// A random number of 0 to 255, for pauses that should differ; 0 where there is no randomness.
fn jitter() -> u8 {
    let mut byte = [0];
    let _ = getrandom::fill(&mut byte);
    byte[0]
}
