-- What keysets need beside their records.
--
-- Identity certificates that stay known, the current one or earlier ones; `users.identity` says which is current. `identity` is
-- what the secret key of an earlier one stands under in `secret_keys`.
CREATE TABLE identities (
    user INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    identity BLOB NOT NULL,
    certificate BLOB NOT NULL,
    stamp BLOB NOT NULL,
    PRIMARY KEY (user, identity)
) WITHOUT ROWID;
-- How a user's keysets are renewed.
CREATE TABLE rotations (
    user INTEGER PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    record BLOB NOT NULL,
    stamp BLOB NOT NULL
);
-- What is sealed to which keyset, and of which days, is counted in these indexes alone.
DROP INDEX messages_by_session_key;
CREATE INDEX messages_by_session_key ON messages (session_key, day, size);
CREATE INDEX session_keys_by_keyset ON session_keys (user, keyset);

-- How a message is shown here: 0 opened, 1 sealed, as PGP/MIME. Changes only in one transaction with the UIDs of all its placements.
ALTER TABLE messages ADD COLUMN shown INTEGER NOT NULL DEFAULT 0;
UPDATE messages SET shown = 1 WHERE session_key IN (
    SELECT s.id FROM session_keys s
    WHERE NOT EXISTS (SELECT 1 FROM secret_keys k WHERE k.user = s.user AND k.keyset = s.keyset)
);
-- Programs of the first format showed a sealed message without the checksum of its armor: what a mailbox with such shows changes (RFC 3501,
-- section 2.3.1.1).
UPDATE meta SET uid_validity = 1 + max(uid_validity, (SELECT coalesce(max(uid_validity), 0) FROM mailboxes))
    WHERE EXISTS (SELECT 1 FROM messages WHERE shown = 1);
UPDATE mailboxes SET uid_validity = (SELECT uid_validity FROM meta)
    WHERE id IN (SELECT p.mailbox FROM placements p JOIN messages m ON m.id = p.content WHERE m.shown = 1);
-- Keysets whose messages are on their way to be shown otherwise: `shown` as above. What was begun is finished at the next start.
CREATE TABLE keyset_moves (
    user INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
    keyset BLOB NOT NULL,
    shown INTEGER NOT NULL,
    PRIMARY KEY (user, keyset)
) WITHOUT ROWID;
