//! OTR with the people who write privately on one network, for one user.
//!
//! ```text
//!  line of a nick --> receive --> Told::Text (clear, or private with whether verified), Told::Lines to send, Told::Word for the user
//!  text to a nick --> send    --> Told::Lines (with the texts that they carry), or held: Told::Lines or Told::Failed later
//!  /msg *otr …    --> command --> lines to show
//! ```
//!
//! What must hold:
//! - No text that was meant to be private goes out in the clear without the user's word: [`mesyx_otr::Session`] sees to it, and nothing here
//!   goes around it.
//! - Steps that cost milliseconds run where blocking is allowed, and strangers get few of them.
//! - A changed fingerprint is told in a line that is stored, not only in passing.

mod commands;
mod keep;
#[cfg(test)]
mod tests;

use super::config::{OtrConfig, OtrOffer, OtrPolicy};
use mesyx_irc_codec::pace::Pace;
use mesyx_otr::{
    Config, Error, Event, Fingerprint, FingerprintBook, Identity, Observation, Output, PeerName, Policy, Sent, Session,
    SessionState, TagPlace, TextId, Trust, Verification,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most conversations at once; the one idle longest gives way.
const MOST_SESSIONS: usize = 200;
/// Messages in one private conversation that are taken at once; then one for each [`PRIVATE_EACH`]. More than networks let through.
const PRIVATE_AT_ONCE: u32 = 200;
const PRIVATE_EACH: Duration = Duration::from_millis(50);
/// What every whitespace tag begins with.
const TAG: &[u8] = b" \t  \t\t\t\t \t \t \t  ";

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Told {
    /// Lines for a nick, and the texts that they carry.
    Lines { nick: String, lines: Vec<Vec<u8>>, says: Vec<u64> },
    /// A text of a nick; `private`: it came encrypted, and whether from a verified key. `unexpected`: in the clear where it should not be.
    Text { nick: String, text: Vec<u8>, private: Option<bool>, unexpected: bool },
    /// A word for the user on a nick; `lasting`: must not be missed.
    Word { nick: String, text: String, lasting: bool },
    /// A text was not sent: why.
    Failed { say: u64, why: String },
}

/// What became of a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Took {
    Encrypted,
    Held,
    /// In the clear; the lines may carry an offer.
    Clear,
}

struct Peer {
    nick: String,
    session: Option<Session>,
    used: Instant,
    /// For what comes in a private conversation: strangers must not use up its share.
    pace: Pace,
}

/// All conversations of one connection.
pub(crate) struct Desk {
    network: String,
    account: String,
    casemapping: mesyx_sdk::address::CaseMapping,
    identity: Option<Arc<Identity>>,
    book: FingerprintBook,
    config: OtrConfig,
    /// The operator's word for the network.
    policy: OtrPolicy,
    /// The user's: for a nick, or for the network under the empty name.
    policies: BTreeMap<String, OtrPolicy>,
    peers: HashMap<String, Peer>,
    held: HashMap<(String, TextId), u64>,
    heavy: Pace,
    origin: Instant,
    changed: bool,
}

impl Desk {
    pub(crate) fn new(network: &str, account: &str, config: OtrConfig, policy: OtrPolicy) -> Self {
        Self {
            network: network.to_owned(),
            account: account.to_owned(),
            casemapping: mesyx_sdk::address::CaseMapping::Rfc1459,
            identity: None,
            book: FingerprintBook::new(),
            config,
            policy,
            policies: BTreeMap::new(),
            peers: HashMap::new(),
            held: HashMap::new(),
            heavy: Pace::new(40, Duration::from_millis(500)),
            origin: Instant::now(),
            changed: false,
        }
    }

    /// The account's own key, once it is made or read.
    pub(crate) fn set_identity(&mut self, identity: Arc<Identity>) {
        self.identity = Some(identity);
    }

    pub(crate) fn set_casemapping(&mut self, casemapping: mesyx_sdk::address::CaseMapping) {
        self.casemapping = casemapping;
    }

    fn fold(&self, nick: &str) -> String {
        self.casemapping.fold(nick)
    }

    fn peer_name(&self, nick: &str) -> PeerName {
        PeerName { network: self.network.clone(), account: self.account.clone(), peer: self.fold(nick) }
    }

    /// The policy for a nick.
    pub(crate) fn policy_of(&self, nick: &str) -> OtrPolicy {
        let own = self.policies.get(&self.fold(nick)).or_else(|| self.policies.get(""));
        own.copied().unwrap_or(self.policy)
    }

    /// Whether OTR has anything to do with this nick's lines or ours to it: while the key is missing, only where it is required.
    fn concerned(&self, nick: &str) -> bool {
        self.policy_of(nick) != OtrPolicy::Off && self.identity.is_some()
    }

