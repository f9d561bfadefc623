//! A conversation with one peer, over all of its clients.

mod incoming;

use crate::auth::{Auth, Commitment};
use crate::event::{Config, Event, Output, Policy, Sent, Text, TextId};
use crate::fragment::{self, Collector};
use crate::identity::{Fingerprint, Identity, InstanceTag};
use crate::instance::{Instance, Private, State};
use crate::message::{Header, Version};
use crate::smp::Smp;
use crate::throttle::Throttle;
use crate::tlv::{Tlv, kind};
use crate::{Error, Rejection, limits, line};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// Where a conversation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// No private conversation.
    Plain,
    /// A private conversation with the owner of this key.
    Private(Fingerprint),
    /// The peer ended the private conversation; text is refused until the user decides.
    Finished,
}

/// Our end of a conversation with one peer. See the [crate documentation](crate) for how it is used.
pub struct Session {
    identity: Arc<Identity>,
    config: Config,
    instances: Vec<Instance>,
    /// The client that our texts go to: the one that last began a private conversation or sent text through one.
    active: Option<InstanceTag>,
    /// Our version 3 commitment, for whichever client answers it.
    pending: Option<Pending>,
    collector: Collector,
    offer: Offer,
    /// The peer is expected to speak OTR: texts wait for it.
    expects: bool,
    held: VecDeque<Held>,
    next_id: u64,
    last_query: Option<Instant>,
    exchanges: Throttle,
    replies: Throttle,
}

struct Pending {
    commitment: Box<Commitment>,
    since: Instant,
}

struct Held {
    id: TextId,
    text: Text,
    since: Instant,
}

/// Our offers by whitespace tag.
#[derive(Clone, Copy)]
enum Offer {
    NotMade,
    Made(Instant),
    /// A plain text without a tag came back, or OTR was spoken and there is nothing left to offer.
    Rejected,
    /// The user ended the private conversation. Not even an error is sent that a peer could take for a wish to begin
    /// again.
    Withdrawn,
}

impl Session {
    /// A new conversation with a peer.
    #[must_use]
    pub fn new(identity: Arc<Identity>, config: Config) -> Self {
        Self {
            identity,
            expects: !config.known.is_empty(),
            config,
            instances: Vec::new(),
            active: None,
            pending: None,
            collector: Collector::default(),
            offer: Offer::NotMade,
            held: VecDeque::new(),
            next_id: 0,
            last_query: None,
            exchanges: Throttle::new(limits::MAX_AKE, limits::AKE_WINDOW),
            replies: Throttle::new(limits::MAX_REPLIES, limits::REPLY_WINDOW),
        }
    }

    /// Where the conversation stands.
    #[must_use]
    pub fn state(&self) -> SessionState {
        match self.active_instance().map(|instance| &instance.state) {
            None | Some(State::Plain) => SessionState::Plain,
            Some(State::Private(private)) => SessionState::Private(private.fingerprint),
            Some(State::Finished) => SessionState::Finished,
        }
    }

    /// Changes the policy. Before [`Policy::Off`], end a private conversation: it can't go on without OTR, and texts
    /// are refused until it is ended.
    pub fn set_policy(&mut self, policy: Policy) {
        self.config.policy = policy;
    }

    /// Changes the longest line, for instance after our own prefix on the network became longer.
    pub fn set_max_line(&mut self, max_line: Option<usize>) {
        self.config.max_line = max_line;
    }

