//! What the core's queue brings messages out with: the bridges.

use async_trait::async_trait;
use mesyx_bridges::Supervisor;
use mesyx_core::queue::Deliverer;
use mesyx_sdk::{AddressKind, Delivery, Outcome};
use std::sync::Arc;

/// The bridges, as the queue sees them.
pub(crate) struct Outbound(pub(crate) Arc<Supervisor>);

#[async_trait]
impl Deliverer for Outbound {
    fn route(&self, kind: AddressKind) -> Option<String> {
        self.0.route(kind)
    }

    async fn deliver(&self, bridge: &str, job: Delivery) -> Vec<Outcome> {
        self.0.deliver(bridge, job).await
    }
}
