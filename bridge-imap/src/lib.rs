//! IMAP4rev1 for the mail clients that people have.
