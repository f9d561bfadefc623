//! One client of the peer: its key exchange and its conversation.

use crate::auth::{Agreed, Auth};
use crate::event::{Established, Verification};
use crate::identity::{Fingerprint, Identity, InstanceTag};
use crate::message::{Header, Version};
use crate::ratchet::Ratchet;
use crate::smp::{self, Smp};
use crate::tlv::{self, Tlv};
use crate::{Error, Rejection, limits};
use std::time::Instant;

/// A client of the peer. In version 2, which knows no tags, there is one, and its tag is "none".
pub(crate) struct Instance {
    pub(crate) tag: InstanceTag,
    pub(crate) version: Version,
    pub(crate) auth: Auth,
    /// When the exchange last moved.
    pub(crate) auth_moved: Instant,
    pub(crate) state: State,
}

/// The state of a conversation.
pub(crate) enum State {
    Plain,
    Private(Box<Private>),
    /// The peer ended it.
    Finished,
}

/// A private conversation.
pub(crate) struct Private {
    header: Header,
    ratchet: Ratchet,
    pub(crate) fingerprint: Fingerprint,
    ssid: [u8; 8],
    pub(crate) smp: Run,
    pub(crate) last_sent: Instant,
}

/// An SMP run and who began it how.
#[derive(Default)]
pub(crate) struct Run {
    pub(crate) state: Smp,
    pub(crate) ours: bool,
    pub(crate) with_question: bool,
}

impl Instance {
    pub(crate) fn new(tag: InstanceTag, version: Version, now: Instant) -> Self {
        Self { tag, version, auth: Auth::Idle, auth_moved: now, state: State::Plain }
    }

    /// A signature is on its way that will replace the keys: what is encrypted now could not be read by then.
    pub(crate) fn keys_about_to_change(&self) -> bool {
        matches!(self.auth, Auth::AwaitSignature(_))
    }

    /// Forgets an exchange that got stuck.
    pub(crate) fn expire(&mut self, now: Instant) {
        if now.saturating_duration_since(self.auth_moved) >= limits::AKE_TIMEOUT {
            self.auth = Auth::Idle;
        }
    }

    /// Takes up the keys of a finished exchange; `changed` is left for the session to fill in.
    pub(crate) fn establish(
        &mut self,
        agreed: &Agreed,
        header: Header,
        now: Instant,
    ) -> Result<Established, Rejection> {
        if agreed.theirs == agreed.ours.public {
            return Err(Rejection::Reflected);
        }
        let fingerprint = agreed.their_key.fingerprint();
        let previous = match std::mem::replace(&mut self.state, State::Plain) {
            State::Private(private) => Some(private),
            State::Plain | State::Finished => None,
        };
        let refreshed = previous.as_ref().is_some_and(|private| private.fingerprint == fingerprint);
        let ratchet = Ratchet::new(agreed, previous.map(|private| private.ratchet))?;
        let ssid = agreed.ssid;
        let smp = Run::default();
        self.state = State::Private(Box::new(Private { header, ratchet, fingerprint, ssid, smp, last_sent: now }));
        Ok(Established {
            fingerprint,
            changed: false,
            refreshed,
            version: self.version,
            instance: (self.tag != InstanceTag::NONE).then_some(self.tag),
            session_id: ssid,
        })
    }
}

impl Private {
    pub(crate) fn header(&self) -> Header {
        self.header
    }

    pub(crate) fn ratchet(&mut self) -> &mut Ratchet {
        &mut self.ratchet
    }

    pub(crate) fn encrypt(&mut self, text: &[u8], tlvs: &[Tlv], now: Instant) -> Result<Vec<u8>, Rejection> {
        self.last_sent = now;
        // Only the loss of a text is worth a complaint.
        self.ratchet.encrypt(self.header, &tlv::join(text, tlvs), text.is_empty())
    }

    /// Begins an SMP run of ours.
    pub(crate) fn smp_start(&mut self, us: &Identity, typed: &[u8], question: Option<&[u8]>) -> Result<Tlv, Error> {
        if !matches!(self.smp.state, Smp::Idle) {
            return Err(Error::SmpBusy);
        }
        let secret = smp::secret(us.fingerprint(), self.fingerprint, &self.ssid, typed);
        let (state, tlv) = Smp::start(secret, question)?;
        self.smp = Run { state, ours: true, with_question: question.is_some() };
        Ok(tlv)
    }

    /// Answers the peer's run.
    pub(crate) fn smp_answer(&mut self, us: &Identity, typed: &[u8]) -> Result<Tlv, Error> {
        let secret = smp::secret(self.fingerprint, us.fingerprint(), &self.ssid, typed);
        self.smp.state.answer(&secret)?.ok_or(Error::SmpNotAsked)
    }

    pub(crate) fn verification(&self, same: bool) -> Verification {
        let Run { ours, with_question, .. } = self.smp;
        Verification { fingerprint: self.fingerprint, same, ours, with_question }
    }
}
