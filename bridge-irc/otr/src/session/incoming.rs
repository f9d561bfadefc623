//! The receiving half of a session.

use super::{Offer, Pending, Session};
use crate::auth::{Agreed, Auth, Commitment};
use crate::event::{Event, Output, Policy, Text};
use crate::fragment;
use crate::identity::InstanceTag;
use crate::instance::{Instance, Run, State};
use crate::line::{self, Line, Versions};
use crate::message::{self, Body, DataMessage, DhCommit, Header, Version};
use crate::smp::{Smp, Step};
use crate::tlv::{self, Tlv, kind};
use crate::{Rejection, limits};
use std::time::Instant;

/// For the peer, when a message of it could not be read.
const COULD_NOT_READ: &str = "An encrypted message arrived that can't be read here. Please start OTR again.";

impl Session {
    /// Takes in a line from the peer. Nothing that a peer sends makes this fail: what is wrong with a line is an
    /// event.
    ///
    /// Most lines cost microseconds. Lines that [`Session::is_heavy`] cost milliseconds of CPU, those of a
    /// verification tens of them (figures in the [crate documentation](crate)): hand them to a thread that may
    /// block.
    pub fn receive(&mut self, line: &[u8], now: Instant) -> Output {
        let mut out = Output::default();
        if self.config.policy == Policy::Off {
            out.events.push(Event::Clear { text: Text::new(line), unexpected: false });
            return out;
        }
        self.expire(now, &mut out);
        match line::classify(line) {
            Line::Plain(text) => {
                if matches!(self.offer, Offer::Made(_)) {
                    self.offer = Offer::Rejected;
                }
                self.plain(text, &mut out);
            }
            Line::Tagged(text, versions) => {
                self.plain(&text, &mut out);
                // Clients tag every text until they are answered; one answer at a time is enough.
                if self.pending.is_none() && !self.instances.iter().any(|i| matches!(i.auth, Auth::AwaitKey(_))) {
                    self.commit(versions, now, &mut out);
                }
            }
            Line::Query(versions) => self.commit(versions, now, &mut out),
            Line::Error(text) => self.peer_error(text, now, &mut out),
            Line::Encoded(line) => self.encoded(line, now, &mut out),
            Line::Fragment(line) => match self.collector.add(line, self.identity.tag(), now) {
                Ok(None) => {}
                Ok(Some(whole)) => self.encoded(&whole, now, &mut out),
                Err(why) => out.events.push(Event::Rejected(why)),
            },
        }
        out
    }

    /// Whether taking this line in may cost more than a fraction of a millisecond of CPU. Itself costs next to
    /// nothing.
    #[must_use]
    pub fn is_heavy(&self, line: &[u8]) -> bool {
        match line::classify(line) {
            Line::Plain(_) | Line::Error(_) => false,
            Line::Tagged(..) | Line::Query(_) | Line::Encoded(_) => self.config.policy != Policy::Off,
            Line::Fragment(line) => self.config.policy != Policy::Off && self.collector.would_complete(line),
        }
    }

    fn plain(&self, text: &[u8], out: &mut Output) {
        // A bare tag.
        if text.is_empty() {
            return;
        }
        let plain_here = self.active_instance().is_none_or(|instance| matches!(instance.state, State::Plain));
        let unexpected = !plain_here || self.expects || self.config.policy == Policy::Require;
        out.events.push(Event::Clear { text: Text::new(text), unexpected });
    }

    /// The peer offered versions: takes the best one up and begins a key exchange.
    fn commit(&mut self, offered: Versions, now: Instant, out: &mut Output) {
        let begun = if !offered.v2 && !offered.v3 {
            Err(Rejection::Version)
        } else if !self.exchanges.allow(now) {
            Err(Rejection::TooMany)
        } else {
            self.begin(if offered.v3 { Version::V3 } else { Version::V2 }, now, out)
        };
        if let Err(why) = begun {
            out.events.push(Event::Rejected(why));
        }
    }

    pub(super) fn begin(&mut self, version: Version, now: Instant, out: &mut Output) -> Result<(), Rejection> {
        let commitment = Commitment::new()?;
        let header = self.header(version, InstanceTag::NONE);
        out.lines.extend(fragment::split(commitment.encode(header), header, self.config.max_line));
        if version == Version::V2 {
            let at = self.instance(InstanceTag::NONE, version, now)?;
            self.instances[at].auth = Auth::AwaitKey(Box::new(commitment));
            self.instances[at].auth_moved = now;
            return Ok(());
        }
        for instance in &mut self.instances {
            if !matches!(instance.auth, Auth::AwaitReveal(_)) {
                instance.auth = Auth::Idle;
            }
        }
        self.pending = Some(Pending { commitment: Box::new(commitment), since: now });
        Ok(())
    }

