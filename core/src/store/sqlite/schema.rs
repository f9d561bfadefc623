//! The tables, and how older stores become today's.
//!
//! Local integers stand for the 16-byte ids wherever a row is repeated per message. What is in clear here is what the
//! design allows, and no more: random ids, names of mailboxes, flags, numbers, padded sizes, days.

use super::StoreError;
use rusqlite::Connection;

/// Each step brings a store from format N (its index) to N + 1. Released steps are never edited.
pub(super) const STEPS: &[&str] = &[FORMAT_1, FORMAT_2, FORMAT_3, FORMAT_4];

/// The newest format that this program knows.
pub(super) const FORMAT: u32 = STEPS.len() as u32;

/// SQLite's `application_id` of our stores: "Msyx".
const APPLICATION_ID: i32 = 0x4d73_7978;

const FORMAT_1: &str = "
-- One row: who this is, the clock, and counters. `stamp_day` and `counter` are the highest seen.
CREATE TABLE meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    instance BLOB NOT NULL,
    stamp_day INTEGER NOT NULL,
    counter INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    uid_validity INTEGER NOT NULL,
    attestation INTEGER NOT NULL,
    pending INTEGER NOT NULL,
    log_entries INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    bytes INTEGER NOT NULL
);
CREATE TABLE instances (id INTEGER PRIMARY KEY, instance BLOB NOT NULL UNIQUE);
CREATE TABLE log (
    instance INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    day INTEGER NOT NULL,
    counter INTEGER NOT NULL,
    operation BLOB NOT NULL,
    PRIMARY KEY (instance, sequence)
) WITHOUT ROWID;
-- Log entries that wait for the thing `subject` to come; `message`: the content that a waiting Place will want.
CREATE TABLE pending (
    subject BLOB NOT NULL,
    instance INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    message BLOB,
    PRIMARY KEY (subject, instance, sequence)
) WITHOUT ROWID;
CREATE INDEX pending_by_message ON pending (message) WHERE message IS NOT NULL;
-- Ids of everything that was removed: users, keysets, mailboxes, placements.
CREATE TABLE removed (id BLOB PRIMARY KEY) WITHOUT ROWID;

CREATE TABLE users (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    record BLOB NOT NULL,
    record_stamp BLOB NOT NULL,
    identity BLOB,
    identity_stamp BLOB
);
CREATE INDEX users_by_name ON users (name);
CREATE TABLE keysets (
    user INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    keyset BLOB NOT NULL,
    record BLOB NOT NULL,
    stamp BLOB NOT NULL,
    PRIMARY KEY (user, keyset)
) WITHOUT ROWID;
CREATE TABLE slots (
    user INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    slot BLOB NOT NULL,
    record BLOB NOT NULL,
    last_used INTEGER,
    PRIMARY KEY (user, slot)
) WITHOUT ROWID;
-- `keyset` is empty for the identity.
CREATE TABLE secret_keys (
    user INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    keyset BLOB NOT NULL,
    wrapped BLOB NOT NULL,
    PRIMARY KEY (user, keyset)
) WITHOUT ROWID;
CREATE TABLE subscriptions (
    user INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    name TEXT NOT NULL,
    subscribed INTEGER NOT NULL,
    stamp BLOB NOT NULL,
    PRIMARY KEY (user, name)
) WITHOUT ROWID;

-- `name` is what was asked for; what is shown differs where two have the same. `vanished` counts the rows of that
-- table; what vanished at or before `forgotten` is no longer listed there.
CREATE TABLE mailboxes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    mailbox BLOB NOT NULL UNIQUE,
    user INTEGER NOT NULL,
    name TEXT NOT NULL,
    name_stamp BLOB NOT NULL,
    created BLOB NOT NULL,
    role TEXT,
    uid_validity INTEGER NOT NULL,
    uid_next INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    recent_from INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    unseen INTEGER NOT NULL,
    size INTEGER NOT NULL,
    vanished INTEGER NOT NULL,
    forgotten INTEGER NOT NULL
);
CREATE INDEX mailboxes_by_user ON mailboxes (user);
CREATE TABLE vanished (
    mailbox INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    PRIMARY KEY (mailbox, modseq, uid)
) WITHOUT ROWID;

-- `flags` has a bit for each system flag, `keywords` the others, separated by spaces. `registers` is CBOR: the stamps
-- of the mailbox and of every flag ever written. `size`, `day` and `message` repeat what `messages` says.
CREATE TABLE placements (
    mailbox INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    keywords TEXT,
    size INTEGER NOT NULL,
    day INTEGER NOT NULL,
    content INTEGER NOT NULL,
    message BLOB NOT NULL,
    placement BLOB NOT NULL,
    registers BLOB NOT NULL,
    PRIMARY KEY (mailbox, uid)
) WITHOUT ROWID;
CREATE UNIQUE INDEX placements_by_id ON placements (placement);
CREATE INDEX placements_by_modseq ON placements (mailbox, modseq);
CREATE INDEX placements_by_content ON placements (content);
CREATE INDEX placements_deleted ON placements (mailbox, uid) WHERE flags & 2;

-- A body stands in `bodies`, or in the file that `blob` names.
CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    user INTEGER NOT NULL,
    message BLOB NOT NULL,
    session_key INTEGER NOT NULL,
    attestation INTEGER NOT NULL,
    size INTEGER NOT NULL,
    day INTEGER NOT NULL,
    body_bytes INTEGER NOT NULL,
    blob BLOB,
    summary BLOB NOT NULL
);
CREATE UNIQUE INDEX messages_by_id ON messages (message, user);
CREATE INDEX messages_by_session_key ON messages (session_key);
CREATE INDEX messages_by_attestation ON messages (attestation);
CREATE INDEX messages_by_blob ON messages (blob) WHERE blob IS NOT NULL;
CREATE TABLE bodies (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE session_keys (
    id INTEGER PRIMARY KEY,
    session_key BLOB NOT NULL UNIQUE,
    user INTEGER NOT NULL,
    keyset BLOB NOT NULL,
    packets BLOB NOT NULL
);
CREATE TABLE attestations (
    id INTEGER PRIMARY KEY,
    instance INTEGER NOT NULL,
    digests BLOB NOT NULL,
    signature BLOB NOT NULL
);
CREATE TABLE dedup (hash BLOB PRIMARY KEY, day INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE named_values (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
";

/// The outgoing queue, sealed records of users, and what keysets need beside their records.
const FORMAT_2: &str = concat!(
    include_str!("format_2/queue.sql"),
    include_str!("format_2/records.sql"),
    include_str!("format_2/keysets.sql")
);

/// Conversations, groups, and what bridges keep; which secret keys are here, told without a password.
const FORMAT_3: &str = concat!(include_str!("format_3/chat.sql"), include_str!("format_3/keysets.sql"));

/// Few of a member's rows have a word of their own on whether a line was read: all others must not be gone through for each line.
const FORMAT_4: &str = "CREATE INDEX group_flags_seen ON group_flags (grp, user, uid) WHERE seen IS NOT NULL;";

/// Brings the store to [`FORMAT`], each step in a transaction of its own.
///
/// # Errors
/// [`StoreError::Newer`]; a file that is no store of ours.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let application: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let found: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > FORMAT {
        return Err(StoreError::Newer { found, known: FORMAT });
    }
    if found > 0 && application != APPLICATION_ID {
        return Err(StoreError::Backend("the database file was not written by Mesyx".to_owned()));
    }
    for (step, known) in STEPS.iter().zip(1_u32..).skip(found as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", known)?;
        transaction.commit()?;
    }
    Ok(())
}
