//! Looking at the outside network: names by DNS, small files by HTTPS.
//!
//! ```text
//!  DnsConfig --> Dns (hickory): mx, addresses, txt, tlsa, srv; each Answer says whether DNSSEC vouches for it
//!                 |
//!  HttpsConfig --> Https: one bounded GET, to public addresses only
//! ```
//!
//! What always holds:
//! - [`Answer::secure`] is true only where every record on the way, aliases included, was authenticated by DNSSEC.
//! - "There is no such name", "there is no such record" and "it can't be told now" are never taken for one another.
//! - A fetch has a deadline and a most of bytes, and never reaches a private address unless the operator said so.
#![forbid(unsafe_code)]

mod address;
mod dns;
mod https;
mod roots;

pub use address::is_public;
pub use dns::{Addresses, Answer, Dns, DnsConfig, DnsError, Dnssec, Mx, Srv, Tlsa};
pub use https::{Fetched, Get, Https, HttpsConfig, HttpsError};
pub use roots::{RootsError, roots};

pub use hickory_resolver;
