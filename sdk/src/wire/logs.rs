//! What a bridge logs by `tracing`, brought to the host's log: for bridges whose own output nobody reads.
//!
//! A library has a `tracing` of its own, which knows nothing of the host's; a program may have set up none. [`install`] gives such a
//! one a subscriber that keeps lines until the present life takes them ([`Lines::begin`]). It never waits: what comes too fast is left
//! out, and the next line says how many were.

use super::client::Connection;
use super::v1;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, set_global_default};
use tracing::{Event, Level, Metadata, Subscriber};

/// Lines that may wait.
const WAITING: usize = 1024;
/// Most lines in one call.
const BATCH: usize = 64;
/// Longest line that is brought whole, in bytes.
const LONGEST: usize = 4096;
/// How long the last lines of a life may take.
const LAST: Duration = Duration::from_secs(1);
/// What carries the lines themselves, and would say something of each.
const CARRIERS: [&str; 5] = ["h2", "hyper", "hyper_util", "tonic", "tower"];

/// Where lines go now.
static SINK: Mutex<Option<mpsc::Sender<v1::LogLine>>> = Mutex::new(None);
/// What is brought: 0 nothing, 1 errors, to 5 everything.
static LEVEL: AtomicU8 = AtomicU8::new(0);
/// Lines that were left out since the last that was not.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Has this process' (or this library's) log brought to the host, unless something else takes it already.
pub(super) fn install() {
    // It fails where the program has a subscriber of its own, which then is what was wanted.
    let _ = set_global_default(Relay);
}

/// The number of a level, as [`LEVEL`] has it.
fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// The number of what the host's log takes at most.
#[cfg(feature = "wire-host")]
pub(super) fn taken() -> v1::LogLevel {
    match LevelFilter::current().into_level().map(number) {
        None => v1::LogLevel::Off,
        Some(number) => v1::LogLevel::try_from(i32::from(number)).unwrap_or(v1::LogLevel::Info),
    }
}

struct Relay;

impl Subscriber for Relay {
    // The level changes from life to life, so no place in the code is asked once only.
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        None
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && number(*metadata.level()) <= LEVEL.load(Ordering::Relaxed)
            && !CARRIERS.contains(&metadata.target().split("::").next().unwrap_or_default())
    }

    fn event(&self, event: &Event<'_>) {
        let Some(sink) = SINK.lock().unwrap_or_else(PoisonError::into_inner).clone() else { return };
        let mut text = Text::default();
        event.record(&mut text);
        let dropped = DROPPED.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            // Writing to a string can't fail.
            let _ = write!(text.rest, " ({dropped} lines before this one were left out)");
        }
        let metadata = event.metadata();
        let line = v1::LogLine {
            level: i32::from(number(*metadata.level())),
            target: metadata.target().to_owned(),
            text: text.whole(),
        };
        if sink.try_send(line).is_err() {
            DROPPED.fetch_add(dropped + 1, Ordering::Relaxed);
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// An event as one line: its message, then its other fields.
#[derive(Default)]
struct Text {
    message: String,
    rest: String,
}

impl Text {
    fn whole(mut self) -> String {
        self.message.push_str(&self.rest);
        self.message.truncate(self.message.floor_char_boundary(LONGEST));
        self.message
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string can't fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.rest, " {name}={value:?}"),
        };
    }
}

/// The lines of one life on their way to the host.
pub(super) struct Lines(JoinHandle<()>);

impl Lines {
    /// From now on lines up to this level go to this host.
    pub(super) fn begin(connection: &Connection, level: i32) -> Self {
        let (sink, mut lines) = mpsc::channel(WAITING);
        *SINK.lock().unwrap_or_else(PoisonError::into_inner) = Some(sink);
        let wanted = match v1::LogLevel::try_from(level) {
            Ok(v1::LogLevel::Unspecified) | Err(_) => v1::LogLevel::Info,
            Ok(v1::LogLevel::Off) => v1::LogLevel::Unspecified,
            Ok(level) => level,
        };
        LEVEL.store(u8::try_from(wanted as i32).unwrap_or_default(), Ordering::Relaxed);
        let mut life = connection.life();
        Self(tokio::spawn(async move {
            let mut batch = Vec::new();
            while lines.recv_many(&mut batch, BATCH).await > 0 {
                let request = v1::LogRequest { lines: std::mem::take(&mut batch) };
                if life.log(super::drive::timed(request)).await.is_err() {
                    // An older host has no such call, and one that is gone needs none.
                    return;
                }
            }
        }))
    }

    /// The life is over: what it said last is worth a moment.
    pub(super) async fn end(mut self) {
        LEVEL.store(0, Ordering::Relaxed);
        *SINK.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let _ = tokio::time::timeout(LAST, &mut self.0).await;
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.0.abort();
    }
}
