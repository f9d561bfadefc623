//! Off-the-Record messaging, versions 2 and 3, as libotr speaks them, without I/O.
//!
//! A [`Session`] is our end of a conversation with one peer. It takes in what the user says ([`Session::send`]) and
//! the lines that arrive ([`Session::receive`]), and gives back an [`Output`]: lines to send, in order, and [`Event`]s
//! to show. It reads no clock and opens no socket; the caller passes the time in and calls [`Session::tick`] now and
//! then. Only random bytes come from the operating system.
//!
//! ```
//! use mesyx_otr::{Config, Event, Identity, Sent, Session};
//! use std::{sync::Arc, time::Instant};
//!
//! # fn main() -> Result<(), mesyx_otr::Error> {
//! let alice = Arc::new(Identity::generate()?); // once per account; keep `to_bytes()` sealed
//! let bob = Arc::new(Identity::generate()?);
//! let mut ours = Session::new(alice, Config::default());
//! let mut theirs = Session::new(bob, Config::default());
//! let now = Instant::now();
//!
//! // The first text goes out in the clear, with an invisible offer; the two exchange keys by themselves.
//! let (sent, out) = ours.send(b"hello", now)?;
//! assert_eq!(sent, Sent::Clear);
//! let mut lines = out.lines;
//! let (mut here, mut there) = (&mut ours, &mut theirs);
//! while !lines.is_empty() {
//!     lines = lines.iter().flat_map(|line| there.receive(line, now).lines).collect();
//!     std::mem::swap(&mut here, &mut there);
//! }
//! let (sent, out) = ours.send(b"now in private", now)?;
//! assert_eq!(sent, Sent::Encrypted);
//! let events = theirs.receive(&out.lines[0], now).events;
//! assert!(matches!(&events[..], [Event::Private { text, .. }] if **text == *b"now in private"));
//! # Ok(())
//! # }
//! ```
//!
//! # How it hangs together
//!
//! ```text
//!  session     policy, offers, held texts, limits, the peer's clients
//!    line        query, tag, error, fragment or encoded?      fragment    cut and joined
//!    message     the five encoded messages                    wire        their data types
//!    instance    one client of the peer
//!      auth        key exchange                               identity    DSA key, fingerprint, tag
//!      ratchet     keys of data messages                      tlv         what those carry
//!      smp, proof  verification
//!        group       the Diffie-Hellman group                 kdf         keys, ciphers, MACs
//!  trust       fingerprints by peer; pure data              keyfile     keys of libotr's format
//! ```
//!
//! # What must hold
//!
//! - **No silent cleartext.** In a private conversation, and after the peer ended one, [`Session::send`] never gives a
//!   line in the clear: the text goes out encrypted, is held, or is refused with an error. A peer that is known to
//!   speak OTR ([`Config::known`], or once it did in this session) gets none either, until the user decides with
//!   [`Session::end`] or [`Session::send_clear`].
//! - **Nothing is believed unchecked.** Group elements lie in 2 to p - 2, exponents in 1 to q - 1; every MAC is
//!   compared in constant time, every signature, commitment and zero-knowledge proof is checked, before anything
//!   changes. Counters only grow.
//! - **A changed fingerprint is reported** ([`Established::changed`]), and texts that were held for the old one stay
//!   held until [`Session::release_held`]. Texts sent after that event are encrypted for the new one: show it loudly.
//! - **Everything is bounded**; all numbers are in [`limits`].
//! - **Secrets are wiped** when released and never shown by `Debug`. What the big-number code leaves on the stack
//!   while it computes is beyond this crate's reach.
//!
//! Version 1 is refused. The extra symmetric key is neither given out nor used; a peer's announcement of a use is
//! reported and ignored.
//!
//! # What OTR can't do
//!
//! The protocol is of 2012 and older: 1536-bit Diffie-Hellman, 1024-bit DSA, SHA-1, AES-128. It keeps conversations
//! from those who listen on a network today, and forges deniability; it does not stand against an attacker with the
//! means of a state, or a quantum computer. It protects from here to the peer: whoever runs this end (in a gateway,
//! the gateway) sees the texts. The very first text of an opportunistic conversation, and who talks to whom and when,
//! are open.
//!
//! # Cost
//!
//! CPU time on one core of an AMD EPYC server, optimised build (`examples/otr_times.rs` measures it): a query or a tag
//! 0.5 ms, each further message of a key exchange 0.5 to 3.5 ms, sending or receiving a data message 0.2 to 0.8 ms,
//! [`Session::smp_start`] 7 ms, [`Session::smp_answer`] 20 ms, receiving SMP messages 1 to 4 about 5, 26, 17 and 6 ms;
//! [`Identity::generate`] 0.2 to 1 s. So **[`Session::receive`] takes up to 30 ms**, and lines for which
//! [`Session::is_heavy`] is `false` take microseconds. On an asynchronous runtime run the others, and every call
//! named here, where blocking is allowed; a session is `Send`.
#![forbid(unsafe_code)]

mod auth;
mod error;
mod event;
mod fragment;
mod group;
mod identity;
mod instance;
mod kdf;
mod keyfile;
pub mod limits;
mod line;
mod message;
mod proof;
mod random;
mod ratchet;
mod session;
mod smp;
mod throttle;
mod tlv;
mod trust;
mod wire;

pub use error::{Error, Rejection};
pub use event::{Config, Established, Event, Output, Policy, Sent, TagPlace, Text, TextId, Verification};
pub use identity::{Fingerprint, Identity, InstanceTag};
pub use keyfile::KeyFileAccount;
pub use message::Version;
pub use session::{Session, SessionState};
pub use trust::{FingerprintBook, Observation, PeerName, Trust};