    /// Whether a text of ours to a nick is to go by [`Desk::send`].
    pub(crate) fn concerned_by(&self, nick: &str, verb: mesyx_sdk::Verb) -> bool {
        let policy = self.policy_of(nick);
        if verb != mesyx_sdk::Verb::Notice || policy == OtrPolicy::Require {
            return policy == OtrPolicy::Require || self.concerned(nick);
        }
        // A NOTICE carries no offer; where there is a private conversation, it belongs there.
        let session = self.peers.get(&self.fold(nick)).and_then(|peer| peer.session.as_ref());
        self.concerned(nick)
            && (self.is_known(nick) || session.is_some_and(|session| session.state() != SessionState::Plain))
    }

    /// Takes a line of a nick.
    pub(crate) async fn receive(&mut self, nick: &str, raw: &[u8], room: usize, now: Instant) -> Vec<Told> {
        let folded = self.fold(nick);
        let speaks = raw.windows(4).any(|word| word == b"?OTR") || raw.windows(TAG.len()).any(|word| word == TAG);
        let known = self.peers.contains_key(&folded) || !self.book.known(&self.peer_name(nick)).is_empty();
        let required = self.policy_of(nick) == OtrPolicy::Require;
        if !self.concerned(nick) || !(speaks || known || required) {
            return vec![Told::Text { nick: nick.to_owned(), text: raw.to_vec(), private: None, unexpected: required }];
        }
        let session = self.session(nick, room, now);
        let heavy = session.as_ref().is_some_and(|session| session.is_heavy(raw));
        let private = session.is_some_and(|session| matches!(session.state(), SessionState::Private(_)));
        let since = now.saturating_duration_since(self.origin);
        if heavy {
            let pace = match self.peers.get_mut(&folded) {
                Some(peer) if private => &mut peer.pace,
                _ => &mut self.heavy,
            };
            if !pace.wait(since).is_zero() {
                tracing::warn!(network = self.network, private, "too many OTR messages at once: one was dropped");
                let lost = format!("{nick} sends too many encrypted messages at once: one was not read, and is lost.");
                return if private { vec![word(nick, lost, true)] } else { Vec::new() };
            }
            pace.spend(since, 1);
        }
        let raw = raw.to_vec();
        let run = move |session: &mut Session| session.receive(&raw, now);
        match self.with(&folded, heavy, run).await {
            Some(out) => self.handle(nick, out, Vec::new(), now),
            None => Vec::new(),
        }
    }

    /// Sends a text; `action`: what the speaker does.
    pub(crate) fn send(
        &mut self,
        nick: &str,
        text: &str,
        action: bool,
        say: u64,
        room: usize,
        now: Instant,
    ) -> Result<(Took, Vec<Told>), String> {
        if self.policy_of(nick) == OtrPolicy::Require && self.identity.is_none() {
            return Err("OTR is required, and its key is still being made; try again in a few seconds".to_owned());
        }
        if !self.concerned(nick) {
            return Ok((Took::Clear, Vec::new()));
        }
        let (required, known) = (self.policy_of(nick) == OtrPolicy::Require, self.is_known(nick));
        let Some(session) = self.session(nick, room, now) else { return Ok((Took::Clear, Vec::new())) };
        let private = required || known || session.state() != SessionState::Plain;
        // Within OTR clients write what they do as they type it; in the clear CTCP says it, and carries no offer.
        let line = match (action, private) {
            (true, true) => format!("/me {text}").into_bytes(),
            (true, false) => return Ok((Took::Clear, Vec::new())),
            (false, _) => text.as_bytes().to_vec(),
        };
        let (sent, out) = session.send(&line, now).map_err(|error| refusal(nick, error))?;
        let took = match sent {
            Sent::Encrypted => Took::Encrypted,
            Sent::Clear => Took::Clear,
            Sent::Held(id) => {
                let folded = self.fold(nick);
                self.held.insert((folded, id), say);
                Took::Held
            }
        };
        let says = if took == Took::Held { Vec::new() } else { vec![say] };
        Ok((took, self.handle(nick, out, says, now)))
    }

    /// Whether the peer has had OTR before.
    fn is_known(&self, nick: &str) -> bool {
        !self.book.known(&self.peer_name(nick)).is_empty()
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Told> {
        let due = |peer: &Peer| peer.session.as_ref().and_then(Session::next_deadline).is_some_and(|at| at <= now);
        let due: Vec<_> = self.peers.values().filter(|peer| due(peer)).map(|peer| peer.nick.clone()).collect();
        let mut told = Vec::new();
        for nick in due {
            let folded = self.fold(&nick);
            let session = self.peers.get_mut(&folded).and_then(|peer| peer.session.as_mut());
            if let Some(out) = session.map(|session| session.tick(now)) {
                told.extend(self.handle(&nick, out, Vec::new(), now));
            }
        }
        told
    }

    /// When [`Desk::tick`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.peers.values().filter_map(|peer| peer.session.as_ref()?.next_deadline()).min()
    }

