//! The lifecycle of keysets and identities: what operators and unlocked sessions do with them over the years.
//!
//! ```text
//!   policy --> due spans --(unlocked session: wrapping key)--> new keyset + wrapped secret key, one write
//!                        \-(nobody unlocked, or certificates made elsewhere)--> warning, 14 days ahead
//!   timeline: which keyset a message of any coming moment would be sealed to --> plan, warnings
//!   usage (indexes alone) --> list, audit, "may this secret key go?"
//! ```
//!
//! What must hold:
//! - a change is one write: no keyset without its secret key, no identity without its own;
//! - a secret key is never thrown away while messages are sealed to it;
//! - however many sessions or commands make the keyset of a span, it is made once;
//! - the clock is an argument.

mod audit;
mod certificate;
mod identity;
mod manage;
mod plan;
mod policy;
mod report;
mod rotate;
mod timeline;
mod warn;

pub use certificate::{KeyFile, read_public, read_secret};
pub use manage::{CertificateChange, KeysetChange, KeysetSource, NewKeyset};
pub use policy::{RotationPolicy, RotationRule};
pub use report::{
    AuditLine, CertificateInfo, Counted, EarlierIdentity, IdentityInfo, KeyWarning, KeysetInfo, PlannedWeek, Removed,
    RotationInfo, WarningKind,
};
pub(crate) use rotate::first_keysets;
pub(crate) use warn::Warnings;

use crate::core::Shared;
use mesyx_sdk::Timestamp;
use std::sync::Weak;
use std::time::Duration;

/// How often rotations and warnings are looked at without any cause.
const EVERY: Duration = Duration::from_secs(3600);

/// Looks after keysets as long as the core is open: at once, every hour, and soon after users or keysets changed.
pub(crate) async fn look_after(shared: Weak<Shared>) {
    loop {
        let Some(strong) = shared.upgrade() else { return };
        let changed = strong.warnings.changed();
        strong.look_after_keysets(Timestamp::now()).await;
        drop(strong);
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = changed.notified() => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

#[cfg(test)]
mod tests;
