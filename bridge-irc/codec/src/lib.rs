//! Lines of IRC, without I/O: for both sides of a connection.
//!
//! ```text
//!  bytes --> Framer --> line without its end --> Line (tags, source, command, parameters)
//!  Writer (refuses what would be a second line or parameter) --> bytes with CR LF
//! ```
//!
//! Everything is bytes: IRC has no character set, and what is no UTF-8 must neither be lost nor panic. What holds:
//! - no parameter, tag or text can make a second line, a second parameter or another command: [`Writer`] refuses it;
//! - a line over its limit costs no memory beyond the limit, and is told apart from a good one;
//! - nothing here takes more than linear time, but for masks, which are bounded by a line's length.
//!
//! Sources: RFC 1459 and RFC 2812, sections 2.3; the IRCv3 specifications `message-tags` and `sasl-3.1`;
//! draft-brocklesby-irc-isupport-03.
#![forbid(unsafe_code)]

pub mod ctcp;
mod framer;
pub mod isupport;
mod line;
pub mod mask;
pub mod pace;
pub mod sasl;
pub mod split;
pub mod style;
mod tags;
mod writer;

pub use framer::{Framed, Framer};
pub use line::{Limits, Line, ParseError, Source};
pub use tags::{Tag, Tags, escape};
pub use writer::{WriteError, Writer};
