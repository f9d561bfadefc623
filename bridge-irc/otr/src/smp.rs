//! The socialist millionaires' protocol: do two people know the same secret? Neither learns anything else.
//!
//! Four messages. With g the generator and q its order, the initiator picks a2, a3 and the responder b2, b3; both
//! arrive at g2 = g^(a2 b2) and g3 = g^(a3 b3). Each sends P = g3^r and Q = g^r g2^secret, and then its half of
//! R = (Qa / Qb)^(a3 b3). The secrets are the same exactly if R = Pa / Pb. Every value comes with a proof that its
//! sender knows the exponents.

use crate::group::{Element, Exponent};
use crate::identity::Fingerprint;
use crate::proof::{EqualLogs, KnowsCoordinates, KnowsLog};
use crate::tlv::{Tlv, kind};
use crate::wire::{Reader, Writer};
use crate::{Error, Rejection};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Where a run stands. Boxed, so that moving the state leaves no copies of the secrets behind.
#[derive(Default)]
pub(crate) enum Smp {
    /// None under way.
    #[default]
    Idle,
    /// The peer began; its first message is checked, and our user's secret is awaited.
    Asked(Box<FirstMessage>),
    /// We began, and wait for the second message.
    AwaitSecond(Box<Initiator>),
    /// We answered, and wait for the third message.
    AwaitThird(Box<Responder>),
    /// We sent the third message, and wait for the last.
    AwaitFourth(Box<Settling>),
}

/// The checked contents of a first message.
pub(crate) struct FirstMessage {
    g2a: Element,
    g3a: Element,
}

/// The initiator's state after the first message.
pub(crate) struct Initiator {
    a2: Exponent,
    a3: Exponent,
    secret: Exponent,
}

/// The responder's state after the second message.
pub(crate) struct Responder {
    g3a: Element,
    g2: Element,
    g3: Element,
    b3: Exponent,
    pb: Element,
    qb: Element,
}

/// The initiator's state after the third message.
pub(crate) struct Settling {
    g3b: Element,
    a3: Exponent,
    /// Pa / Pb.
    p: Element,
    /// Qa / Qb.
    q: Element,
}

/// What a message of the peer led to.
pub(crate) enum Step {
    /// The user is to be asked for the secret; with the peer's question, if it sent one.
    Ask(Option<Vec<u8>>),
    /// The next message.
    Reply(Tlv),
    /// The run is over: were the secrets the same? With our last message, if the peer waits for it.
    Done { same: bool, reply: Option<Tlv> },
    /// The peer gave up.
    Aborted,
}

/// The secret that is compared: what the user typed, bound to both keys and to this very session, so that nobody in
/// between can pass messages on.
pub(crate) fn secret(initiator: Fingerprint, responder: Fingerprint, ssid: &[u8; 8], typed: &[u8]) -> Exponent {
    let hash = Sha256::new()
        .chain_update([1])
        .chain_update(initiator.0)
        .chain_update(responder.0)
        .chain_update(ssid)
        .chain_update(typed)
        .finalize();
    Exponent::from_hash(&Zeroizing::new(hash.into()))
}

impl Smp {
    /// Begins a run.
    pub(crate) fn start(secret: Exponent, question: Option<&[u8]>) -> Result<(Self, Tlv), Error> {
        let (a2, a3) = (Exponent::random_full()?, Exponent::random_full()?);
        let mut out = Message::default();
        out.element(&Element::G.pow(&a2)).log_proof(&KnowsLog::prove(1, &a2)?);
        out.element(&Element::G.pow(&a3)).log_proof(&KnowsLog::prove(2, &a3)?);
        let tlv = match question {
            None => out.finish(kind::SMP_1, &[]),
            Some(question) => out.finish(kind::SMP_1_WITH_QUESTION, &[question, &[0]].concat()),
        };
        Ok((Self::AwaitSecond(Box::new(Initiator { a2, a3, secret })), tlv))
    }

