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
//! - The test kit (feature `testkit`) runs every MUST of this contract against any bridge.
//!
//! # A bridge
//! A network on which each line is a message `ADDRESS TEXT`, and is answered by `+` once the message is safe:
//! ```
//! use mesyx_sdk::*;
//! use std::sync::Arc;
//! use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
//! use tokio::net::TcpStream;
//!
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! struct Settings {
//!     listen: std::net::SocketAddr,
//! }
//!
//! struct Lines(Settings);
//!
//! #[async_trait]
//! impl Bridge for Lines {
//!     fn manifest() -> Manifest {
//!         Manifest {
//!             name: "lines".into(),
//!             version: "1.0.0".into(),
//!             summary: "Takes lines in.".into(),
//!             grants: vec![Grant::Accept, Grant::Listen(0)],
//!             delivers: vec![],
//!             config_schema: config::schema::<Settings>(),
//!         }
//!     }
//!
//!     fn build(config: Config) -> Result<Self, ConfigErrors> {
//!         config.parse().map(Self)
//!     }
//!
//!     async fn run(&self, host: Arc<dyn Host>) -> Result<(), Fatal> {
//!         let spec = ListenSpec { name: "lines".into(), address: self.0.listen };
//!         let listener = spec.open(&*host).await?;
//!         host.health(Health::Ready);
//!         loop {
//!             let connection = tokio::select! {
//!                 () = host.stopped() => return Ok(()),
//!                 connection = listener.accept() => connection,
//!             };
//!             if let Ok((mut stream, _)) = connection {
//!                 serve(&*host, &mut stream).await.ok();
//!             }
//!         }
//!     }
//!
//!     async fn deliver(&self, _host: Arc<dyn Host>, job: Delivery) -> Vec<Outcome> {
//!         let failed = Outcome::Failed { why: "this network only brings messages in".into() };
//!         vec![failed; job.recipients.len()]
//!     }
//! }
//!
//! async fn serve(host: &dyn Host, stream: &mut TcpStream) -> std::io::Result<()> {
//!     // What a stranger sends is bounded before it is read.
//!     let mut line = String::new();
//!     BufReader::new(&mut *stream).take(1000).read_line(&mut line).await?;
//!     let Some((address, text)) = line.trim_end().split_once(' ') else { return stream.write_all(b"-").await };
//!     let Ok(address) = address.parse::<Address>() else { return stream.write_all(b"-").await };
//!     let content = Content::from(format!("\r\n{text}\r\n").into_bytes());
//!     let taken = host.accept(vec![memory::envelope(None, vec![address], content)]).await;
//!     // Only now is the message safe, and the network may be told so.
//!     stream.write_all(if taken.iter().all(Result::is_ok) { b"+" } else { b"-" }).await
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Its test: a bridge must not acknowledge early.
//! let host = MemoryHost::new("example.org".parse()?);
//! host.add_user("ann", "secret")?;
//! let bridge = Lines::build(Config::new(serde_json::json!({ "listen": "127.0.0.1:0" })))?;
//! let running = tokio::spawn({
//!     let host: Arc<dyn Host> = Arc::new(host.clone());
//!     async move { bridge.run(host).await }
//! });
//!
//! host.hold_accepts();
//! let mut peer = TcpStream::connect(host.listening("lines").await).await?;
//! peer.write_all(b"ann@example.org hello\n").await?;
//! host.brought(1).await;
//! assert_eq!(peer.try_read(&mut [0]).map_err(|error| error.kind()), Err(std::io::ErrorKind::WouldBlock));
//! host.release_accepts();
//! assert_eq!(peer.read_u8().await?, b'+');
//! assert_eq!(&*host.accepted()[0].content, b"\r\nhello\r\n");
//!
//! host.stop();
//! running.await??;
//! # Ok(())
//! # }
//! ```
//!
//! Everything here is meant to cross a process boundary: all types are owned,
//! all calls are asynchronous, and every limit is stated where it applies.
// Descriptors that cross a socket, or come with a library's call, are the exceptions: `wire::descriptors`, `wire::plugin`.
#![deny(unsafe_code)]

pub mod address;
pub mod bridge;
pub mod budget;
pub mod chat;
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
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod time;
pub mod tls;
mod trunk;
#[cfg(feature = "wire")]
pub mod wire;

pub use address::{
    Address, AddressError, AddressKind, Domain, IrcAddress, MailAddress, MesyxAddress, NetworkName, OtherAddress,
};
pub use async_trait::async_trait;
pub use bridge::{Bridge, DeferScope, Delivery, Fatal, Outcome};
pub use budget::{ByteBudget, Reservation};
pub use chat::{
    Anchor, Answer, ChatEvent, ChatLine, ConversationInfo, Group, GroupChange, GroupMember, History, Line, LineHeaders,
    LiveFeed, Question, Rank, Signal, SignalTo, Verb,
};
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
pub use trunk::Trunk;
#[cfg(feature = "wire")]
pub use wire::main;
