-- The outgoing queue.
-- What jobs bring out: sealed under `data_key`, which is itself wrapped by the instance key. The row goes with the
-- message's last job. A body stands in `queued_bodies`, or in the file that `blob` names.
CREATE TABLE queued_messages (
    id INTEGER PRIMARY KEY,
    message BLOB NOT NULL UNIQUE,
    data_key BLOB NOT NULL,
    bytes INTEGER NOT NULL,
    blob BLOB
);
CREATE TABLE queued_bodies (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
-- One recipient each. `content` is NULL where the content is not on this instance. `due` is the next attempt, in seconds
-- since 1970. `hold`: 0 waits for its time, 1 waits for the operator, 2 waits for its time or for a certificate.
-- `sealed` (addresses, wishes, exact time) and `progress` (what happened so far) are sealed under the message's data key.
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job BLOB NOT NULL UNIQUE,
    user INTEGER NOT NULL,
    message BLOB NOT NULL,
    gateway INTEGER NOT NULL,
    gateway_stamp BLOB NOT NULL,
    content INTEGER,
    due INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    hold INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    progress BLOB
);
CREATE INDEX jobs_due ON jobs (due, id) WHERE hold <> 1 AND content IS NOT NULL;
CREATE INDEX jobs_by_content ON jobs (content) WHERE content IS NOT NULL;
CREATE INDEX jobs_by_user ON jobs (user);
-- For counting, without reading what is sealed.
CREATE INDEX jobs_by_state ON jobs (hold, attempts);
