//! What is counted, for the metrics of the program.

use metrics::{Counter, Gauge, counter, gauge};

/// Counters of one bridge; the label `bridge` tells the two apart.
#[derive(Debug)]
pub(crate) struct Meters {
    bridge: &'static str,
    /// Connections taken.
    pub(crate) connections: Counter,
    /// Connections that are open.
    pub(crate) open: Gauge,
    /// Connections refused because there were too many.
    pub(crate) crowded: Counter,
    /// Messages taken.
    pub(crate) messages: Counter,
    /// Bytes of messages taken.
    pub(crate) bytes: Counter,
}

impl Meters {
    pub(crate) fn new(bridge: &'static str) -> Self {
        Self {
            bridge,
            connections: counter!("mesyx_smtp_connections_total", "bridge" => bridge),
            open: gauge!("mesyx_smtp_connections", "bridge" => bridge),
            crowded: counter!("mesyx_smtp_connections_refused_total", "bridge" => bridge),
            messages: counter!("mesyx_smtp_messages_total", "bridge" => bridge),
            bytes: counter!("mesyx_smtp_message_bytes_total", "bridge" => bridge),
        }
    }

    /// A message was checked with these results, as `method=result`.
    pub(crate) fn verified(&self, checks: &[String]) {
        for (method, result) in checks.iter().filter_map(|check| check.split_once('=')) {
            let (method, result) = (method.to_owned(), result.to_owned());
            counter!("mesyx_smtp_checks_total", "bridge" => self.bridge, "method" => method, "result" => result)
                .increment(1);
        }
    }

    /// A refusal with this code was said.
    pub(crate) fn refused(&self, code: u16) {
        counter!("mesyx_smtp_refusals_total", "bridge" => self.bridge, "code" => code.to_string()).increment(1);
    }
}
