//! The embedded backend: SQLite, with large bodies in files beside it.
//!
//! ```text
//!   write() -- digests, large bodies to files --> queue --> writer thread: BEGIN, one savepoint per write,
//!              resolve -> operations -> log + apply, attestation, COMMIT (synced) --> events, answers
//!   reads  --> a few connections of their own, on blocking threads
//! ```
//!
//! In the directory: `store.db` (with `-wal` and `-shm` while it is open), `blobs/`, `lock`. To restore a backup, put the
//! directory that [`Store::backup`] wrote in the place of the store's and open it: UIDVALIDITY and UIDs are as they were.

mod apply;
mod backup;
mod blobs;
mod checkpoints;
mod content;
mod conversations;
mod flags;
mod group_views;
mod groups;
mod keys;
mod names;
mod peek;
mod queue;
mod read;
mod records;
mod reshow;
mod resolve;
mod schema;
#[cfg(test)]
mod tests;
mod tx;
mod writer;

use super::{
    Attest, Attestation, Event, KeyWrite, KeysetMove, KeysetUse, LineNumbers, LineRange, QueueTotals, Queued,
    RecordKind, SealedTo, SealedUse, Store, StoreError, StoredGroup, StoredJob, StoredLine, StoredPart, StoredRecord,
    StoredSecretKey, StoredSecrets, StoredUser, Totals, Write, Written,
};
use crate::id::{InstanceId, JobId, KeysetId, RecordId, SessionKeyId};
use crate::operation::LogEntry;
use crate::seal::{PartName, Sealed, SealedMessage, SealedSessionKey};
use async_trait::async_trait;
use content::Prepared;
use mesyx_sdk::{
    Changes, Mailbox, MailboxId, MailboxName, MailboxStatus, MessageId, ModSeq, Snapshot, Timestamp, Uid, UserId,
};
use read::{FoundPart, Want};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};
use tx::Meta;
use writer::{Job, NumbersCache, Shared, Writer};

/// How long a lock of another connection is waited for.
const BUSY: std::time::Duration = std::time::Duration::from_secs(10);

/// How a store is run. The defaults suit a server of a small machine.
#[derive(Debug, Clone)]
pub struct Options {
    /// Sealed bodies above this many bytes go to files. Default 128 KiB.
    pub inline_limit: usize,
    /// Connections for reading, each with a cache of [`Options::read_cache`]. Default 4.
    pub readers: usize,
    /// Bytes of page cache of each reader. Default 1 MiB; the operating system caches the rest.
    pub read_cache: usize,
    /// Bytes of page cache of the writer. Default 8 MiB.
    pub write_cache: usize,
    /// Writes that may wait; more wait outside. Default 1,024.
    pub queue: usize,
    /// Most writes in one commit. Default 256.
    pub group_writes: usize,
    /// Bytes of messages in one commit above which no further write joins it. Default 8 MiB.
    pub group_bytes: usize,
    /// How many vanished UIDs are listed per mailbox at the least; who was away for longer is told of every UID that is
    /// not there. Default 10,000.
    pub vanished_kept: u32,
    /// Whether commits and files are synced to the disk. `false` only for stores that may be lost, as in tests.
    pub sync: bool,
    /// The day, as days since 1970-01-01, UTC.
    pub today: fn() -> i32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            inline_limit: 128 << 10,
            readers: 4,
            read_cache: 1 << 20,
            write_cache: 8 << 20,
            queue: 1024,
            group_writes: 256,
            group_bytes: 8 << 20,
            vanished_kept: 10_000,
            sync: true,
            today: || Timestamp::now().day(),
        }
    }
}

/// The store in one directory. Dropping it waits until the queue is written; [`Store::close`] does so without blocking.
#[derive(Debug)]
pub struct SqliteStore {
    inner: Arc<Inner>,
    queue: Mutex<Option<mpsc::Sender<Job>>>,
    inline_limit: usize,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    options: Options,
    shared: Arc<Shared>,
    /// As many permits as there are connections in `idle`; closed with the store.
    permits: Semaphore,
    readers: u32,
    idle: Mutex<Vec<Connection>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Locked as long as the store is open.
    lock: Mutex<Option<File>>,
}

impl SqliteStore {
    /// Events kept for a slow receiver.
    const EVENTS: usize = 4096;

