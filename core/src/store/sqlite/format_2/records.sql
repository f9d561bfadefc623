-- Small records of a user, sealed to the user's identity: contacts, what intake saw, verdicts on signatures.
-- Each is a register: the write with the highest stamp holds. `sealed` is NULL where it was removed; the row stays, so that
-- an older write does not bring it back. `instance` and `sequence`: the log entry that wrote it, whose own copy of the
-- sealed bytes is erased when another takes its place.
CREATE TABLE records (
    id INTEGER PRIMARY KEY,
    user INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    record BLOB NOT NULL,
    kind INTEGER NOT NULL,
    day INTEGER NOT NULL,
    stamp BLOB NOT NULL,
    instance INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    sealed BLOB
);
CREATE UNIQUE INDEX records_by_id ON records (user, record);
CREATE INDEX records_by_kind ON records (user, kind, stamp) WHERE sealed IS NOT NULL;
-- Values that this instance keeps for a while, by a keyed hash, sealed under the instance key: local, never logged.
CREATE TABLE cached (hash BLOB PRIMARY KEY, day INTEGER NOT NULL, value BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX cached_by_day ON cached (day);
