//! The outgoing queue's tables.

use super::StoreError;
use super::apply::{Applied, forget, perform, wait, wake};
use super::blobs::BlobName;
use super::content::Prepared;
use super::resolve;
use super::tx::Tx;
use crate::id::{InstanceId, JobId};
use crate::operation::{LogEntry, Operation};
use crate::store::{
    Hold, JobChange, JobEnd, JobLater, NewJob, QueueProgress, QueueTotals, QueuedMessage, StoredJob, Submission,
    Written,
};
use bytes::Bytes;
use mesyx_sdk::{MessageId, UserId};
use rusqlite::{Connection, OptionalExtension, Row, params};

const HOLD_OPERATOR: u8 = 1;
const HOLD_KEY: u8 = 2;

const fn hold_number(hold: Hold) -> u8 {
    match hold {
        Hold::No => 0,
        Hold::Operator => HOLD_OPERATOR,
        Hold::Key => HOLD_KEY,
    }
}

const fn hold_of(number: u8) -> Hold {
    match number {
        HOLD_OPERATOR => Hold::Operator,
        HOLD_KEY => Hold::Key,
        _ => Hold::No,
    }
}

/// Copies for users here and jobs for the others. `prepared` has one element for each copy, then one for the content.
pub(super) fn submit(tx: &mut Tx<'_>, submission: &Submission, prepared: &[Prepared]) -> Result<Written, StoreError> {
    let Submission { copies, message, jobs, dedup, most_jobs } = submission;
    let Some(content) = prepared.get(copies.len()) else {
        return Err(StoreError::Invalid("a submission's content was not prepared"));
    };
    if jobs.is_empty() {
        return Err(StoreError::Invalid("a submission without recipients elsewhere is a delivery"));
    }
    let written = resolve::deliver(tx, copies, prepared, *dedup)?;
    if matches!(written, Written::Delivered { duplicate: true }) {
        // `deliver` let go of every prepared file, the content's too.
        return Ok(written);
    }
    enqueue_all(tx, message, jobs, *most_jobs, *content)?;
    Ok(written)
}

/// Puts a message's content and its jobs into the queue.
pub(super) fn enqueue_all(
    tx: &mut Tx<'_>,
    message: &QueuedMessage,
    jobs: &[NewJob],
    most_jobs: u64,
    content: Prepared,
) -> Result<(), StoreError> {
    let user = resolve::existing_user(tx, message.user)?;
    let waiting = waiting(tx, user)?;
    if waiting.saturating_add(jobs.len() as u64) > most_jobs {
        return Err(StoreError::Limit("too many of your messages wait to be sent already"));
    }
    let insert = "INSERT INTO queued_messages (message, data_key, bytes, blob) VALUES (?, ?, ?, ?)";
    let bytes = message.body.len().cast_signed() as i64;
    tx.sql(insert)?.execute(params![message.message.0, message.data_key, bytes, content.blob])?;
    let id = tx.connection.last_insert_rowid();
    if content.blob.is_none() {
        tx.sql("INSERT INTO queued_bodies VALUES (?, ?)")?.execute(params![id, &message.body[..]])?;
    }
    let gateway = tx.meta.me;
    for new in jobs {
        let (job, user, message) = (new.job, message.user, message.message);
        if tx.removed(job.0)? || tx.sql("SELECT 1 FROM jobs WHERE job = ?")?.exists([job.0])? {
            return Err(StoreError::Invalid("the id of a new job was used before: take a random one"));
        }
        perform(tx, Operation::Enqueue { job, message, user, gateway })?;
        let fill = "UPDATE jobs SET content = ?, due = ?, sealed = ? WHERE job = ?";
        tx.sql(fill)?.execute(params![id, new.due, new.sealed, job.0])?;
    }
    Ok(())
}

/// How many jobs a user has, counted only where that is not known.
fn waiting(tx: &mut Tx<'_>, user: i64) -> Result<u64, StoreError> {
    if let Some(waiting) = tx.ids.jobs.get(&user) {
        return Ok(*waiting);
    }
    let waiting: i64 = tx.sql("SELECT count(*) FROM jobs WHERE user = ?")?.query_row([user], |row| row.get(0))?;
    tx.ids.jobs.insert(user, waiting.unsigned_abs());
    Ok(waiting.unsigned_abs())
}

/// What came of attempts.
pub(super) fn progress(
    tx: &mut Tx<'_>,
    progress: &QueueProgress,
    prepared: &[Prepared],
) -> Result<Written, StoreError> {
    resolve::deliver(tx, &progress.copies, prepared, None)?;
    for (job, end) in &progress.ended {
        finish(tx, *job, *end)?;
    }
    const SQL: &str = "UPDATE jobs SET due = ?2, attempts = ?3, progress = coalesce(?4, progress),
        hold = CASE WHEN hold = 1 THEN 1 ELSE ?5 END WHERE job = ?1";
    for JobLater { job, due, attempts, hold, progress } in &progress.later {
        tx.sql(SQL)?.execute(params![job.0, due, attempts, progress, hold_number(*hold)])?;
    }
    Ok(Written::Done)
}

