//! Conversations: lines as they are said, what is transient, and what bridges keep.
//!
//! ```text
//!   submit, accept --> target (user, group, network) --> line, sealed once or for each --> one commit --> live feeds, in its order
//!                                                          |--> queue --> the network's bridge
//!   mail to a chat address --> line ----^                  history, read state: the same mailboxes that IMAP shows
//! ```
//!
//! - A conversation of one user with someone, or with a channel outside, is a mailbox of that user's: its id is a keyed hash of user and
//!   conversation, its name is in a record that is sealed to the user.
//! - A group is one log for all its members: see [`groups`].
//! - Live feeds are told in the order of the commits, by the writer itself; nothing is opened again for them.

mod checkpoints;
mod feeds;
mod groups;
mod history;
mod lines;
mod mail;
mod read;
mod say;
mod signals;
mod target;

pub(crate) use feeds::LiveFeeds;
pub(crate) use lines::read as read_line;
pub(crate) use target::{Target, address_of, shown_name, unspelled};

/// What the core keeps of conversations in memory.
#[derive(Debug, Default)]
pub(crate) struct Chat {
    pub(crate) groups: groups::Groups,
    places: say::Places,
    told: read::Told,
}