    /// Somebody has another nick: the conversation goes with them.
    pub(crate) fn renamed(&mut self, old: &str, new: &str) {
        let (old, folded) = (self.fold(old), self.fold(new));
        if let Some(mut peer) = self.peers.remove(&old) {
            new.clone_into(&mut peer.nick);
            self.peers.insert(folded.clone(), peer);
            let moved: Vec<_> = self.held.extract_if(|(nick, _), _| *nick == old).collect();
            self.held.extend(moved.into_iter().map(|((_, id), say)| ((folded.clone(), id), say)));
        }
    }

    /// The session with a nick, made where there is none.
    fn session(&mut self, nick: &str, room: usize, now: Instant) -> Option<&mut Session> {
        let folded = self.fold(nick);
        if !self.peers.contains_key(&folded) {
            self.make_room();
            let config = Config {
                policy: own(self.policy_of(nick)),
                max_line: Some(room),
                known: self.book.known(&self.peer_name(nick)),
                tag_place: if self.config.offer == OtrOffer::Leading { TagPlace::Leading } else { TagPlace::Trailing },
                ..Config::default()
            };
            let session = Some(Session::new(self.identity.clone()?, config));
            let pace = Pace::new(PRIVATE_AT_ONCE, PRIVATE_EACH);
            self.peers.insert(folded.clone(), Peer { nick: nick.to_owned(), session, used: now, pace });
        }
        let peer = self.peers.get_mut(&folded)?;
        (peer.used, peer.nick) = (now, nick.to_owned());
        let session = peer.session.as_mut()?;
        session.set_max_line(Some(room));
        Some(session)
    }

    fn make_room(&mut self) {
        if self.peers.len() < MOST_SESSIONS {
            return;
        }
        let state = |peer: &Peer| peer.session.as_ref().map(Session::state);
        let rank = |peer: &Peer| (matches!(state(peer), Some(SessionState::Private(_))), peer.used);
        let spare = self.peers.iter().min_by_key(|(_, peer)| rank(peer)).map(|(nick, _)| nick.clone());
        if let Some(nick) = spare {
            self.peers.remove(&nick);
            self.held.retain(|(held, _), _| *held != nick);
        }
    }

    /// Runs a step on a session: one that costs milliseconds where blocking is allowed.
    async fn with<T: Send + 'static>(
        &mut self,
        folded: &str,
        heavy: bool,
        step: impl FnOnce(&mut Session) -> T + Send + 'static,
    ) -> Option<T> {
        let mut session = self.peers.get_mut(folded)?.session.take()?;
        let (session, result) = if heavy {
            let blocking = tokio::task::spawn_blocking(move || {
                let result = step(&mut session);
                (session, result)
            });
            blocking.await.ok()?
        } else {
            let result = step(&mut session);
            (session, result)
        };
        self.peers.get_mut(folded)?.session = Some(session);
        Some(result)
    }

    /// What a step came to.
    fn handle(&mut self, nick: &str, out: Output, mut says: Vec<u64>, now: Instant) -> Vec<Told> {
        let folded = self.fold(nick);
        let mut told = Vec::new();
        let mut lines = out.lines;
        for event in out.events {
            match event {
                Event::Private { text, fingerprint } => {
                    let verified = self.book.trust(&self.peer_name(nick), fingerprint) >= Trust::Smp;
                    told.push(Told::Text {
                        nick: nick.to_owned(),
                        text: text.to_vec(),
                        private: Some(verified),
                        unexpected: false,
                    });
                }
                Event::Clear { text, unexpected } => {
                    told.push(Told::Text { nick: nick.to_owned(), text: text.to_vec(), private: None, unexpected });
                }
                Event::HeldSent(id) => says.extend(self.held.remove(&(folded.clone(), id))),
                Event::HeldExpired { id, text } => {
                    let Some(say) = self.held.remove(&(folded.clone(), id)) else { continue };
                    let session = self.peers.get_mut(&folded).and_then(|peer| peer.session.as_mut());
                    let clear = session
                        .filter(|_| self.config.clear_after_hold)
                        .and_then(|session| session.send_clear(&text).ok());
                    if let Some(clear) = clear {
                        lines.extend(clear.lines);
                        says.push(say);
                        told.push(word(
                            nick,
                            format!("{nick} did not answer for OTR: what you wrote was sent IN THE CLEAR."),
                            true,
                        ));
                    } else {
                        let why = format!(
                            "not sent: {nick} did not answer for OTR within 45 seconds. /msg *otr start {nick} asks again; /msg *otr end {nick}, and what you write then goes in the clear"
                        );
                        told.push(Told::Failed { say, why });
                    }
                }
                Event::Established(established) => {
                    let seen = self.book.observe(&self.peer_name(nick), established.fingerprint);
                    self.changed = true;
                    told.push(begun(nick, established.fingerprint, established.refreshed, &seen));
                }
                Event::SmpDone(done) => told.push(self.verified(nick, done)),
                event => told.extend(word_on(nick, event)),
            }
        }
        if !lines.is_empty() {
            // Before the words: what is told to have been sent has been.
            told.insert(0, Told::Lines { nick: nick.to_owned(), lines, says });
        }
        let _ = now;
        told
    }

    fn verified(&mut self, nick: &str, done: Verification) -> Told {
        let Verification { fingerprint, same, ours, with_question } = done;
        if !same {
            return word(
                nick,
                format!("VERIFICATION FAILED: {nick} does not know the same secret. Somebody may be in between."),
                true,
            );
        }
        if with_question && !ours {
            return word(
                nick,
                format!(
                    "{nick} has verified you. To verify {nick}, ask something of your own: /msg *otr verify {nick} SECRET"
                ),
                true,
            );
        }
        self.book.set_trust(&self.peer_name(nick), fingerprint, Trust::Smp);
        self.changed = true;
        word(nick, format!("Verified: {nick} knows the same secret. Fingerprint {fingerprint} is {nick}'s."), true)
    }
}

