//! What a session tells its caller, and how it is set up.

use crate::Rejection;
use crate::identity::{Fingerprint, InstanceTag};
use crate::message::Version;
use std::fmt;
use std::ops::Deref;
use zeroize::Zeroizing;

/// How much OTR is wanted with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// None: every line passes as it is.
    Off,
    /// Where the peer can: its offers are taken up, and the first plain text carries an offer of ours.
    #[default]
    Opportunistic,
    /// Always: no text of ours goes out in the clear.
    Require,
}

/// Where the whitespace tag of an offer stands in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TagPlace {
    /// Before the text, where no server strips it. Clients built on python-potr then show none of the text.
    #[default]
    Leading,
    /// After the text, with IRC's invisible "formatting off" (byte 15) behind it so that servers do not take the blanks
    /// away. Every client that was tried shows the text; libotr leaves the invisible byte in it.
    Trailing,
}

/// How a session is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// How much OTR is wanted.
    pub policy: Policy,
    /// Longest line to send, bytes; longer messages of the protocol are cut into fragments. At least
    /// [`limits::MIN_LINE`](crate::limits::MIN_LINE) counts. `None`: no limit.
    pub max_line: Option<usize>,
    /// Fingerprints that this peer is known by. A peer with any is expected to speak OTR: texts for it wait for a
    /// private conversation, and a fingerprint outside the list is reported as changed.
    pub known: Vec<Fingerprint>,
    /// Where our offers stand in a text.
    pub tag_place: TagPlace,
    /// Follows our query, for people whose client does not know OTR. Line ends become blanks, and what goes beyond
    /// `max_line` is cut.
    pub query_sentence: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            max_line: None,
            known: Vec::new(),
            tag_place: TagPlace::default(),
            query_sentence: "I would like to talk in private with OTR, which your client does not seem to know.".into(),
        }
    }
}

/// Text of a user: wiped on release, and never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Text(Zeroizing<Vec<u8>>);

impl Text {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }
}

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({} bytes)", self.0.len())
    }
}

/// Names a text that was held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TextId(pub(crate) u64);

/// What became of a text given to [`Session::send`](crate::Session::send).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It went out encrypted.
    Encrypted,
    /// It went out in the clear.
    Clear,
    /// It waits for a private conversation. An event with this name tells what became of it.
    Held(TextId),
}

/// What is to be done after a call.
#[derive(Debug, Default)]
pub struct Output {
    /// Lines to send to the peer, in this order, each as one message.
    pub lines: Vec<Vec<u8>>,
    /// What to tell the user.
    pub events: Vec<Event>,
}

/// A private conversation that has just begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Established {
    /// The key that the peer signed with.
    pub fingerprint: Fingerprint,
    /// The peer is known, and by other fingerprints only. **Say so loudly.** Held texts stay held until
    /// [`Session::release_held`](crate::Session::release_held).
    pub changed: bool,
    /// The same key as in the conversation that this one replaces: nothing but fresh keys.
    pub refreshed: bool,
    /// The version in use.
    pub version: Version,
    /// The peer's client; `None` in version 2.
    pub instance: Option<InstanceTag>,
    /// The secure session id, which two people may compare over the telephone.
    pub session_id: [u8; 8],
}

/// The end of an SMP run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verification {
    /// The key that the peer has.
    pub fingerprint: Fingerprint,
    /// Both gave the same secret. `false` as well if the peer broke off in place of the last message, by when it knew
    /// the result.
    pub same: bool,
    /// Our user began the run.
    pub ours: bool,
    /// The run had a question. Then its answer proves the one who answered to the one who asked, and not the other
    /// way round.
    pub with_question: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Text of the peer that came through the private conversation. It may hold line ends and any byte but zero: the
    /// network between never saw it. **Split or escape it before it goes into a protocol of lines.**
    Private {
        /// The text.
        text: Text,
        /// The key of the conversation.
        fingerprint: Fingerprint,
    },
    /// Text that came in the clear. Anybody on the way could have read or written it.
    Clear {
        /// The text, without a tag.
        text: Text,
        /// A private conversation runs or was ended by the peer, or the peer is known to speak OTR, or the policy
        /// requires it. Mark the text.
        unexpected: bool,
    },
    /// A private conversation began, or began again with fresh keys.
    Established(Established),
    /// The peer ended the private conversation. Text is refused until [`Session::start`](crate::Session::start) or
    /// [`Session::end`](crate::Session::end).
    EndedByPeer,
    /// A held text went out, encrypted.
    HeldSent(TextId),
    /// A held text was given up: the peer did not answer in time. It was not sent.
    HeldExpired {
        /// Its name.
        id: TextId,
        /// The text, for the user to decide about.
        text: Text,
    },
    /// The peer asks for a verification: get the secret from the user and call
    /// [`Session::smp_answer`](crate::Session::smp_answer).
    SmpAsked {
        /// The peer's question, if it sent one. Untrusted text.
        question: Option<Text>,
    },
    /// A verification ended.
    SmpDone(Verification),
    /// A verification ended without a result: given up by the peer, out of step, or forged.
    SmpAborted,
    /// The peer announced a use of the extra symmetric key, which is not supported here.
    ExtraKeyIgnored,
    /// The peer reported an error, in its own words (untrusted, cut to
    /// [`limits::MAX_ERROR_TEXT`](crate::limits::MAX_ERROR_TEXT)). What was sent last may have been lost.
    PeerError(Text),
    /// An encrypted message could not be read: its text is lost, and the peer was told.
    Unreadable(Rejection),
    /// Something else of the protocol was refused. For logs more than for users.
    Rejected(Rejection),
}