    fn peer_error(&mut self, text: &[u8], now: Instant, out: &mut Output) {
        let cut = &text[..text.len().min(limits::MAX_ERROR_TEXT)];
        out.events.push(Event::PeerError(Text::new(cut)));
        // The peer lost its keys, most likely: offer new ones.
        if self.expects && self.replies.allow(now) {
            self.query_if_due(now, out);
        }
    }

    fn encoded(&mut self, line: &[u8], now: Instant, out: &mut Output) {
        let handled = message::decode(line).and_then(|(header, body)| {
            if header.version == Version::V3 {
                if header.sender == self.identity.tag() {
                    return Err(Rejection::Reflected);
                }
                let for_anyone = header.receiver == InstanceTag::NONE && matches!(body, Body::DhCommit(_));
                if !for_anyone && header.receiver != self.identity.tag() {
                    // For another client of ours. Its business, and no error.
                    return Ok(());
                }
            }
            self.message(header, body, now, out)
        });
        if let Err(why) = handled {
            out.events.push(Event::Rejected(why));
        }
    }

    fn message(&mut self, from: Header, body: Body, now: Instant, out: &mut Output) -> Result<(), Rejection> {
        let header = self.header(from.version, from.sender);
        let identity = self.identity.clone();
        match body {
            Body::DhCommit(commit) => self.on_commit(commit, header, now, out),
            Body::DhKey(key) => {
                let at = match self.index(from.sender) {
                    Some(at) => at,
                    None if self.pending.is_some() && !self.exchanges.allow(now) => return Err(Rejection::TooMany),
                    None if self.pending.is_some() => self.instance(from.sender, from.version, now)?,
                    None => return Err(Rejection::Unexpected),
                };
                let instance = &mut self.instances[at];
                if let Some(pending) = self.pending.as_ref().filter(|_| from.version == Version::V3)
                    && !matches!(instance.auth, Auth::AwaitSignature(_))
                {
                    instance.auth = Auth::AwaitKey(pending.commitment.clone());
                }
                let line = instance.auth.on_key(key, header, &identity)?;
                instance.auth_moved = now;
                out.lines.extend(fragment::split(line, header, self.config.max_line));
                Ok(())
            }
            Body::RevealSignature(reveal) => {
                let at = self.index(from.sender).ok_or(Rejection::Unexpected)?;
                let (line, agreed) = self.instances[at].auth.on_reveal(&reveal, header, &identity)?;
                out.lines.extend(fragment::split(line, header, self.config.max_line));
                self.establish(at, &agreed, header, now, out)
            }
            Body::Signature(signature) => {
                let at = self.index(from.sender).ok_or(Rejection::Unexpected)?;
                let agreed = self.instances[at].auth.on_signature(&signature)?;
                self.establish(at, &agreed, header, now, out)
            }
            Body::Data { message, covered, mac } => {
                self.on_data(from, message, &covered, &mac, now, out);
                Ok(())
            }
        }
    }

    fn on_commit(&mut self, commit: DhCommit, header: Header, now: Instant, out: &mut Output) -> Result<(), Rejection> {
        let own = self.pending.as_ref().is_some_and(|pending| pending.commitment.is(&commit));
        let known = self.index(header.receiver).and_then(|at| self.instances.get(at));
        if own || known.is_some_and(|instance| matches!(&instance.auth, Auth::AwaitKey(ours) if ours.is(&commit))) {
            return Err(Rejection::Reflected);
        }
        if !self.exchanges.allow(now) {
            return Err(Rejection::TooMany);
        }
        let at = self.instance(header.receiver, header.version, now)?;
        let instance = &mut self.instances[at];
        if header.version == Version::V3
            && matches!(instance.auth, Auth::Idle)
            && let Some(pending) = self.pending.take()
        {
            // Both sides began at once; the rule is the same as within one instance.
            instance.auth = Auth::AwaitKey(pending.commitment);
        }
        let line = instance.auth.on_commit(commit, header)?;
        instance.auth_moved = now;
        out.lines.extend(fragment::split(line, header, self.config.max_line));
        Ok(())
    }

    fn establish(
        &mut self,
        at: usize,
        agreed: &Agreed,
        header: Header,
        now: Instant,
        out: &mut Output,
    ) -> Result<(), Rejection> {
        let mut established = self.instances[at].establish(agreed, header, now)?;
        established.changed = !self.config.known.is_empty() && !self.config.known.contains(&established.fingerprint);
        if self.config.known.is_empty() {
            self.config.known.push(established.fingerprint);
        }
        self.active = Some(self.instances[at].tag);
        self.pending = None;
        self.last_query = None;
        self.expects = true;
        self.offer = Offer::Rejected;
        let changed = established.changed;
        out.events.push(Event::Established(established));
        if !changed {
            self.flush_held(now, out)?;
        }
        Ok(())
    }

