//! What each command does.

mod append;
mod auth;
mod fetch;
mod gather;
mod idle;
mod list;
mod mailboxes;
mod messages;
mod search;
mod select;
