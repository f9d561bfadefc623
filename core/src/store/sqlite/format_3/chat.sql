-- What bridges keep between their lives, by a keyed hash of its name; name and value sealed under the instance key. Local, never logged.
CREATE TABLE checkpoints (
    bridge TEXT NOT NULL,
    hash BLOB NOT NULL,
    name BLOB NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (bridge, hash)
) WITHOUT ROWID;

-- The first message of a mailbox that was not read: how far a conversation was read.
CREATE INDEX placements_unseen ON placements (mailbox, uid) WHERE flags & 16 = 0;

-- Which rows of `users` are groups: owners of one mailbox (the id of their INBOX), its lines, and records. They have no name there.
CREATE TABLE groups (grp INTEGER PRIMARY KEY REFERENCES users ON DELETE CASCADE);
-- Registers: the write with the highest stamp holds. `rank` is NULL for who does not belong to the group (any more). Lines up to the
-- one numbered `marker` were read, but for what `group_flags` says; `marked` is the stamp of that.
CREATE TABLE members (
    grp INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    user INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    rank INTEGER,
    stamp BLOB NOT NULL,
    marker INTEGER NOT NULL,
    marked BLOB NOT NULL,
    PRIMARY KEY (grp, user)
) WITHOUT ROWID;
CREATE INDEX members_by_user ON members (user);
-- The keys of a group's epochs, each sealed to the keysets of those who belonged to the group then. Who has a row here sees the
-- epoch's lines, and nobody else does.
CREATE TABLE group_keys (
    id INTEGER PRIMARY KEY,
    grp INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    user INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    epoch BLOB NOT NULL,
    keyset BLOB NOT NULL,
    packets BLOB NOT NULL,
    stamp BLOB NOT NULL
);
CREATE UNIQUE INDEX group_keys_by_epoch ON group_keys (user, grp, epoch);
CREATE INDEX group_keys_by_keyset ON group_keys (user, keyset);
-- Flags of one member on one line, where there are any. `seen` is NULL where the marker says whether it was read; `gone`: the
-- member expunged it. `registers` as in `placements`.
CREATE TABLE group_flags (
    grp INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    user INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    uid INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    keywords TEXT,
    seen INTEGER,
    gone INTEGER NOT NULL,
    registers BLOB NOT NULL,
    PRIMARY KEY (grp, user, uid)
) WITHOUT ROWID;
-- When a member's marker moved: the modification sequence of what became read then.
CREATE TABLE group_marks (
    grp INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    user INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    up_to INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    PRIMARY KEY (grp, user, up_to)
) WITHOUT ROWID;