fn own(policy: OtrPolicy) -> Policy {
    match policy {
        OtrPolicy::Off => Policy::Off,
        OtrPolicy::Opportunistic => Policy::Opportunistic,
        OtrPolicy::Require => Policy::Require,
    }
}

fn word(nick: &str, text: String, lasting: bool) -> Told {
    Told::Word { nick: nick.to_owned(), text, lasting }
}

fn refusal(nick: &str, error: Error) -> String {
    match error {
        Error::Finished => format!(
            "not sent: {nick} ended the private conversation. /msg *otr start {nick} begins another; /msg *otr end {nick}, and what you write then goes in the clear"
        ),
        error => format!("not sent: {error}"),
    }
}

fn begun(nick: &str, fingerprint: Fingerprint, refreshed: bool, seen: &Observation) -> Told {
    match seen {
        _ if refreshed => word(nick, format!("The private conversation with {nick} has fresh keys."), false),
        Observation::First => word(
            nick,
            format!(
                "Private conversation with {nick} (OTR). NOT VERIFIED: fingerprint {fingerprint} is new. /msg *otr verify {nick} SECRET"
            ),
            true,
        ),
        Observation::Known(trust) if *trust >= Trust::Smp => {
            word(nick, format!("Private conversation with {nick} (OTR), verified."), false)
        }
        Observation::Known(_) => word(
            nick,
            format!(
                "Private conversation with {nick} (OTR), with the same fingerprint as before, not verified. /msg *otr verify {nick} SECRET"
            ),
            false,
        ),
        Observation::Changed(before) => {
            let verified = before.iter().any(|(_, trust)| *trust >= Trust::Smp);
            let before: Vec<_> = before.iter().map(|(print, _)| print.to_string()).collect();
            let was = if verified { "VERIFIED as" } else { "known by" };
            word(
                nick,
                format!(
                    "WARNING: THE FINGERPRINT OF {nick} HAS CHANGED. It was {was} {}; now it is {fingerprint}. This is a new client of {nick}, or somebody who pretends to be {nick}. Ask {nick} by other means; then /msg *otr trust {nick}, or /msg *otr verify {nick} SECRET",
                    before.join(", ")
                ),
                true,
            )
        }
    }
}

fn word_on(nick: &str, event: Event) -> Option<Told> {
    let shown = |text: &[u8]| String::from_utf8_lossy(text).replace(|c: char| c.is_control(), " ");
    Some(match event {
        Event::EndedByPeer => word(
            nick,
            format!(
                "{nick} ended the private conversation. What you write is not sent until you /msg *otr start {nick}, or /msg *otr end {nick} to go on in the clear."
            ),
            true,
        ),
        Event::SmpAsked { question: None } => word(
            nick,
            format!("{nick} asks you to verify each other by a secret that you share: /msg *otr answer {nick} SECRET"),
            true,
        ),
        Event::SmpAsked { question: Some(question) } => word(
            nick,
            format!("{nick} asks you, to verify you: \"{}\". /msg *otr answer {nick} ANSWER", shown(&question)),
            true,
        ),
        Event::SmpAborted => word(nick, format!("The verification with {nick} was given up."), true),
        Event::PeerError(text) => word(nick, format!("{nick}'s client reports: {}", shown(&text)), false),
        Event::Unreadable(why) => {
            word(nick, format!("An encrypted message of {nick} could not be read ({why}); its text is lost."), true)
        }
        Event::Rejected(why) => {
            tracing::debug!(%why, "an OTR message was refused");
            return None;
        }
        _ => return None,
    })
}
