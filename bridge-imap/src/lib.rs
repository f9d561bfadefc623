//! IMAP4rev1 for the mail clients that people have.
#![forbid(unsafe_code)]
#![allow(dead_code)]
mod proto;
