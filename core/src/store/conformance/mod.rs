//! What any backend must do. A backend's own tests run [`run`] with a way to open it.
//!
//! Each check makes a user of its own in a fresh store, so that none depends on another.

// A check that fails panics: that is what it is for.
#![allow(clippy::expect_used, clippy::panic)]

mod basics;
mod content;
mod fixture;
mod mailboxes;
mod merging;
mod messages;
mod queue;
mod records;

use super::Store;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

pub use fixture::{Fixture, TestInstance, message, session_key};

/// Opens the store in a directory as the given instance; the same directory again is the same store again.
pub type Open = Arc<dyn Fn(&Path, TestInstance) -> Arc<dyn Store> + Send + Sync>;

/// One check.
type Check = fn(Fixture) -> Pin<Box<dyn Future<Output = ()> + Send>>;

macro_rules! checks {
    ($($module:ident: $($name:ident)*;)*) => {
        /// Every check with its name.
        const CHECKS: &[(&str, Check)] = &[$($((stringify!($name), |fixture| Box::pin($module::$name(fixture)))),*),*];
    };
}

checks! {
    basics: users_and_secrets key_changes values slots_used names_are_unique removed_users_leave_nothing close totals events;
    mailboxes: standard_mailboxes create_and_delete rename_with_children rename_inbox subscriptions uid_validity_is_new;
    messages: append_and_read uids_grow flags flags_unchanged_since expunge copy_and_move changes recent other_users_see_nothing
        whole_or_nothing dedup side_by_side;
    content: large_bodies shared_content erased_content session_keys attestations restart backup bodies_stop_early;
    records: put_list_remove write_once oldest_make_room records_merge log_forgets records_of_removed_users;
    queue: submit_and_finish content_goes_with_the_last_job submissions_are_whole_or_nothing jobs_wait_and_are_held
        jobs_outlast_a_restart jobs_go_with_their_user jobs_are_limited jobs_merge jobs_are_backed_up;
    merging: two_instances merged_twice early_operations deleted_mailbox_gives_to_inbox same_name_twice impossible_stamps;
}

/// Runs every check, each on a store of its own below `directory`.
///
/// # Panics
/// When the backend fails one: the check's name is printed before.
pub async fn run(directory: &Path, open: Open) {
    for (name, check) in CHECKS {
        println!("conformance: {name}");
        let place: PathBuf = directory.join(name);
        check(Fixture::new(place, open.clone()).await).await;
    }
}
