//! The addresses that the host has just said are its own.
//!
//! Mail comes in bursts to the same people: each message would ask about them again. Only what is sure to be taken is remembered, for a
//! moment: a name that was made meanwhile is never refused for it. One that went away is refused by [`crate::Host::accept`], as it is
//! where it goes between the question and the message.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long an answer stands.
const FRESH: Duration = Duration::from_secs(1);
/// Most addresses that are remembered.
const MOST: usize = 10_000;

/// What was answered lately.
#[derive(Default)]
pub(super) struct Known(Mutex<HashMap<String, Instant>>);

impl Known {
    /// Whether the host said within the last second that it takes messages for this address, from anybody.
    pub(super) fn is_local(&self, address: &str) -> bool {
        self.known().get(address).is_some_and(|since| since.elapsed() < FRESH)
    }

    /// The host says that it takes messages for this address, from anybody.
    pub(super) fn note(&self, address: String) {
        let mut known = self.known();
        // All at once: looking for old ones would cost each further address a walk through all.
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(address, Instant::now());
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_stand_for_a_moment() {
        let known = Known::default();
        known.note("a@b.example".to_owned());
        tokio::time::advance(FRESH / 2).await;
        assert!(known.is_local("a@b.example") && !known.is_local("b@b.example"));
        tokio::time::advance(FRESH / 2).await;
        assert!(!known.is_local("a@b.example"));
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_are_remembered() {
        let known = Known::default();
        for number in 0..2 * MOST {
            known.note(number.to_string());
        }
        assert_eq!(known.known().len(), MOST);
        known.note("a@b.example".to_owned());
        assert!(known.known().len() == 1 && known.is_local("a@b.example"));
    }
}