    /// Our user's answer to the peer's question: the second message. `None` if nothing was asked.
    pub(crate) fn answer(&mut self, secret: &Exponent) -> Result<Option<Tlv>, Error> {
        let Self::Asked(first) = self else { return Ok(None) };
        let FirstMessage { g2a, g3a } = **first;
        let (b2, b3, r) = (Exponent::random_full()?, Exponent::random_full()?, Exponent::random_full()?);
        let (g2, g3) = (g2a.pow(&b2), g3a.pow(&b3));
        let (pb, qb) = (g3.pow(&r), Element::G.pow(&r).mul(&g2.pow(secret)));
        let mut out = Message::default();
        out.element(&Element::G.pow(&b2)).log_proof(&KnowsLog::prove(3, &b2)?);
        out.element(&Element::G.pow(&b3)).log_proof(&KnowsLog::prove(4, &b3)?);
        out.element(&pb).element(&qb).coordinates_proof(&KnowsCoordinates::prove(5, &g2, &g3, &r, secret)?);
        *self = Self::AwaitThird(Box::new(Responder { g3a, g2, g3, b3, pb, qb }));
        Ok(Some(out.finish(kind::SMP_2, &[])))
    }

    /// A record of the protocol came. On any error the caller aborts the run; the state is idle by then.
    pub(crate) fn receive(&mut self, tlv: &Tlv) -> Result<Step, Rejection> {
        match (tlv.kind, std::mem::take(self)) {
            // With the third message the peer has all it needs to see that the secrets differ, and some
            // implementations then abort instead of sending the last message.
            (kind::SMP_ABORT, Self::AwaitFourth(_)) => Ok(Step::Done { same: false, reply: None }),
            (kind::SMP_ABORT, _) => Ok(Step::Aborted),
            (kind::SMP_1, Self::Idle) => {
                *self = Self::Asked(FirstMessage::read(&tlv.value)?);
                Ok(Step::Ask(None))
            }
            (kind::SMP_1_WITH_QUESTION, Self::Idle) => {
                let end = tlv.value.iter().position(|&byte| byte == 0).ok_or(MALFORMED)?;
                *self = Self::Asked(FirstMessage::read(&tlv.value[end + 1..])?);
                Ok(Step::Ask(Some(tlv.value[..end].to_vec())))
            }
            (kind::SMP_2, Self::AwaitSecond(initiator)) => {
                let (settling, reply) = initiator.on_second(&tlv.value)?;
                *self = Self::AwaitFourth(Box::new(settling));
                Ok(Step::Reply(reply))
            }
            (kind::SMP_3, Self::AwaitThird(responder)) => responder.on_third(&tlv.value),
            (kind::SMP_4, Self::AwaitFourth(settling)) => settling.on_fourth(&tlv.value),
            _ => Err(Rejection::Unexpected),
        }
    }
}

impl FirstMessage {
    fn read(value: &[u8]) -> Result<Box<Self>, Rejection> {
        let mut reader = open(value, 6)?;
        let (g2a, g2_proof) = (reader.element()?, KnowsLog::read(&mut reader)?);
        let (g3a, g3_proof) = (reader.element()?, KnowsLog::read(&mut reader)?);
        reader.end()?;
        g2_proof.check(1, &g2a)?;
        g3_proof.check(2, &g3a)?;
        Ok(Box::new(Self { g2a, g3a }))
    }
}

impl Initiator {
    /// Checks the second message and makes the third.
    fn on_second(&self, value: &[u8]) -> Result<(Settling, Tlv), Rejection> {
        let Self { a2, a3, secret } = self;
        let mut reader = open(value, 11)?;
        let (g2b, g2_proof) = (reader.element()?, KnowsLog::read(&mut reader)?);
        let (g3b, g3_proof) = (reader.element()?, KnowsLog::read(&mut reader)?);
        let (pb, qb, proof) = (reader.element()?, reader.element()?, KnowsCoordinates::read(&mut reader)?);
        reader.end()?;
        g2_proof.check(3, &g2b)?;
        g3_proof.check(4, &g3b)?;
        let (g2, g3) = (g2b.pow(a2), g3b.pow(a3));
        proof.check(5, &g2, &g3, &pb, &qb)?;

        let r = Exponent::random_full()?;
        let (pa, qa) = (g3.pow(&r), Element::G.pow(&r).mul(&g2.pow(secret)));
        if pa == pb || qa == qb {
            return Err(Rejection::OutOfRange);
        }
        let (p, q) = (pa.div(&pb), qa.div(&qb));
        let mut out = Message::default();
        out.element(&pa).element(&qa).coordinates_proof(&KnowsCoordinates::prove(6, &g2, &g3, &r, secret)?);
        out.element(&q.pow(a3)).equal_logs_proof(&EqualLogs::prove(7, &q, a3)?);
        Ok((Settling { g3b, a3: a3.clone(), p, q }, out.finish(kind::SMP_3, &[])))
    }
}