fn finish(tx: &mut Tx<'_>, job: JobId, end: JobEnd) -> Result<(), StoreError> {
    if tx.sql("SELECT 1 FROM jobs WHERE job = ?")?.exists([job.0])? {
        perform(tx, Operation::Outcome { job, end })?;
    }
    Ok(())
}

/// What the operator does. Jobs that are not there are passed over.
pub(super) fn change(tx: &Tx<'_>, jobs: &[JobId], change: JobChange, due: i64) -> Result<Written, StoreError> {
    let sql = match change {
        JobChange::Hold => "UPDATE jobs SET hold = 1 WHERE job = ?1 AND ?2 = ?2",
        JobChange::Release => "UPDATE jobs SET hold = 0, due = ?2 WHERE job = ?1 AND hold = 1",
        JobChange::Retry => "UPDATE jobs SET due = ?2 WHERE job = ?1 AND hold <> 1",
    };
    for job in jobs {
        tx.sql(sql)?.execute(params![job.0, due])?;
    }
    Ok(Written::Done)
}

/// Certificates came: what waits for one is due.
pub(super) fn keys_came(tx: &mut Tx<'_>, user: UserId, due: i64) -> Result<Written, StoreError> {
    if let Some(user) = tx.user(user)? {
        let sql = "UPDATE jobs SET due = min(due, ?2) WHERE user = ?1 AND hold = 2";
        tx.sql(sql)?.execute(params![user, due])?;
    }
    Ok(Written::Done)
}

/// `Operation::Enqueue`.
pub(super) fn enqueue(
    tx: &mut Tx<'_>,
    entry: &LogEntry,
    job: JobId,
    message: MessageId,
    of: UserId,
    gateway: InstanceId,
) -> Result<Applied, StoreError> {
    if tx.removed(job.0)? || tx.removed(of.0)? {
        forget(tx, job.0)?;
        return Ok(Applied::Done);
    }
    let Some(user) = tx.user(of)? else { return wait(tx, entry, of.0, None) };
    let gateway = tx.instance(gateway)?;
    const SQL: &str =
        "INSERT OR IGNORE INTO jobs (job, user, message, gateway, gateway_stamp, due, attempts, hold, sealed)
        VALUES (?, ?, ?, ?, ?, 0, 0, 0, x'')";
    let added = tx.sql(SQL)?.execute(params![job.0, user, message.0, gateway, entry.stamp.to_bytes()])?;
    if let Some(waiting) = tx.ids.jobs.get_mut(&user) {
        *waiting += added as u64;
    }
    wake(tx, job.0)?;
    Ok(Applied::Done)
}

/// `Operation::Assign`: a register.
pub(super) fn assign(
    tx: &mut Tx<'_>,
    entry: &LogEntry,
    job: JobId,
    gateway: InstanceId,
) -> Result<Applied, StoreError> {
    if tx.removed(job.0)? {
        return Ok(Applied::Done);
    }
    if !tx.sql("SELECT 1 FROM jobs WHERE job = ?")?.exists([job.0])? {
        return wait(tx, entry, job.0, None);
    }
    let gateway = tx.instance(gateway)?;
    const SQL: &str = "UPDATE jobs SET gateway = ?2, gateway_stamp = ?3 WHERE job = ?1 AND gateway_stamp < ?3";
    tx.sql(SQL)?.execute(params![job.0, gateway, entry.stamp.to_bytes()])?;
    Ok(Applied::Done)
}

/// `Operation::Outcome`: a removal.
pub(super) fn outcome(tx: &mut Tx<'_>, job: JobId) -> Result<Applied, StoreError> {
    tx.remove(job.0)?;
    forget(tx, job.0)?;
    let mut delete = tx.sql("DELETE FROM jobs WHERE job = ? RETURNING user, content")?;
    let gone: Option<(i64, Option<i64>)> = {
        let mut rows = delete.query([job.0])?;
        let gone = rows.next()?.map(|row| Ok::<_, StoreError>((row.get(0)?, row.get(1)?))).transpose()?;
        while rows.next()?.is_some() {}
        gone
    };
    let Some((user, content)) = gone else { return Ok(Applied::Done) };
    if let Some(waiting) = tx.ids.jobs.get_mut(&user) {
        *waiting = waiting.saturating_sub(1);
    }
    if let Some(content) = content {
        release(tx, content)?;
    }
    Ok(Applied::Done)
}

/// A user is removed: their jobs go too.
pub(super) fn user_goes(tx: &mut Tx<'_>, user: i64) -> Result<(), StoreError> {
    let mut select = tx.sql("SELECT job FROM jobs WHERE user = ?")?;
    let jobs = select.query_map([user], |row| Ok(JobId(row.get(0)?)))?.collect::<Result<Vec<_>, _>>()?;
    for job in jobs {
        outcome(tx, job)?;
    }
    Ok(())
}

