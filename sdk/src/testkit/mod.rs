//! The test kit: every MUST of the contract, run against any bridge.
//!
//! You write a [`Network`]: the other side of your bridge, as small as a test needs it (a client that sends a
//! message and reads the answer, a server that takes messages). [`check`] then runs the bridge with a
//! [`MemoryHost`](crate::MemoryHost) between the two and looks at both ends:
//!
//! ```text
//!   kit --Network::send--> bridge --accept--> MemoryHost (holds, fails, counts)
//!   kit --Bridge::deliver--> bridge --> Network::arrived (refuses, stays silent, hangs up)
//! ```
//!
//! ```no_run
//! # use mesyx_sdk::testkit::{self, Network};
//! # fn example<MyBridge: mesyx_sdk::Bridge>(my_network: impl Network) {
//! // In a #[test], not a #[tokio::test]: the kit has runtimes of its own, to see what a bridge leaves behind.
//! testkit::check::<MyBridge>(&my_network).assert();
//! # }
//! ```
//!
//! What is checked, and what each sentence means, is the list of [`Must`].

mod incoming;
mod life;
mod network;
mod outgoing;
mod report;
mod stage;
mod still;

pub use network::{Acknowledges, Fate, Incoming, Manner, Network, Reply, WrongConfig};
pub use report::{Must, Report, Verdict};

use crate::{Bridge, Config, ConfigErrors, Manifest};
use std::sync::Arc;
use std::time::Duration;

/// Long enough for a slow machine; passed only where something hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long something is watched that must not happen.
const WATCHED: Duration = Duration::from_millis(300);

/// The bridge under test, without its type.
pub(crate) struct Subject {
    manifest: fn() -> Manifest,
    build: fn(Config) -> Result<Arc<dyn Bridge>, ConfigErrors>,
}

/// Runs every MUST of the contract against the bridge `B` on this network.
///
/// Takes some seconds: some sentences are about waiting. Call it outside of any tokio runtime.
///
/// # Panics
/// Where no tokio runtime can be made, or inside of one.
#[must_use]
pub fn check<B: Bridge>(network: &dyn Network) -> Report {
    check_with(B::manifest, |config| Ok(Arc::new(B::build(config)?)), network)
}

/// The same for a bridge that is made in another way: one that stands for a process, for instance.
///
/// # Panics
/// As [`check`].
#[must_use]
#[allow(clippy::expect_used, reason = "a test ends by panicking")]
pub fn check_with(
    manifest: fn() -> Manifest,
    build: fn(Config) -> Result<Arc<dyn Bridge>, ConfigErrors>,
    network: &dyn Network,
) -> Report {
    let subject = Subject { manifest, build };
    let mut report = Report::new(network.exempt());
    still::check(&subject, network, &mut report);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a tokio runtime").block_on(async {
        life::check(&subject, network, &mut report).await;
        if report.broken().any(|must| must == Must::EndsInTime) {
            // Each further look would wait as long for its end.
            return;
        }
        incoming::check(&subject, network, &mut report).await;
        outgoing::check(&subject, network, &mut report).await;
    });
    report
}
