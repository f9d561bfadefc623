//! What came from a network goes to the host, in order: lines to be stored, several at once where several wait, and news between them.

use mesyx_sdk::{ByteBudget, Envelope, Host, Reservation, Signal};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Most items that wait; then nothing more is read from the network.
pub(crate) const WAITING: usize = 1024;
/// Most lines of one batch.
const BATCH: usize = 256;
/// How often a batch that the host can't take now is brought again: 10 minutes in all. The network does not keep it for us.
const TRIES: u32 = 24;

/// One thing for the host.
pub(crate) enum Item {
    Line(Box<Envelope>),
    News(Box<Signal>),
}

/// Brings items to the host until there are no more.
pub(crate) async fn bring(host: Arc<dyn Host>, mut items: mpsc::Receiver<Item>) {
    let mut waiting = Vec::with_capacity(BATCH);
    while items.recv_many(&mut waiting, BATCH).await > 0 {
        let mut lines = Vec::new();
        for item in waiting.drain(..) {
            match item {
                Item::Line(envelope) => lines.push(*envelope),
                // What happened after a line is told after the line is there.
                Item::News(signal) => {
                    accept(&*host, std::mem::take(&mut lines)).await;
                    host.signal(*signal);
                }
            }
        }
        accept(&*host, lines).await;
    }
}

/// How many of the lines the byte budget has room for now, and that room.
fn room(budget: &ByteBudget, lines: &[Envelope]) -> (usize, Option<Reservation>) {
    let mut fits = lines.len();
    while fits > 0 {
        let bytes = lines[..fits].iter().map(|line| line.content.len()).sum();
        if let Some(room) = budget.reserve(bytes) {
            return (fits, Some(room));
        }
        fits /= 2;
    }
    (0, None)
}

/// Brings lines, again and again those for which there is no room yet: nobody on IRC would send them again.
async fn accept(host: &dyn Host, mut lines: Vec<Envelope>) {
    for attempt in 0..TRIES {
        if lines.is_empty() {
            return;
        }
        let (fits, _room) = room(host.budget(), &lines);
        let later = lines.split_off(fits);
        let answers = if lines.is_empty() { Vec::new() } else { host.accept(lines.clone()).await };
        let mut left = Vec::new();
        for (envelope, answer) in lines.into_iter().zip(answers) {
            match answer {
                Ok(_) => metrics::counter!("mesyx_irc_lines_taken_total").increment(1),
                Err(error) if error.kind().is_temporary() => left.push(envelope),
                Err(error) => {
                    tracing::error!(%error, network = envelope.origin.network, "a line from IRC was refused and is lost")
                }
            }
        }
        left.extend(later);
        lines = left;
        if !lines.is_empty() {
            tokio::time::sleep(Duration::from_secs(1 << attempt.min(5))).await;
        }
    }
    if !lines.is_empty() {
        tracing::error!(lines = lines.len(), "lines from IRC could not be stored for ten minutes and are lost");
    }
}
