//! The outgoing queue: what users submit for recipients elsewhere, until it is there or given up.
//!
//! ```text
//!  submit --> data key, sealed content and jobs --> one commit with the local copies --> 250
//!  Worker: due jobs --> Window (turns, leases, hosts that are down) --> Attempt: open, wrap, deliver --> outcomes
//!          outcomes --> schedule (done, or when again; what the sender is told) --> one commit: ends, times, notices
//! ```
//!
//! What must hold:
//! - a job that was acknowledged ends exactly once: delivered, failed, expired or dropped, and its sender hears of the last
//!   three, unless they said otherwise;
//! - no job is attempted twice at a time, nor again before what came of its last attempt is durable;
//! - what may have been sent is sent again, with the same Message-ID, only where the answer was lost;
//! - the content of a message is unreadable once its last job is done.

mod attempt;
mod notice;
pub mod operate;
mod piece;
mod schedule;
mod sealed;
mod settings;
mod submit;
mod window;
mod worker;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use settings::QueueSettings;
pub(crate) use submit::Offered;

use crate::core::{Core, Shared};
use crate::id::JobId;
use crate::store::Write;
use async_trait::async_trait;
use mesyx_sdk::{AddressKind, Delivery, Outcome, Timestamp, UserId};
use sealed::Job;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// Brings messages to other networks: the program, through its bridges.
#[async_trait]
pub trait Deliverer: Send + Sync + 'static {
    /// The bridge that brings messages to addresses of this kind, where one does. Cheap: asked for each recipient.
    fn route(&self, kind: AddressKind) -> Option<String>;

    /// ONE attempt through that bridge, over by the job's deadline: one outcome for each recipient, in their order.
    /// Dropping the future gives the attempt up.
    async fn deliver(&self, bridge: &str, job: Delivery) -> Vec<Outcome>;
}

/// New jobs that wait to be offered to the worker; more are found in the store.
const OFFERS: usize = 1024;

/// The queue's side of [`Shared`].
pub(crate) struct Handle {
    running: Mutex<Option<Running>>,
    /// Cleared only when no job waits for a certificate.
    keyless: AtomicBool,
}

impl Default for Handle {
    fn default() -> Self {
        Self { running: Mutex::default(), keyless: AtomicBool::new(true) }
    }
}

/// The worker, as others see it.
struct Running {
    deliverer: Arc<dyn Deliverer>,
    asks: mpsc::UnboundedSender<Ask>,
    offers: mpsc::Sender<Vec<Job>>,
    stop: watch::Sender<Option<Instant>>,
    task: Option<JoinHandle<()>>,
}

/// What the worker is asked for.
enum Ask {
    /// Leave these jobs alone until they are released; which of them are being attempted, and so are not left alone.
    Lease(Vec<JobId>, oneshot::Sender<Vec<JobId>>),
    /// Look at these again.
    Release(Vec<JobId>),
    /// Forget which hosts are left alone, and look at everything.
    TryNow,
    /// Something may be due that was not.
    Look,
    /// How many attempts run.
    Running(oneshot::Sender<usize>),
}

impl Handle {
    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bridge for addresses of a kind; `None` also where no worker runs.
    pub(crate) fn route(&self, kind: AddressKind) -> Option<String> {
        let deliverer = self.lock().as_ref().map(|running| Arc::clone(&running.deliverer));
        deliverer?.route(kind)
    }

    /// Jobs that were committed a moment ago.
    fn offer(&self, jobs: Vec<Job>) {
        if let Some(running) = &*self.lock() {
            // Where there is no room, the worker finds them in the store.
            if running.offers.try_send(jobs).is_err() {
                let _ = running.asks.send(Ask::Look);
            }
        }
    }

    /// Ends the worker without waiting for it.
    pub(crate) fn forget(&self) {
        drop(self.lock().take());
    }

    fn ask(&self, ask: Ask) -> bool {
        self.lock().as_ref().is_some_and(|running| running.asks.send(ask).is_ok())
    }

    /// Keeps jobs from being attempted while the guard lives. The second: those that are being attempted now.
    async fn lease(self: &Arc<Self>, jobs: &[JobId]) -> (Leased, Vec<JobId>) {
        let (answer, busy) = oneshot::channel();
        let asked = self.ask(Ask::Lease(jobs.to_vec(), answer));
        let busy = if asked { busy.await.unwrap_or_default() } else { Vec::new() };
        let jobs = jobs.iter().copied().filter(|job| !busy.contains(job)).collect();
        (Leased { handle: Arc::clone(self), jobs }, busy)
    }
}

/// Jobs that a command keeps from being attempted.
struct Leased {
    handle: Arc<Handle>,
    jobs: Vec<JobId>,
}

impl Drop for Leased {
    fn drop(&mut self) {
        self.handle.ask(Ask::Release(std::mem::take(&mut self.jobs)));
    }
}

impl Shared {
    /// What a user knows of correspondents changed: what waits for a certificate is tried now.
    pub(crate) async fn wake_jobs(&self, user: UserId) {
        if !self.queue.keyless.load(Ordering::Acquire) {
            return;
        }
        // Before the write: what begins to wait from now on sets it itself, once that is durable.
        self.queue.keyless.store(false, Ordering::Release);
        let write = Write::KeysCame { user, due: Timestamp::now().seconds() };
        if let Err(error) = self.store.write(write).await {
            self.queue.keyless.store(true, Ordering::Release);
            tracing::warn!(%user, %error, "messages that wait for a key could not be woken; they are tried within the hour");
            return;
        }
        self.queue.ask(Ask::Look);
        if self.store.queue_totals().await.is_ok_and(|totals| totals.keyless > 0) {
            self.queue.keyless.store(true, Ordering::Release);
        }
    }
}

impl Core {
    /// Begins to work through the queue. Before this, and where it is not called, jobs are kept but nothing is sent, and users
    /// can't submit to recipients elsewhere.
    pub fn start_queue(&self, deliverer: Arc<dyn Deliverer>) {
        let mut handle = self.shared.queue.lock();
        if handle.is_some() {
            return;
        }
        let (asks, asked) = mpsc::unbounded_channel();
        let (offers, offered) = mpsc::channel(OFFERS);
        let (stop, stopping) = watch::channel(None);
        let shared = Arc::clone(&self.shared);
        let worker = worker::Worker::new(shared, Arc::clone(&deliverer), asked, offered, stopping);
        let task = Some(tokio::spawn(worker.run()));
        *handle = Some(Running { deliverer, asks, offers, stop, task });
    }

    /// Begins nothing new, and gives what runs `limit` to end; then it is cut off, and made again after the next start.
    pub async fn stop_queue(&self, limit: Duration) {
        let task = {
            let mut handle = self.shared.queue.lock();
            let Some(running) = &mut *handle else { return };
            running.stop.send_replace(Some(Instant::now() + limit));
            running.task.take()
        };
        if let Some(task) = task {
            // It panicked if this fails, and said so.
            let _ = task.await;
        }
    }
}