    /// Sends a text: encrypted in a private conversation; else, as the policy and what is known of the peer say, in
    /// the clear (the first one with an offer) or held back while the peer is asked for a private conversation.
    ///
    /// A CTCP message (it begins with the byte 1) and a text that begins with blanks carry no offer, which would make
    /// them something else. Takes less than a millisecond of CPU.
    ///
    /// # Errors
    /// [`Error::Finished`] after the peer ended the conversation; [`Error::PolicyOff`] if OTR was switched off in the
    /// middle of one; [`Error::TooLong`], [`Error::ZeroByte`], [`Error::HeldFull`], [`Error::Random`].
    pub fn send(&mut self, text: &[u8], now: Instant) -> Result<(Sent, Output), Error> {
        let mut out = Output::default();
        if self.config.policy == Policy::Off {
            // Switched off in the middle of a conversation: that must not open it.
            if self.state() != SessionState::Plain {
                return Err(Error::PolicyOff);
            }
            out.lines.push(text.to_vec());
            return Ok((Sent::Clear, out));
        }
        if text.len() > limits::MAX_TEXT {
            return Err(Error::TooLong);
        }
        if text.contains(&0) {
            return Err(Error::ZeroByte);
        }
        self.expire(now, &mut out);
        let wait = match self.active_instance() {
            Some(Instance { state: State::Finished, .. }) => return Err(Error::Finished),
            Some(instance @ Instance { state: State::Private(_), .. }) if instance.keys_about_to_change() => true,
            Some(Instance { state: State::Private(_), .. }) => {
                self.send_private(text, &[], now, &mut out)?;
                return Ok((Sent::Encrypted, out));
            }
            _ => {
                let wait = self.config.policy == Policy::Require || self.expects;
                if wait {
                    self.query_if_due(now, &mut out);
                }
                wait
            }
        };
        if wait {
            return Ok((Sent::Held(self.hold(text, now)?), out));
        }
        out.lines.push(self.clear_line(text, now));
        Ok((Sent::Clear, out))
    }

    /// Sends a text in the clear although the peer may speak OTR: the user's own decision, for instance about a held
    /// text that expired. Refused in a private conversation.
    ///
    /// # Errors
    /// [`Error::ClearTextForbidden`] in a private conversation, after the peer ended one, and where the policy
    /// requires OTR.
    pub fn send_clear(&mut self, text: &[u8]) -> Result<Output, Error> {
        if self.config.policy == Policy::Require || self.state() != SessionState::Plain {
            return Err(Error::ClearTextForbidden);
        }
        Ok(Output { lines: vec![text.to_vec()], events: Vec::new() })
    }

    /// Asks the peer for a private conversation, or for fresh keys in the one that runs. Until the peer has answered,
    /// texts are held. While a key exchange moves, no line asks for another: libotr loses the conversation over two at once.
    ///
    /// # Errors
    /// [`Error::PolicyOff`]; [`Error::TooManyExchanges`].
    pub fn start(&mut self, now: Instant) -> Result<Output, Error> {
        if self.config.policy == Policy::Off {
            return Err(Error::PolicyOff);
        }
        if !self.exchanges.allow(now) {
            return Err(Error::TooManyExchanges);
        }
        for instance in &mut self.instances {
            if matches!(instance.state, State::Finished) {
                instance.state = State::Plain;
            }
        }
        self.expects = true;
        if self.exchange_moves(now) {
            return Ok(Output::default());
        }
        self.last_query = Some(now);
        Ok(Output {
            lines: vec![line::our_query(&self.config.query_sentence, self.config.max_line)],
            events: Vec::new(),
        })
    }

    /// Asks for fresh keys in the private conversation that runs: by a commitment, not by a query, since irssi's plugin sends in the clear
    /// what its user says between a query and the new keys. Without a private conversation the same as [`Session::start`].
    ///
    /// # Errors
    /// [`Error::PolicyOff`]; [`Error::TooManyExchanges`]; [`Error::Random`].
    pub fn refresh(&mut self, now: Instant) -> Result<Output, Error> {
        let version = match self.active_instance() {
            Some(Instance { state: State::Private(private), .. }) => private.header().version,
            _ => return self.start(now),
        };
        if self.config.policy == Policy::Off {
            return Err(Error::PolicyOff);
        }
        if !self.exchanges.allow(now) {
            return Err(Error::TooManyExchanges);
        }
        let mut out = Output::default();
        if !self.exchange_moves(now) {
            self.begin(version, now, &mut out).map_err(|_| Error::Random)?;
        }
        Ok(out)
    }

    /// Whether a key exchange has had an answer lately.
    fn exchange_moves(&self, now: Instant) -> bool {
        self.instances.iter().any(|instance| {
            let answered = matches!(instance.auth, Auth::AwaitReveal(_) | Auth::AwaitSignature(_));
            answered && now.saturating_duration_since(instance.auth_moved) < limits::QUERY_INTERVAL
        })
    }

