//! One connection that all deliveries of a bridge share.

use crate::Outcome;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

/// What waits to be written; whoever has more waits too.
const WAITING: usize = 64;

/// One connection to the network, for a bridge whose deliveries share it: what goes out is written in its order, and answers, which come when
/// they come, find the delivery that waits for them by the name that it gave to its message.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use mesyx_sdk::{Outcome, Trunk};
/// use std::time::Duration;
/// let (trunk, second) = (Trunk::default(), Duration::from_secs(1));
/// assert_eq!(trunk.ask("1", "hello".into(), second).await, Outcome::deferred("the network is away", false));
/// // In `run`: what is read answers what is written, until there is nothing more to read.
/// let (mut far, near) = tokio::io::duplex(100);
/// let carry = trunk.carry(near, async {
///     tokio::io::AsyncReadExt::read_exact(&mut far, &mut [0; 5]).await?;
///     trunk.tell("1", Outcome::delivered());
///     Ok::<_, std::io::Error>(())
/// });
/// let (carried, delivered) = tokio::join!(carry, trunk.ask("1", "hello".into(), second));
/// assert_eq!((carried.is_ok(), delivered), (true, Outcome::delivered()));
/// # }
/// ```
#[derive(Default)]
pub struct Trunk {
    out: Mutex<Option<mpsc::Sender<String>>>,
    asked: Mutex<HashMap<String, oneshot::Sender<Outcome>>>,
}

impl Trunk {
    /// Carries what is said until `reading` ends, then writes what was said before and ends. Whoever still waits for an answer hears that none
    /// will come.
    ///
    /// # Errors
    /// Those of `reading`, and of writing.
    pub async fn carry<W, E>(&self, mut write: W, reading: impl Future<Output = Result<(), E>>) -> Result<(), E>
    where
        W: AsyncWrite + Unpin,
        E: From<io::Error>,
    {
        let (out, mut said) = mpsc::channel::<String>(WAITING);
        *lock(&self.out) = Some(out);
        let _ends = Ends(self);
        let reading = async {
            reading.await?;
            // Nothing more is said; what waits is still written.
            lock(&self.out).take();
            Ok(())
        };
        let writing = async {
            while let Some(text) = said.recv().await {
                write.write_all(text.as_bytes()).await?;
            }
            Ok(write.flush().await?)
        };
        tokio::try_join!(reading, writing).map(drop)
    }

    /// Has something written, once what was said before is. `false` where there is no connection.
    pub async fn say(&self, text: String) -> bool {
        let out = lock(&self.out).clone();
        match out {
            Some(out) => text.is_empty() || out.send(text).await.is_ok(),
            None => false,
        }
    }

    /// Has a message written, and waits for the answer to it that [`Trunk::tell`] is given; no longer than `time`. A name is used once.
    pub async fn ask(&self, name: &str, message: String, time: Duration) -> Outcome {
        let deadline = Instant::now() + time;
        let (told, answer) = oneshot::channel();
        lock(&self.asked).insert(name.to_owned(), told);
        let _forgets = Asked { trunk: self, name };
        match timeout_at(deadline, self.say(message)).await {
            Ok(true) => {}
            _ => return Outcome::deferred("the network is away", false),
        }
        match timeout_at(deadline, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Outcome::deferred("the connection broke before the answer", true),
            Err(_) => Outcome::deferred("the network did not answer", true),
        }
    }

    /// The answer to the message of this name has come. `false` where nobody waits for it, any more or at all.
    pub fn tell(&self, name: &str, outcome: Outcome) -> bool {
        lock(&self.asked).remove(name).is_some_and(|told| told.send(outcome).is_ok())
    }
}

impl fmt::Debug for Trunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trunk").field("asked", &lock(&self.asked).len()).finish_non_exhaustive()
    }
}

/// Ends the connection, however its future ends.
struct Ends<'a>(&'a Trunk);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        lock(&self.0.out).take();
        lock(&self.0.asked).clear();
    }
}

/// Forgets what was asked with whoever waits for it.
struct Asked<'a> {
    trunk: &'a Trunk,
    name: &'a str,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        lock(&self.trunk.asked).remove(self.name);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn answers_find_who_waits_for_them() {
        let trunk = Trunk::default();
        let (mut far, near) = tokio::io::duplex(4);
        let network = async {
            let mut heard = [0; 8];
            far.read_exact(&mut heard).await?;
            assert_eq!(&heard, b"onetwo!!");
            assert!(trunk.tell("2", Outcome::failed("no")));
            assert!(trunk.tell("1", Outcome::delivered()));
            assert!(!trunk.tell("1", Outcome::delivered()), "nobody waits any more");
            tokio::time::sleep(2 * SECOND).await;
            assert!(!trunk.tell("3", Outcome::delivered()), "given up");
            // Said before the end, so it is written.
            assert!(trunk.say("bye".into()).await);
            Ok::<_, io::Error>(())
        };
        let deliveries = async {
            tokio::task::yield_now().await;
            let both = tokio::join!(trunk.ask("1", "one".into(), SECOND), trunk.ask("2", "two!!".into(), SECOND));
            assert_eq!(both, (Outcome::delivered(), Outcome::failed("no")));
            assert_eq!(
                trunk.ask("3", String::new(), SECOND).await,
                Outcome::deferred("the network did not answer", true)
            );
        };
        let (carried, ()) = tokio::join!(trunk.carry(near, network), deliveries);
        carried.unwrap();
        let mut rest = Vec::new();
        far.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"bye");
        assert!(!trunk.say("late".into()).await);
        assert!(lock(&trunk.asked).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_connection_is_told_to_whoever_waits() {
        let trunk = Trunk::default();
        let (_far, near) = tokio::io::duplex(100);
        let breaks = async {
            tokio::time::sleep(SECOND).await;
            Err(io::Error::from(io::ErrorKind::ConnectionReset))
        };
        let asks = async {
            tokio::task::yield_now().await;
            trunk.ask("1", "hello".into(), 10 * SECOND).await
        };
        let (carried, outcome) = tokio::join!(trunk.carry(near, breaks), asks);
        assert!(carried.is_err());
        assert_eq!(outcome, Outcome::deferred("the connection broke before the answer", true));
    }
}
