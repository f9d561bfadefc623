//! The contract between Mesyx and a bridge.
//!
//! A **bridge** carries messages between Mesyx and one network: mail, IRC, or
//! yours. It sees only this crate.
//!
//! ```text
//!  network  <-->  your Bridge  -- accept(Envelope) -->   Host   (sealed, durable)
//!                              <-- deliver(Delivery) --         (one attempt, one Outcome each)
//!  client   <-->  your Bridge  -- login(Credentials) --> Session (mailboxes, bodies, flags)
//! ```
//!
//! - [`Bridge`] is what you write: a [`Manifest`], a pure `build`, `run` and `deliver`.
//! - [`Host`] is what Mesyx gives you, cut to the [`Grant`]s that the operator
//!   allowed in the configuration. A call without its grant fails with
//!   [`ErrorKind::NotGranted`] and is logged.
//! - [`Session`] is one logged-in user (grant `access`).
//! - [`Envelope`] is the one unit that travels.
//! - [`MemoryHost`] runs any bridge with nothing behind it, for tests and examples.
//!
//! Everything here is meant to cross a process boundary: all types are owned,
//! all calls are asynchronous, and every limit is stated where it applies.
#![forbid(unsafe_code)]

pub mod address;
pub mod bridge;
pub mod budget;
pub mod config;
pub mod content;
pub mod envelope;
pub mod error;
pub mod host;
pub mod id;
pub mod mailbox;
pub mod manifest;
pub mod memory;
pub mod mime;
pub mod search;
pub mod secret;
pub mod session;
pub mod summary;
pub mod time;
pub mod tls;

pub use address::{Address, AddressError, Domain, IrcAddress, MailAddress, MesyxAddress};
pub use async_trait::async_trait;
pub use bridge::{Bridge, DeferScope, Delivery, Fatal, Outcome};
pub use budget::{ByteBudget, Reservation};
pub use config::{Config, ConfigError, ConfigErrors};
pub use content::Content;
pub use envelope::{
    Conversation, Dsn, Envelope, Importance, Kind, Notify, Origin, Protection, Recipient, ReturnPart, Style,
};
pub use error::{Error, ErrorKind};
pub use host::{Accepted, ClientInfo, Credentials, Health, Host, ListenSpec, RecipientStatus, Sender};
pub use id::{MailboxId, MessageId, PlacementId, UserId};
pub use mailbox::{Entry, Flag, Flags, Mailbox, MailboxName, MailboxStatus, ModSeq, Role, Uid, UidValidity};
pub use manifest::{Grant, Manifest};
pub use memory::MemoryHost;
pub use search::{Query, SearchResult};
pub use secret::Secret;
pub use session::{
    Append, Appended, Change, Changes, Copied, FlagChange, FlagsStored, Session, Snapshot, User, Watcher,
};
pub use summary::{MailFields, Part, Summary};
pub use time::Timestamp;
pub use tls::{Certificates, ServerTls, TlsIdentity};