    /// Opens the store in `directory`, or makes it.
    ///
    /// Brings an older store to today's format, sweeps files that no message names, and starts the writer. Blocks on
    /// the disk for as long as that takes.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while another process has it open, [`StoreError::Newer`], [`StoreError::Invalid`] when it
    /// belongs to another instance than `attest` speaks for, [`StoreError::Full`], [`StoreError::Backend`].
    pub fn open(directory: &Path, options: Options, attest: Arc<dyn Attest>) -> Result<Self, StoreError> {
        std::fs::create_dir_all(directory).map_err(|error| blobs::failed(directory, &error))?;
        let lock = lock(directory)?;
        let mut connection = connect(&directory.join(FILE), &options, false)?;
        schema::migrate(&mut connection)?;
        let me = attest.instance();
        let meta = match Meta::load(&connection)? {
            Some(meta) if meta.me == me => meta,
            Some(_) => return Err(StoreError::Invalid("the store belongs to another instance")),
            None => Meta::create(&connection, me)?,
        };
        if options.sync {
            let synced = File::open(directory).and_then(|directory| directory.sync_all());
            synced.map_err(|error| blobs::failed(directory, &error))?;
        }
        let blobs = blobs::Blobs::open(directory.join(BLOBS), options.sync)?;
        let swept = blobs.sweep(&backup::blobs_of(&connection)?)?;
        if swept > 0 {
            tracing::info!(swept, "removed files that no message names");
        }
        let readers = (0..options.readers.max(1))
            .map(|_| connect(&directory.join(FILE), &options, true))
            .collect::<Result<Vec<_>, _>>()?;
        let shared = Arc::new(Shared {
            events: broadcast::Sender::new(Self::EVENTS),
            blobs,
            numbers: NumbersCache::default(),
            backups: AtomicUsize::new(0),
        });
        let (queue, jobs) = mpsc::channel(options.queue.max(1));
        let inline_limit = options.inline_limit;
        let writer = Writer {
            connection,
            meta,
            options: options.clone(),
            attest,
            shared: shared.clone(),
            queue: jobs,
            gone: Vec::new(),
            ids: tx::Ids::default(),
            pruned: i32::MIN,
        };
        let thread = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || writer.run());
        let thread = thread.map_err(|error| StoreError::Backend(format!("the writer's thread: {error}")))?;
        let inner = Inner {
            directory: directory.to_owned(),
            options: options.clone(),
            shared,
            permits: Semaphore::new(readers.len()),
            readers: u32::try_from(readers.len()).unwrap_or(u32::MAX),
            idle: Mutex::new(readers),
            writer: Mutex::new(Some(thread)),
            lock: Mutex::new(Some(lock)),
        };
        Ok(Self { inner: Arc::new(inner), queue: Mutex::new(Some(queue)), inline_limit })
    }

    /// Runs `query` on a reading connection, in one read transaction.
    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.inner.clone().read(query).await
    }

    /// Works out what the writer needs of each message, and writes large bodies to files.
    async fn prepare(&self, write: &mut Write) -> Result<(Vec<Prepared>, usize), StoreError> {
        let messages: Vec<&mut SealedMessage> = match write {
            Write::Deliver { copies, .. } => copies.iter_mut().map(|placing| &mut placing.message).collect(),
            Write::Append(copies) => copies.iter_mut().map(|placing| &mut placing.message).collect(),
            Write::Submit(submission) => submission.copies.iter_mut().map(|placing| &mut placing.message).collect(),
            Write::Speak(line) => line.copies.iter_mut().map(|placing| &mut placing.message).collect(),
            Write::Progress(progress) => progress.copies.iter_mut().map(|placing| &mut placing.message).collect(),
            Write::Merge { messages, .. } => messages.iter_mut().map(|(message, _)| message).collect(),
            Write::Keys(KeyWrite::Reseal(messages)) => {
                messages.iter_mut().map(|resealed| &mut resealed.message).collect()
            }
            _ => Vec::new(),
        };
        let mut prepared: Vec<Prepared> = Vec::with_capacity(messages.len() + 1);
        let mut bytes = 0;
        for message in messages {
            bytes += message.summary.0.len() + message.body.0.len();
            let blob = if message.body.0.len() > self.inline_limit {
                match self.inner.shared.blobs.put(message.body.0.clone()).await {
                    Ok(blob) => Some(blob),
                    Err(error) => {
                        self.remove_prepared(&prepared);
                        return Err(error);
                    }
                }
            } else {
                None
            };
            prepared.push(Prepared::new(message, blob));
        }
        let leaving = match write {
            Write::Submit(submission) => Some(&submission.message),
            Write::Speak(line) => line.outbound.as_ref().map(|(message, ..)| message),
            _ => None,
        };
        if let Some(message) = leaving {
            let body = &message.body;
            bytes += body.len();
            let blob = if body.len() > self.inline_limit {
                match self.inner.shared.blobs.put(body.clone()).await {
                    Ok(blob) => Some(blob),
                    Err(error) => {
                        self.remove_prepared(&prepared);
                        return Err(error);
                    }
                }
            } else {
                None
            };
            prepared.push(Prepared::of_queued(blob));
        }
        Ok((prepared, bytes))
    }

    /// Removes the files of a write that comes to nothing.
    fn remove_prepared(&self, prepared: &[Prepared]) {
        prepared.iter().filter_map(|done| done.blob).for_each(|blob| self.inner.shared.blobs.remove(blob));
    }

    async fn parts(
        &self,
        user: UserId,
        mailbox: MailboxId,
        uids: &[Uid],
        want: Want,
    ) -> Result<Vec<StoredPart>, StoreError> {
        let uids = uids.to_vec();
        let read = move |connection: &Connection| {
            or_in_group(read::parts(connection, user, mailbox, &uids, want), || {
                group_views::parts(connection, user, mailbox, &uids, want)
            })
        };
        let found = self.read(read).await?;
        self.with_files(found).await
    }

    /// A mailbox's numbers, read and kept where the mailbox is the user's own.
    async fn status_if_own(&self, user: UserId, mailbox: MailboxId) -> Result<(), StoreError> {
        let cache = &self.inner.shared.numbers;
        let generation = cache.generation();
        let status = self.read(move |connection| read::numbers(connection, user, mailbox)).await?.status;
        cache.put(generation, user, mailbox, status);
        Ok(())
    }

    async fn with_files(&self, found: Vec<FoundPart>) -> Result<Vec<StoredPart>, StoreError> {
        let mut parts = Vec::with_capacity(found.len());
        for FoundPart { mut part, blob } in found {
            if let Some(blob) = blob {
                // Without its file the message was expunged a moment ago.
                let Some(body) = self.inner.shared.blobs.get(blob).await? else { continue };
                part.part = Sealed(body);
            }
            parts.push(part);
        }
        Ok(parts)
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn enqueue(&self, mut write: Write) -> Result<oneshot::Receiver<Result<Written, StoreError>>, StoreError> {
        let queue = locked(&self.queue).clone().ok_or(StoreError::Closed)?;
        let (prepared, bytes) = self.prepare(&mut write).await?;
        let (answer, result) = oneshot::channel();
        let then = if let Write::Speak(line) = &mut write { line.then.take() } else { None };
        let job = Job { heavy: writer::is_heavy(&write), write, prepared, bytes, then, answer };
        queue.send(job).await.map_err(|_| StoreError::Closed)?;
        Ok(result)
    }

    async fn users(&self) -> Result<Vec<StoredUser>, StoreError> {
        self.read(read::users).await
    }

    async fn secrets(&self, user: UserId) -> Result<StoredSecrets, StoreError> {
        self.read(move |connection| read::secrets(connection, user)).await
    }

    async fn mailboxes(&self, user: UserId) -> Result<Vec<Mailbox>, StoreError> {
        let read = move |connection: &Connection| {
            let mut mailboxes = read::mailboxes(connection, user)?;
            mailboxes.extend(group_views::mailboxes(connection, user)?);
            mailboxes.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
            Ok(mailboxes)
        };
        self.read(read).await
    }

    async fn subscriptions(&self, user: UserId) -> Result<Vec<MailboxName>, StoreError> {
        self.read(move |connection| read::subscriptions(connection, user)).await
    }

    async fn status(&self, user: UserId, mailbox: MailboxId) -> Result<MailboxStatus, StoreError> {
        let cache = &self.inner.shared.numbers;
        if let Some(status) = cache.get(user, mailbox) {
            return Ok(status);
        }
        let generation = cache.generation();
        let read = move |connection: &Connection| match read::numbers(connection, user, mailbox) {
            Ok(numbers) => Ok((numbers.status, true)),
            // Those of a group's members change with every line: they are not kept.
            Err(StoreError::NotFound(_)) => {
                group_views::status(connection, user, mailbox).map(|status| (status, false))
            }
            Err(error) => Err(error),
        };
        let (status, keep) = self.read(read).await?;
        if keep {
            cache.put(generation, user, mailbox, status);
        }
        Ok(status)
    }

    async fn snapshot(&self, user: UserId, mailbox: MailboxId) -> Result<Snapshot, StoreError> {
        let read = move |connection: &Connection| {
            or_in_group(read::snapshot(connection, user, mailbox), || group_views::snapshot(connection, user, mailbox))
        };
        self.read(read).await
    }

    async fn changes(&self, user: UserId, mailbox: MailboxId, since: ModSeq) -> Result<Changes, StoreError> {
        let known = self.inner.shared.numbers.get(user, mailbox);
        if let Some(status) = known.filter(|status| status.highest_modseq == since) {
            let (changed, vanished) = (Vec::new(), Vec::new());
            let (highest_modseq, uid_next) = (since, status.uid_next);
            return Ok(Changes { highest_modseq, uid_next, changed, vanished, deleted: false });
        }
        let read = move |connection: &Connection| match read::changes(connection, user, mailbox, since)? {
            Changes { deleted: true, .. } => group_views::changes(connection, user, mailbox, since),
            changes => Ok(changes),
        };
        let changes = self.read(read).await?;
        if known.is_none() && !changes.deleted {
            // So that asking again for nothing new costs no disk.
            drop(self.status_if_own(user, mailbox).await);
        }
        Ok(changes)
    }

    async fn summaries(&self, user: UserId, mailbox: MailboxId, uids: &[Uid]) -> Result<Vec<StoredPart>, StoreError> {
        self.parts(user, mailbox, uids, Want::Summaries).await
    }

    async fn bodies(
        &self,
        user: UserId,
        mailbox: MailboxId,
        uids: &[Uid],
        max_bytes: u64,
    ) -> Result<Vec<StoredPart>, StoreError> {
        self.parts(user, mailbox, uids, Want::Bodies(max_bytes)).await
    }

    async fn session_key(&self, user: UserId, id: SessionKeyId) -> Result<Arc<SealedSessionKey>, StoreError> {
        self.read(move |connection| read::session_key(connection, user, id)).await
    }

    async fn keyset_use(&self, user: UserId) -> Result<Vec<KeysetUse>, StoreError> {
        self.read(move |connection| keys::usage(connection, user)).await
    }

    async fn keyset_removed(&self, keyset: KeysetId) -> Result<bool, StoreError> {
        self.read(move |connection| keys::was_removed(connection, keyset)).await
    }

    async fn log(&self, of: InstanceId, after: u64, limit: usize) -> Result<Vec<LogEntry>, StoreError> {
        self.read(move |connection| read::log(connection, of, after, limit)).await
    }

    async fn value(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let name = name.to_owned();
        self.read(move |connection| read::value(connection, &name)).await
    }

    async fn records(&self, user: UserId, kind: RecordKind) -> Result<Vec<StoredRecord>, StoreError> {
        self.read(move |connection| records::of_kind(connection, user, kind)).await
    }

    async fn record(&self, user: UserId, record: RecordId) -> Result<Option<StoredRecord>, StoreError> {
        self.read(move |connection| records::one(connection, user, record)).await
    }

    async fn cached(&self, hash: [u8; 32]) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(move |connection| records::cached(connection, hash)).await
    }

    async fn due_jobs(&self, until: i64, after: (i64, i64), limit: usize) -> Result<Vec<StoredJob>, StoreError> {
        self.read(move |connection| queue::due(connection, until, after, limit)).await
    }

    async fn next_due(&self, after: i64) -> Result<Option<i64>, StoreError> {
        self.read(move |connection| queue::next_due(connection, after)).await
    }

    async fn jobs(&self, after: i64, limit: usize) -> Result<Vec<StoredJob>, StoreError> {
        self.read(move |connection| queue::jobs(connection, after, limit)).await
    }

    async fn these_jobs(&self, wanted: &[JobId]) -> Result<Vec<StoredJob>, StoreError> {
        let wanted = wanted.to_vec();
        self.read(move |connection| queue::these(connection, &wanted)).await
    }

    async fn queued(&self, message: MessageId, wanted: &[JobId]) -> Result<Option<Queued>, StoreError> {
        let wanted = wanted.to_vec();
        let found = self.read(move |connection| {
            let content = queue::content(connection, message)?;
            let jobs = if content.is_some() { queue::these(connection, &wanted)? } else { Vec::new() };
            Ok(content.map(|content| (content, jobs)))
        });
        let Some(((blob, body), jobs)) = found.await? else { return Ok(None) };
        let content = match blob {
            Some(blob) => self.inner.shared.blobs.get(blob).await?,
            None => Some(body),
        };
        Ok(Some(Queued { content, jobs }))
    }

    async fn queue_totals(&self) -> Result<QueueTotals, StoreError> {
        self.read(queue::totals).await
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.shared.events.subscribe()
    }

    async fn backup(&self, to: &Path) -> Result<(), StoreError> {
        let (to, inner) = (to.to_owned(), self.inner.clone());
        if inner.permits.is_closed() {
            return Err(StoreError::Closed);
        }
        let work = move || {
            let options = Options { write_cache: inner.options.read_cache, ..inner.options.clone() };
            // A connection of its own: readers may not write, and VACUUM INTO writes its copy.
            let connection = connect(&inner.directory.join(FILE), &options, false)?;
            backup::run(&connection, &inner.shared, &to)
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| StoreError::Backend(format!("a backup was broken off: {error}")))?
    }

    async fn parts_of(
        &self,
        user: UserId,
        messages: &[MessageId],
        name: PartName,
        max_bytes: u64,
    ) -> Result<Vec<StoredPart>, StoreError> {
        let messages = messages.to_vec();
        let want = match name {
            PartName::Summary => Want::Summaries,
            PartName::Body => Want::Bodies(max_bytes),
        };
        let found = self.read(move |connection| read::parts_of(connection, user, &messages, want)).await?;
        self.with_files(found).await
    }

    async fn sealed_to(
        &self,
        user: UserId,
        keyset: KeysetId,
        after: (u64, u64),
        limit: u32,
    ) -> Result<Vec<SealedTo>, StoreError> {
        self.read(move |connection| read::sealed_to(connection, user, keyset, after, limit)).await
    }

    async fn sealed_use(&self, user: UserId) -> Result<Vec<SealedUse>, StoreError> {
        self.read(move |connection| keys::sealed_use(connection, user)).await
    }

    async fn shows_sealed(&self, user: UserId, keyset: KeysetId) -> Result<bool, StoreError> {
        self.read(move |connection| keys::shows_sealed(connection, user, keyset)).await
    }

    async fn unlisted_secret_keys(&self) -> Result<Vec<(UserId, StoredSecretKey)>, StoreError> {
        self.read(keys::unlisted).await
    }

    async fn keyset_moves(&self) -> Result<Vec<KeysetMove>, StoreError> {
        self.read(read::keyset_moves).await
    }

    async fn lines(&self, user: UserId, mailbox: MailboxId, range: LineRange) -> Result<Vec<StoredLine>, StoreError> {
        let read = move |connection: &Connection| {
            or_in_group(conversations::lines(connection, user, mailbox, range), || {
                group_views::lines(connection, user, mailbox, range)
            })
        };
        let found = self.read(read).await?;
        let mut lines = Vec::with_capacity(found.len());
        for (found, seen) in found {
            lines.extend(self.with_files(vec![found]).await?.into_iter().map(|part| StoredLine { part, seen }));
        }
        Ok(lines)
    }

    async fn line_numbers(&self, user: UserId, mailbox: MailboxId) -> Result<LineNumbers, StoreError> {
        let read = move |connection: &Connection| {
            or_in_group(conversations::numbers(connection, user, mailbox), || {
                let view = group_views::find(connection, user, mailbox)?;
                group_views::numbers(connection, (view.grp, view.user, view.mailbox))
            })
        };
        self.read(read).await
    }

    async fn uid_of(&self, user: UserId, mailbox: MailboxId, message: MessageId) -> Result<Option<Uid>, StoreError> {
        let read = move |connection: &Connection| {
            or_in_group(conversations::uid_of(connection, user, mailbox, message), || {
                group_views::uid_of(connection, user, mailbox, message)
            })
        };
        self.read(read).await
    }

    async fn groups(&self, only: Option<UserId>) -> Result<Vec<StoredGroup>, StoreError> {
        self.read(move |connection| group_views::groups(connection, only)).await
    }

    async fn group_keys(
        &self,
        user: UserId,
        keyset: KeysetId,
    ) -> Result<Vec<(UserId, Arc<SealedSessionKey>)>, StoreError> {
        self.read(move |connection| group_views::keys_of(connection, user, keyset)).await
    }

    async fn checkpoint(&self, bridge: &str, hash: [u8; 32]) -> Result<Option<Vec<u8>>, StoreError> {
        let bridge = bridge.to_owned();
        self.read(move |connection| checkpoints::one(connection, &bridge, hash)).await
    }

    async fn checkpoints(&self, bridge: &str) -> Result<Vec<Vec<u8>>, StoreError> {
        let bridge = bridge.to_owned();
        self.read(move |connection| checkpoints::names(connection, &bridge)).await
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        self.read(read::totals).await
    }

    async fn close(&self) {
        drop(locked(&self.queue).take());
        let writer = locked(&self.inner.writer).take();
        if let Some(writer) = writer {
            // It panicked if this fails, and said so.
            let _ = tokio::task::spawn_blocking(move || writer.join()).await;
        }
        // Every reader that is under way finishes first; none begins after.
        if let Ok(permits) = self.inner.permits.acquire_many(self.inner.readers).await {
            locked(&self.inner.idle).clear();
            self.inner.permits.close();
            drop(permits);
            drop(locked(&self.inner.lock).take());
        }
    }
}

