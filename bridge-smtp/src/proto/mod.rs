//! The protocol without sockets and without a clock: bytes in, bytes and [`Step`]s out.
//!
//! ```text
//! bytes -> lines -> command -> Session -> Step (ask the host) -> Answer -> reply bytes
//!       -> content (DATA, BDAT) ----^
//! ```

pub(crate) mod command;
pub(crate) mod content;
pub(crate) mod headers;
pub(crate) mod lines;
pub(crate) mod path;
pub(crate) mod reply;
pub(crate) mod sasl;
pub(crate) mod session;
pub(crate) mod shares;
pub mod simulate;
pub(crate) mod terms;
pub(crate) mod trace;
pub(crate) mod transaction;
pub(crate) mod xtext;

pub use command::{Command, Mail, Rcpt, parse};
pub use content::Refusal;
pub use lines::{MAX_AUTH_LINE, MAX_ENVELOPE_LINE, MAX_LINE};
pub use path::Path;
pub use reply::Reply;
pub use sasl::plain_response;
pub use session::Session;
pub use shares::{Held, Shares};
pub use terms::{Answer, Incoming, Limits, Role, Settings, Step, TlsInfo};
pub use xtext::encode as encode_xtext;
