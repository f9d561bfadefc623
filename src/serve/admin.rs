//! The admin listener: `/health`, `/ready` and `/metrics` by HTTP, on loopback.

use super::instance::Instance;
use super::web::{self, Answer, Places, Times, reply};
use crate::exit::{Failure, trying};
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use mesyx_bridges::State;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::json;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Connections at once; a scraper needs one.
const MAX_CONNECTIONS: usize = 16;
/// A scraper may keep its connection for an hour, then makes a new one.
const TIMES: Times = Times { head: Duration::from_secs(10), life: Duration::from_secs(3600) };
/// How often samples of histograms are folded together.
const UPKEEP: Duration = Duration::from_secs(10);

/// Collects metrics from now on.
pub(crate) fn record() -> Result<PrometheusHandle, Failure> {
    PrometheusBuilder::new().install_recorder().map_err(trying("metrics"))
}

/// Serves until the tasks are aborted.
pub(crate) fn serve(
    listener: StdListener,
    instance: Arc<Instance>,
    metrics: PrometheusHandle,
) -> Result<Vec<JoinHandle<()>>, Failure> {
    let listener = TcpListener::from_std(listener).map_err(trying("the admin listener"))?;
    let rendered = metrics.clone();
    let upkeep = tokio::spawn(async move {
        let mut upkeep = tokio::time::interval(UPKEEP);
        loop {
            upkeep.tick().await;
            metrics.run_upkeep();
        }
    });
    let answer = move |request, _| {
        let (instance, metrics) = (Arc::clone(&instance), rendered.clone());
        async move { answer(request, &instance, &metrics).await }
    };
    let places = Places::new(MAX_CONNECTIONS, MAX_CONNECTIONS);
    let serving = tokio::spawn(web::serve(listener, "admin", places, None, || TIMES, answer));
    Ok(vec![upkeep, serving])
}

async fn answer(request: Request<Incoming>, instance: &Instance, metrics: &PrometheusHandle) -> Answer {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return reply(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET is answered here\n");
    }
    match request.uri().path() {
        "/health" => match instance.core().status().await {
            Ok(_) => report(instance, StatusCode::OK),
            Err(error) => reply(
                StatusCode::SERVICE_UNAVAILABLE,
                "application/json",
                json!({ "error": error.message() }).to_string(),
            ),
        },
        "/ready" => {
            let ready = instance.supervisor().status().iter().all(|bridge| bridge.state == State::Ready);
            report(instance, if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE })
        }
        "/metrics" => {
            gauges(instance).await;
            reply(StatusCode::OK, "text/plain; version=0.0.4", metrics.render())
        }
        _ => reply(StatusCode::NOT_FOUND, "text/plain", "here are /health, /ready and /metrics\n"),
    }
}

/// Whether each bridge does well, without anything that outsiders should not know.
fn report(instance: &Instance, status: StatusCode) -> Answer {
    let bridges: serde_json::Map<_, _> =
        instance.supervisor().status().into_iter().map(|bridge| (bridge.name, json!(bridge.state))).collect();
    reply(status, "application/json", json!({ "bridges": bridges }).to_string())
}

/// Numbers that are read when somebody looks.
#[allow(clippy::cast_precision_loss, reason = "a gauge is a float")]
async fn gauges(instance: &Instance) {
    if let Ok(core) = instance.core().status().await {
        metrics::gauge!("mesyx_users").set(core.users as f64);
        metrics::gauge!("mesyx_messages").set(core.messages as f64);
        metrics::gauge!("mesyx_message_bytes").set(core.bytes as f64);
        metrics::gauge!("mesyx_budget_available_bytes").set(core.budget_available as f64);
        metrics::gauge!("mesyx_users_unlocked").set(core.unlocked.len() as f64);
    }
    if let Ok(queue) = instance.core().queue_status().await {
        let states =
            [("all", queue.jobs), ("deferred", queue.deferred), ("held", queue.held), ("needs-key", queue.needs_key)];
        for (state, count) in states {
            metrics::gauge!("mesyx_queue_jobs", "state" => state).set(count as f64);
        }
        metrics::gauge!("mesyx_queue_running").set(queue.running as f64);
        metrics::gauge!("mesyx_queue_oldest_seconds").set(queue.oldest_seconds.unwrap_or(0) as f64);
    }
    for bridge in instance.supervisor().status() {
        let ready = u8::from(bridge.state == State::Ready);
        metrics::gauge!("mesyx_bridge_ready", "bridge" => bridge.name.clone()).set(f64::from(ready));
        metrics::counter!("mesyx_bridge_restarts_total", "bridge" => bridge.name).absolute(bridge.restarts);
    }
}