impl Inner {
    async fn read<T: Send + 'static>(
        self: Arc<Self>,
        query: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        // Given back only when the query has ended, even if who asked for it went away.
        let permit = self.permits.acquire().await.map_err(|_| StoreError::Closed)?;
        permit.forget();
        let work = move || {
            let lease = Lease::new(&self)?;
            let Some(connection) = &lease.connection else { return Err(StoreError::Closed) };
            let transaction = connection.unchecked_transaction()?;
            let answer = query(connection)?;
            transaction.commit()?;
            Ok(answer)
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| StoreError::Backend(format!("a read was broken off: {error}")))?
    }
}

/// A reading connection that goes back to the others.
struct Lease<'a> {
    inner: &'a Inner,
    connection: Option<Connection>,
}

impl<'a> Lease<'a> {
    fn new(inner: &'a Inner) -> Result<Self, StoreError> {
        let connection = locked(&inner.idle).pop();
        Ok(Self { inner, connection })
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        locked(&self.inner.idle).extend(self.connection.take());
        self.inner.permits.add_permits(1);
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        drop(locked(&self.queue).take());
        let writer = locked(&self.inner.writer).take();
        if let Some(writer) = writer {
            let _ = writer.join();
        }
    }
}

/// What was found among a user's own mailboxes, or else in the view of a group.
fn or_in_group<T>(
    own: Result<T, StoreError>,
    in_group: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    match own {
        Err(StoreError::NotFound(_)) => in_group(),
        own => own,
    }
}