    /// Ends the private conversation and tells the peer. The user has decided to go on in the clear: texts are no
    /// longer held (unless the policy requires OTR), and no offer is made until the peer makes one.
    ///
    /// Texts that were waiting come back as [`Event::HeldExpired`].
    pub fn end(&mut self, now: Instant) -> Output {
        let mut out = Output::default();
        for at in 0..self.instances.len() {
            let goodbye = [Tlv::empty(kind::DISCONNECTED)];
            // Should encryption fail, the peer is not told; our side is closed all the same.
            let _ = self.send_to(at, b"", &goodbye, now, &mut out);
        }
        self.instances.clear();
        self.active = None;
        self.pending = None;
        self.expects = false;
        self.offer = Offer::Withdrawn;
        out.events.extend(self.held.drain(..).map(|held| Event::HeldExpired { id: held.id, text: held.text }));
        out
    }

    /// The user accepts the fingerprint of the running conversation, although the peer was known by another: it is
    /// known from now on, and held texts go out.
    ///
    /// # Errors
    /// [`Error::NotEncrypted`]; [`Error::Random`].
    pub fn release_held(&mut self, now: Instant) -> Result<Output, Error> {
        let SessionState::Private(fingerprint) = self.state() else { return Err(Error::NotEncrypted) };
        self.config.known.push(fingerprint);
        let mut out = Output::default();
        self.flush_held(now, &mut out)?;
        Ok(out)
    }

    /// Begins a verification: does the peer know `secret`? A question may say which secret is meant.
    /// Takes some 7 ms of CPU.
    ///
    /// # Errors
    /// [`Error::NotEncrypted`], [`Error::SmpBusy`], [`Error::ZeroByte`] in the question, [`Error::TooLong`],
    /// [`Error::Random`].
    pub fn smp_start(&mut self, secret: &[u8], question: Option<&[u8]>, now: Instant) -> Result<Output, Error> {
        if secret.len().max(question.map_or(0, <[u8]>::len)) > limits::MAX_SMP_TEXT {
            return Err(Error::TooLong);
        }
        if question.is_some_and(|question| question.contains(&0)) {
            return Err(Error::ZeroByte);
        }
        let identity = self.identity.clone();
        let tlv = self.private()?.smp_start(&identity, secret, question)?;
        self.send_tlv(tlv, now)
    }

    /// Gives the user's secret after [`Event::SmpAsked`]. Takes some 20 ms of CPU.
    ///
    /// # Errors
    /// [`Error::NotEncrypted`], [`Error::SmpNotAsked`], [`Error::TooLong`], [`Error::Random`].
    pub fn smp_answer(&mut self, secret: &[u8], now: Instant) -> Result<Output, Error> {
        if secret.len() > limits::MAX_SMP_TEXT {
            return Err(Error::TooLong);
        }
        let identity = self.identity.clone();
        let tlv = self.private()?.smp_answer(&identity, secret)?;
        self.send_tlv(tlv, now)
    }

    /// Gives up a verification, whoever began it; also declines one that was asked for.
    ///
    /// # Errors
    /// [`Error::NotEncrypted`], [`Error::Random`].
    pub fn smp_abort(&mut self, now: Instant) -> Result<Output, Error> {
        self.private()?.smp.state = Smp::Idle;
        self.send_tlv(Tlv::empty(kind::SMP_ABORT), now)
    }

    /// Lets time pass: gives up texts and exchanges that waited too long. To be called at
    /// [`Session::next_deadline`], or every few seconds.
    pub fn tick(&mut self, now: Instant) -> Output {
        let mut out = Output::default();
        self.expire(now, &mut out);
        out
    }

