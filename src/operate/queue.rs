//! What an operator asks of the outgoing queue.

use crate::exit::{Failure, trying};
use mesyx_core::core::Core;
use mesyx_core::queue::operate::JobFilter;
use mesyx_core::store::JobChange;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A request about the queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do", deny_unknown_fields)]
pub(crate) enum QueueRequest {
    /// → list of `mesyx_core::queue::operate::JobStatus`
    List { filter: JobFilter, limit: usize },
    /// → `mesyx_core::queue::operate::QueueStatus`
    Status,
    /// → `mesyx_core::queue::operate::Changed`
    Retry { filter: JobFilter },
    /// → the same
    Hold { filter: JobFilter, notice: bool },
    /// → the same
    Release { filter: JobFilter },
    /// → the same
    Drop { filter: JobFilter, notice: bool },
}

/// Carries out a request.
pub(crate) async fn operate(core: &Core, request: QueueRequest) -> Result<Value, Failure> {
    match request {
        QueueRequest::List { filter, limit } => json(core.queue_list(&filter, limit).await?),
        QueueRequest::Status => json(core.queue_status().await?),
        QueueRequest::Retry { filter } => json(core.queue_change(&filter, JobChange::Retry, false).await?),
        QueueRequest::Hold { filter, notice } => json(core.queue_change(&filter, JobChange::Hold, notice).await?),
        QueueRequest::Release { filter } => json(core.queue_change(&filter, JobChange::Release, false).await?),
        QueueRequest::Drop { filter, notice } => json(core.queue_drop(&filter, notice).await?),
    }
}

fn json(value: impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(trying("the answer"))
}