/// Erases content, with its data key, that no job needs any more.
fn release(tx: &mut Tx<'_>, content: i64) -> Result<(), StoreError> {
    if tx.sql("SELECT 1 FROM jobs WHERE content = ?")?.exists([content])? {
        return Ok(());
    }
    let mut delete = tx.sql("DELETE FROM queued_messages WHERE id = ? RETURNING blob")?;
    let blob: Option<Option<BlobName>> = {
        let mut rows = delete.query([content])?;
        let blob = rows.next()?.map(|row| row.get(0)).transpose()?;
        while rows.next()?.is_some() {}
        blob
    };
    match blob.flatten() {
        Some(blob) => tx.effects.blobs_gone.push(blob),
        None => {
            tx.sql("DELETE FROM queued_bodies WHERE id = ?")?.execute([content])?;
        }
    }
    Ok(())
}

const COLUMNS: &str =
    "j.id, j.job, j.message, u.user, j.due, j.attempts, j.hold, m.bytes, m.data_key, j.sealed, j.progress
    FROM jobs j JOIN users u ON u.id = j.user JOIN queued_messages m ON m.id = j.content";

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredJob> {
    Ok(StoredJob {
        row: row.get(0)?,
        job: JobId(row.get(1)?),
        message: MessageId(row.get(2)?),
        user: UserId(row.get(3)?),
        due: row.get(4)?,
        attempts: row.get(5)?,
        hold: hold_of(row.get(6)?),
        bytes: row.get::<_, i64>(7)?.unsigned_abs(),
        data_key: row.get(8)?,
        sealed: row.get(9)?,
        progress: row.get(10)?,
    })
}

/// Our jobs that are due, in the order in which they are, after that one.
pub(super) fn due(
    connection: &Connection,
    until: i64,
    after: (i64, i64),
    limit: usize,
) -> Result<Vec<StoredJob>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} WHERE j.hold <> 1 AND j.content IS NOT NULL AND j.due <= ?1 AND (j.due, j.id) > (?2, ?3)
        AND j.gateway = (SELECT i.id FROM instances i JOIN meta ON meta.instance = i.instance) ORDER BY j.due, j.id LIMIT ?4"
    );
    let mut select = connection.prepare_cached(&sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    Ok(select.query_map(params![until, after.0, after.1, limit], stored)?.collect::<Result<_, _>>()?)
}

/// When the next job after that time is due.
pub(super) fn next_due(connection: &Connection, after: i64) -> Result<Option<i64>, StoreError> {
    const SQL: &str = "SELECT due FROM jobs WHERE hold <> 1 AND content IS NOT NULL AND due > ? ORDER BY due LIMIT 1";
    Ok(connection.prepare_cached(SQL)?.query_row([after], |row| row.get(0)).optional()?)
}

/// All jobs whose content is here, in the order in which they came, after that one.
pub(super) fn jobs(connection: &Connection, after: i64, limit: usize) -> Result<Vec<StoredJob>, StoreError> {
    let sql = format!("SELECT {COLUMNS} WHERE j.id > ? ORDER BY j.id LIMIT ?");
    let mut select = connection.prepare_cached(&sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    Ok(select.query_map(params![after, limit], stored)?.collect::<Result<_, _>>()?)
}

/// Those jobs that are there.
pub(super) fn these(connection: &Connection, wanted: &[JobId]) -> Result<Vec<StoredJob>, StoreError> {
    let sql = format!("SELECT {COLUMNS} WHERE j.job = ?");
    let mut select = connection.prepare_cached(&sql)?;
    let mut found = Vec::with_capacity(wanted.len());
    for job in wanted {
        found.extend(select.query_row([job.0], stored).optional()?);
    }
    Ok(found)
}

/// The content of a message with the name of its file, where it stands in one.
pub(super) fn content(
    connection: &Connection,
    message: MessageId,
) -> Result<Option<(Option<BlobName>, Bytes)>, StoreError> {
    const SQL: &str =
        "SELECT m.blob, b.body FROM queued_messages m LEFT JOIN queued_bodies b ON b.id = m.id WHERE m.message = ?";
    let mut select = connection.prepare_cached(SQL)?;
    let found = select.query_row([message.0], |row| {
        let body: Option<Vec<u8>> = row.get(1)?;
        Ok((row.get(0)?, Bytes::from(body.unwrap_or_default())))
    });
    Ok(found.optional()?)
}

pub(super) fn totals(connection: &Connection) -> Result<QueueTotals, StoreError> {
    const SQL: &str = "SELECT count(*), coalesce(sum(attempts > 0), 0), coalesce(sum(hold = 1), 0), coalesce(sum(hold = 2), 0) FROM jobs";
    let totals = connection.prepare_cached(SQL)?.query_row([], |row| {
        let number = |at| row.get::<_, i64>(at).map(i64::unsigned_abs);
        Ok(QueueTotals { jobs: number(0)?, deferred: number(1)?, held: number(2)?, keyless: number(3)? })
    });
    Ok(totals?)
}