    /// When [`Session::tick`] has something to tell, if ever.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.held.front().map(|held| held.since + limits::HOLD_TIME)
    }

    fn active_instance(&self) -> Option<&Instance> {
        self.instances.iter().find(|instance| Some(instance.tag) == self.active)
    }

    fn active_index(&self) -> Option<usize> {
        self.instances.iter().position(|instance| Some(instance.tag) == self.active)
    }

    fn private(&mut self) -> Result<&mut Private, Error> {
        let active = self.active;
        match self.instances.iter_mut().find(|instance| Some(instance.tag) == active).map(|found| &mut found.state) {
            Some(State::Private(private)) => Ok(private),
            _ => Err(Error::NotEncrypted),
        }
    }

    fn send_tlv(&mut self, tlv: Tlv, now: Instant) -> Result<Output, Error> {
        let mut out = Output::default();
        self.send_private(b"", &[tlv], now, &mut out)?;
        Ok(out)
    }

    /// Encrypts for the active instance.
    fn send_private(&mut self, text: &[u8], tlvs: &[Tlv], now: Instant, out: &mut Output) -> Result<(), Error> {
        let at = self.active_index().ok_or(Error::NotEncrypted)?;
        // Nothing else can go wrong with our own keys.
        self.send_to(at, text, tlvs, now, out).map_err(|_| Error::Random)
    }

    /// Encrypts for an instance, if it is in a private conversation.
    fn send_to(
        &mut self,
        at: usize,
        text: &[u8],
        tlvs: &[Tlv],
        now: Instant,
        out: &mut Output,
    ) -> Result<(), Rejection> {
        if let Some(Instance { state: State::Private(private), .. }) = self.instances.get_mut(at) {
            let line = private.encrypt(text, tlvs, now)?;
            out.lines.extend(fragment::split(line, private.header(), self.config.max_line));
        }
        Ok(())
    }

    fn hold(&mut self, text: &[u8], now: Instant) -> Result<TextId, Error> {
        if self.held.len() >= limits::MAX_HELD {
            return Err(Error::HeldFull);
        }
        let id = TextId(self.next_id);
        self.next_id += 1;
        self.held.push_back(Held { id, text: Text::new(text), since: now });
        Ok(id)
    }

    fn flush_held(&mut self, now: Instant, out: &mut Output) -> Result<(), Error> {
        while let Some(held) = self.held.pop_front() {
            self.send_private(&held.text, &[], now, out)?;
            out.events.push(Event::HeldSent(held.id));
        }
        Ok(())
    }

    fn query_if_due(&mut self, now: Instant, out: &mut Output) {
        let due = self.last_query.is_none_or(|last| now.saturating_duration_since(last) >= limits::QUERY_INTERVAL);
        if due && self.exchanges.allow(now) {
            self.last_query = Some(now);
            out.lines.push(line::our_query(&self.config.query_sentence, self.config.max_line));
        }
    }

    /// A plain text, with an offer if one is due.
    fn clear_line(&mut self, text: &[u8], now: Instant) -> Vec<u8> {
        let due = match self.offer {
            Offer::NotMade => true,
            Offer::Made(when) => now.saturating_duration_since(when) >= limits::TAG_INTERVAL,
            Offer::Rejected | Offer::Withdrawn => false,
        };
        let untaggable = text.first().is_none_or(|first| matches!(first, 1 | b' ' | b'\t'));
        if !due || untaggable {
            return text.to_vec();
        }
        self.offer = Offer::Made(now);
        line::with_tag(text, self.config.tag_place)
    }

    fn expire(&mut self, now: Instant, out: &mut Output) {
        self.collector.expire(now);
        self.instances.iter_mut().for_each(|instance| instance.expire(now));
        if self.pending.as_ref().is_some_and(|p| now.saturating_duration_since(p.since) >= limits::AKE_TIMEOUT) {
            self.pending = None;
        }
        while let Some(held) =
            self.held.pop_front_if(|held| now.saturating_duration_since(held.since) >= limits::HOLD_TIME)
        {
            out.events.push(Event::HeldExpired { id: held.id, text: held.text });
        }
    }

    /// What stands before our messages to a client of the peer.
    fn header(&self, version: Version, receiver: InstanceTag) -> Header {
        let sender = if version == Version::V3 { self.identity.tag() } else { InstanceTag::NONE };
        Header { version, sender, receiver }
    }
}

/// Says where the conversation stands, without keys or texts.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("state", &self.state()).field("held", &self.held.len()).finish_non_exhaustive()
    }
}