    fn on_data(
        &mut self,
        from: Header,
        message: DataMessage,
        covered: &[u8],
        mac: &[u8; 20],
        now: Instant,
        out: &mut Output,
    ) {
        let quiet = message.ignore_unreadable;
        let index = self.index(from.sender);
        let opened = match index.and_then(|at| self.instances.get_mut(at)) {
            Some(Instance { version, state: State::Private(private), .. }) if *version == from.version => private
                .ratchet()
                .decrypt(message, covered, mac)
                .map(|plain| (private.fingerprint, private.last_sent, plain)),
            _ => Err(Rejection::UnknownKeys),
        };
        let (Ok((fingerprint, last_sent, plain)), Some(at)) = (&opened, index) else {
            let why = opened.err().unwrap_or(Rejection::UnknownKeys);
            // A copy of what was read already lost nobody anything.
            let lost = why != Rejection::Replayed && !quiet;
            out.events.push(if lost { Event::Unreadable(why) } else { Event::Rejected(why) });
            if lost && !matches!(self.offer, Offer::Withdrawn) && self.replies.allow(now) {
                out.lines.push(line::our_error(COULD_NOT_READ, self.config.max_line));
            }
            return;
        };
        let (text, tlvs) = tlv::split(plain);
        if !text.is_empty() {
            self.active = Some(from.sender);
            out.events.push(Event::Private { text: Text::new(text), fingerprint: *fingerprint });
        }
        for tlv in &tlvs {
            self.record(at, tlv, now, out);
        }
        if !text.is_empty() && now.saturating_duration_since(*last_sent) >= limits::HEARTBEAT_INTERVAL {
            let _ = self.send_to(at, b"", &[], now, out);
        }
    }

    /// A record of a data message.
    fn record(&mut self, at: usize, tlv: &Tlv, now: Instant, out: &mut Output) {
        let Some(Instance { tag, state, .. }) = self.instances.get_mut(at) else { return };
        let State::Private(private) = state else { return };
        match tlv.kind {
            kind::DISCONNECTED => {
                if !matches!(private.smp.state, Smp::Idle) {
                    out.events.push(Event::SmpAborted);
                }
                *state = State::Finished;
                if self.active == Some(*tag) {
                    out.events.push(Event::EndedByPeer);
                }
            }
            kind::EXTRA_KEY => out.events.push(Event::ExtraKeyIgnored),
            kind::SMP_1..=kind::SMP_1_WITH_QUESTION => {
                let before = !matches!(private.smp.state, Smp::Idle);
                let reply = match private.smp.state.receive(tlv) {
                    Ok(Step::Ask(question)) => {
                        let state = std::mem::take(&mut private.smp.state);
                        private.smp = Run { state, ours: false, with_question: question.is_some() };
                        out.events.push(Event::SmpAsked { question: question.map(|text| Text::new(&text)) });
                        // Only what the user is looking at can be answered.
                        self.active = Some(*tag);
                        None
                    }
                    Ok(Step::Reply(tlv)) => Some(tlv),
                    Ok(Step::Done { same, reply }) => {
                        out.events.push(Event::SmpDone(private.verification(same)));
                        reply
                    }
                    Ok(Step::Aborted) => {
                        if before {
                            out.events.push(Event::SmpAborted);
                        }
                        None
                    }
                    Err(why) => {
                        out.events.push(Event::Rejected(why));
                        if before {
                            out.events.push(Event::SmpAborted);
                        }
                        Some(Tlv::empty(kind::SMP_ABORT))
                    }
                };
                if let Some(reply) = reply {
                    let _ = self.send_to(at, b"", &[reply], now, out);
                }
            }
            // Padding, and what we do not know.
            _ => {}
        }
    }

    fn index(&self, tag: InstanceTag) -> Option<usize> {
        self.instances.iter().position(|instance| instance.tag == tag)
    }

    /// Finds a client of the peer or makes room for it.
    fn instance(&mut self, tag: InstanceTag, version: Version, now: Instant) -> Result<usize, Rejection> {
        if let Some(at) = self.index(tag) {
            return Ok(at);
        }
        if self.instances.len() >= limits::MAX_INSTANCES {
            let spare =
                (0..self.instances.len()).filter(|&at| Some(self.instances[at].tag) != self.active).min_by_key(|&at| {
                    (matches!(self.instances[at].state, State::Private(_)), self.instances[at].auth_moved)
                });
            self.instances.swap_remove(spare.ok_or(Rejection::TooMany)?);
        }
        self.instances.push(Instance::new(tag, version, now));
        Ok(self.instances.len() - 1)
    }
}
