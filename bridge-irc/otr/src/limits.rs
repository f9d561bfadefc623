//! Every limit and every span of time, in one place.
//!
//! A peer, or whoever sits on the network between, can send anything at any rate; these numbers bound what that can
//! cost. They are generous for people and programs that behave.

use std::time::Duration;

/// Longest text in one outgoing data message, bytes. Long enough for a page; a message of this size goes out as some
/// 50 KB of base64.
pub const MAX_TEXT: usize = 32 * 1024;

/// Longest line or reassembled message taken in, bytes.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Most fragments of one incoming message. With the 64 KiB above, fragments of 64 bytes still fit.
pub const MAX_FRAGMENTS: u16 = 1024;

/// Most senders (instance tags) whose fragments are being collected at once; the one idle longest gives way.
pub const MAX_FRAGMENT_STREAMS: usize = 4;

/// After this time without the next fragment the collected ones are dropped.
pub const FRAGMENT_TIMEOUT: Duration = Duration::from_secs(120);

/// Shortest line that can be asked for when fragmenting: the version 3 header and comma take 36 bytes of it.
pub const MIN_LINE: usize = 64;

/// Most instances (clients of the same peer, told apart by their tags) held per session.
pub const MAX_INSTANCES: usize = 6;

/// Most steps that begin a key exchange (a query, a commitment of either side, a key from a client not met before) per
/// session within [`AKE_WINDOW`]. An exchange takes two or three of them, and each leads to a few milliseconds of CPU.
pub const MAX_AKE: usize = 20;

/// The span over which [`MAX_AKE`] counts.
pub const AKE_WINDOW: Duration = Duration::from_secs(60);

/// A key exchange that has not finished after this time is forgotten, and may be begun again.
pub const AKE_TIMEOUT: Duration = Duration::from_secs(60);

/// Most errors and queries sent in answer to something unreadable within [`REPLY_WINDOW`]. Two implementations that
/// answer each other's errors stop here.
pub const MAX_REPLIES: usize = 3;

/// The span over which [`MAX_REPLIES`] counts.
pub const REPLY_WINDOW: Duration = Duration::from_secs(60);

/// Most texts waiting for a key exchange to finish.
pub const MAX_HELD: usize = 32;

/// How long a text waits for a peer who has had OTR before. Then it goes back to the caller, unsent.
pub const HOLD_TIME: Duration = Duration::from_secs(45);

/// While texts are waiting, a new query goes out at most this often.
pub const QUERY_INTERVAL: Duration = Duration::from_secs(15);

/// A whitespace tag that was never answered is sent again with the next text after this time: the peer may have been
/// away when the first one went out.
pub const TAG_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// If nothing was sent for this time, a received text is answered with an empty data message, so that keys go on
/// rotating in a one-sided conversation.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(60);

/// Longest SMP question and secret, bytes.
pub const MAX_SMP_TEXT: usize = 4 * 1024;

/// Most type-length-value records read from one data message.
pub const MAX_TLVS: usize = 64;

/// Most MAC keys kept for publication with the next data message; older ones are dropped.
pub const MAX_REVEALED_MACS: usize = 64;

/// Most bytes of a peer's error message handed on.
pub const MAX_ERROR_TEXT: usize = 512;

/// Most fingerprints remembered per peer in a [`FingerprintBook`](crate::FingerprintBook).
pub const MAX_FINGERPRINTS: usize = 16;