impl Responder {
    /// Checks the third message: settles the question for us, and lets the initiator settle it with our last message.
    fn on_third(&self, value: &[u8]) -> Result<Step, Rejection> {
        let mut reader = open(value, 8)?;
        let (pa, qa, proof) = (reader.element()?, reader.element()?, KnowsCoordinates::read(&mut reader)?);
        let (ra, ra_proof) = (reader.element()?, EqualLogs::read(&mut reader)?);
        reader.end()?;
        if pa == self.pb || qa == self.qb {
            return Err(Rejection::OutOfRange);
        }
        proof.check(6, &self.g2, &self.g3, &pa, &qa)?;
        let (p, q) = (pa.div(&self.pb), qa.div(&self.qb));
        ra_proof.check(7, &self.g3a, &q, &ra)?;

        let mut out = Message::default();
        out.element(&q.pow(&self.b3)).equal_logs_proof(&EqualLogs::prove(8, &q, &self.b3)?);
        Ok(Step::Done { same: ra.pow(&self.b3) == p, reply: Some(out.finish(kind::SMP_4, &[])) })
    }
}

impl Settling {
    /// Checks the last message.
    fn on_fourth(&self, value: &[u8]) -> Result<Step, Rejection> {
        let mut reader = open(value, 3)?;
        let (rb, proof) = (reader.element()?, EqualLogs::read(&mut reader)?);
        reader.end()?;
        proof.check(8, &self.g3b, &self.q, &rb)?;
        Ok(Step::Done { same: rb.pow(&self.a3) == self.p, reply: None })
    }
}

const MALFORMED: Rejection = Rejection::Malformed("SMP message");

/// Every message is a count and that many MPIs.
fn open(value: &[u8], count: u32) -> Result<Reader<'_>, Rejection> {
    let mut reader = Reader::new(value, "SMP message");
    if reader.int()? == count { Ok(reader) } else { Err(MALFORMED) }
}

/// Builds a message and counts its numbers.
#[derive(Default)]
struct Message {
    count: u32,
    numbers: Writer,
}

impl Message {
    fn element(&mut self, element: &Element) -> &mut Self {
        self.numbers.element(element);
        self.count += 1;
        self
    }

    fn hash(&mut self, hash: &[u8; 32]) -> &mut Self {
        self.exponent(&Exponent::from_hash(hash))
    }

    fn exponent(&mut self, exponent: &Exponent) -> &mut Self {
        self.numbers.exponent(exponent);
        self.count += 1;
        self
    }

    fn log_proof(&mut self, proof: &KnowsLog) -> &mut Self {
        self.hash(&proof.challenge).exponent(&proof.answer)
    }

    fn coordinates_proof(&mut self, proof: &KnowsCoordinates) -> &mut Self {
        self.hash(&proof.challenge).exponent(&proof.answer_r).exponent(&proof.answer_secret)
    }

    fn equal_logs_proof(&mut self, proof: &EqualLogs) -> &mut Self {
        self.hash(&proof.challenge).exponent(&proof.answer)
    }

    fn finish(self, kind: u16, before: &[u8]) -> Tlv {
        let mut out = Writer(before.to_vec());
        out.int(self.count).raw(&self.numbers.0);
        Tlv { kind, value: out.0 }
    }
}

#[cfg(test)]
mod tests;
