//! The admin listener: `/health`, `/ready` and `/metrics` by HTTP, on loopback.

use super::instance::Instance;
use crate::exit::{Failure, trying};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use mesyx_bridges::State;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::json;
use std::convert::Infallible;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Connections at once; a scraper needs one.
const MAX_CONNECTIONS: usize = 16;
/// How long a client may take to send its request's head.
const HEAD: Duration = Duration::from_secs(10);
/// How often samples of histograms are folded together.
const UPKEEP: Duration = Duration::from_secs(10);

/// Collects metrics from now on.
pub(crate) fn record() -> Result<PrometheusHandle, Failure> {
    PrometheusBuilder::new().install_recorder().map_err(trying("metrics"))
}

/// Serves until the task is aborted.
pub(crate) fn serve(
    listener: StdListener,
    instance: Arc<Instance>,
    metrics: PrometheusHandle,
) -> Result<JoinHandle<()>, Failure> {
    let listener = TcpListener::from_std(listener).map_err(trying("the admin listener"))?;
    Ok(tokio::spawn(async move {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut upkeep = tokio::time::interval(UPKEEP);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = upkeep.tick() => {
                    metrics.run_upkeep();
                    continue;
                }
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            // Over the limit: closed at once, so that a client sees it.
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let (instance, metrics) = (Arc::clone(&instance), metrics.clone());
            tokio::spawn(async move {
                let answer = service_fn(|request| answer(request, &instance, &metrics));
                let mut http = hyper::server::conn::http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(16 << 10);
                if let Err(error) = http.serve_connection(TokioIo::new(stream), answer).await {
                    tracing::debug!(%error, "an admin connection failed");
                }
                drop(place);
            });
        }
    }))
}

async fn answer(
    request: Request<Incoming>,
    instance: &Instance,
    metrics: &PrometheusHandle,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(reply(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET is answered here\n".into()));
    }
    Ok(match request.uri().path() {
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
        _ => reply(StatusCode::NOT_FOUND, "text/plain", "here are /health, /ready and /metrics\n".into()),
    })
}

/// Whether each bridge does well, without anything that outsiders should not know.
fn report(instance: &Instance, status: StatusCode) -> Response<Full<Bytes>> {
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

fn reply(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
