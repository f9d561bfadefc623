//! Conversations: lines as they are said, what is transient, and what bridges keep.
//!
//! ```text
//!   submit, accept --> target (user, group, network) --> line, sealed once or for each --> one commit --> live feeds, in its order
//!                                                          |--> queue --> the network's bridge
//!   mail to a chat address --> line ----^                  history, read state: the same mailboxes that IMAP shows
//! ```

mod checkpoints;
mod feeds;
mod signals;

pub(crate) use feeds::LiveFeeds;

/// What the core keeps of conversations in memory.
#[derive(Debug, Default)]
pub(crate) struct Chat;
