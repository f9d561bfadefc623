//! What can go wrong: for the caller ([`Error`]), and with what a peer sent ([`Rejection`]).

use thiserror::Error;

/// Why a request of the caller was not carried out. Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Error {
    /// The request needs a running private conversation.
    #[error("no private conversation is running with this peer; start one first")]
    NotEncrypted,
    /// The peer ended the private conversation. Text is refused until the user decides, so that nothing meant to be
    /// private goes out in the clear.
    #[error("the peer ended the private conversation; start it again, or end it to go on in the clear")]
    Finished,
    /// The policy is [`Policy::Off`](crate::Policy::Off).
    #[error("OTR is switched off for this peer; change the policy first")]
    PolicyOff,
    /// The policy is [`Policy::Require`](crate::Policy::Require), and clear text was asked for.
    #[error("the policy requires OTR for this peer; clear text is not sent")]
    ClearTextForbidden,
    /// The text is longer than [`limits::MAX_TEXT`](crate::limits::MAX_TEXT).
    #[error("the text is too long for one message; split it")]
    TooLong,
    /// The text has a zero byte, which ends the text inside a data message.
    #[error("the text has a zero byte, which OTR can't carry")]
    ZeroByte,
    /// [`limits::MAX_HELD`](crate::limits::MAX_HELD) texts are waiting for the peer already.
    #[error("too many texts are waiting for the private conversation; wait for the peer")]
    HeldFull,
    /// Too many key exchanges in a short time, see [`limits::MAX_AKE`](crate::limits::MAX_AKE).
    #[error("too many key exchanges with this peer; wait a minute")]
    TooManyExchanges,
    /// An SMP run is under way.
    #[error("a verification is under way; answer or abort it first")]
    SmpBusy,
    /// There is no SMP question to answer.
    #[error("the peer has not asked for a verification")]
    SmpNotAsked,
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    Random,
    /// A stored identity can't be read; the reason follows.
    #[error("the stored OTR key can't be read: {0}")]
    Identity(&'static str),
}

/// Why something that arrived was not accepted. It changed no state and none of it was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Rejection {
    /// Not of the form that the protocol asks for; what was being read follows.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// Longer than this implementation takes, see [`limits`](crate::limits).
    #[error("message or fragment over the limit")]
    TooLarge,
    /// OTR version 1 (or an unknown one), which has known flaws and is never spoken.
    #[error("OTR version not accepted")]
    Version,
    /// A Diffie-Hellman or SMP value outside 2 to p - 2, or an exponent outside 1 to q - 1.
    #[error("group element or exponent out of range")]
    OutOfRange,
    /// A message authentication code does not fit.
    #[error("message authentication failed")]
    BadMac,
    /// The key opened by a Reveal Signature message does not fit the commitment.
    #[error("commitment does not fit")]
    BadCommitment,
    /// The signature over the key exchange, or the DSA key itself, is not valid.
    #[error("signature or key not valid")]
    BadSignature,
    /// A zero-knowledge proof of SMP does not hold.
    #[error("proof does not hold")]
    BadProof,
    /// A counter that was used already: a copy, or out of order.
    #[error("counter used already")]
    Replayed,
    /// A data message under keys that are not (or no longer) held.
    #[error("message under unknown keys")]
    UnknownKeys,
    /// Our own message came back.
    #[error("our own message came back")]
    Reflected,
    /// A message of the key exchange that nothing here waits for.
    #[error("message not expected now")]
    Unexpected,
    /// Over a limit on attempts, see [`limits`](crate::limits).
    #[error("too many attempts")]
    TooMany,
    /// The operating system gave no random bytes to answer with.
    #[error("no random bytes")]
    Random,
}

impl From<Error> for Rejection {
    /// The only failure of our own that can happen while a peer's message is handled.
    fn from(_: Error) -> Self {
        Self::Random
    }
}