/// The database's file in the store's directory.
const FILE: &str = "store.db";
/// The directory of large bodies.
const BLOBS: &str = "blobs";

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| blobs::failed(&path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::InUse(directory.display().to_string())),
        Err(std::fs::TryLockError::Error(error)) => Err(blobs::failed(&path, &error)),
    }
}

fn connect(file: &Path, options: &Options, reader: bool) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let flags = if reader { flags } else { flags | OpenFlags::SQLITE_OPEN_CREATE };
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(128);
    let cache = if reader { options.read_cache } else { options.write_cache } >> 10;
    let synchronous = if options.sync { "FULL" } else { "OFF" };
    // Takes effect only on a new file.
    connection.pragma_update(None, "page_size", 4096)?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.execute_batch(&format!(
        "PRAGMA synchronous = {synchronous}; PRAGMA secure_delete = ON; PRAGMA foreign_keys = ON;
        PRAGMA temp_store = MEMORY; PRAGMA cache_size = -{cache}; PRAGMA query_only = {reader};"
    ))?;
    Ok(connection)
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match &error {
            rusqlite::Error::SqliteFailure(failure, _)
                if failure.code == ErrorCode::DiskFull
                    || failure.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE =>
            {
                Self::Full
            }
            _ => Self::Backend(error.to_string()),
        }
    }
}
