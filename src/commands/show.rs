//! Answers for people.

use super::{parse, print_json};
use crate::exit::Failure;
use crate::serve::status::Status;
use mesyx_bridges::State;
use mesyx_core::trace::TraceLine;
use serde_json::Value;

pub(super) fn status(value: &Value, json: bool) -> Result<(), Failure> {
    if json {
        return print_json(value);
    }
    let status: Status = parse(value.clone())?;
    say!("mesyx {} on {}, process {}, since {}", status.version, status.hostname, status.pid, status.since);
    say!("instance {}, runs: {}", status.core.instance, status.modes.join(", "));
    let core = &status.core;
    say!("{} users, {} messages, {} sealed bytes", core.users, core.messages, core.bytes);
    say!("messages in flight: {} of {} bytes free", core.budget_available, core.budget_total);
    super::queue::status(&status.queue);
    say!("bridges:");
    for bridge in &status.bridges {
        let state = match &bridge.state {
            State::Starting => "starting".to_owned(),
            State::Ready => "ready".to_owned(),
            State::Degraded { why } => format!("degraded: {why}"),
            State::Failed { why, pause } => format!("failed: {why} (tried again after {pause} s)"),
            State::Broken { why, pause } => format!("broken: {why} (tried again after {pause} s)"),
            State::Stopped => "stopped".to_owned(),
        };
        let listening: Vec<_> = bridge.listening.iter().map(|(name, at)| format!("{name} {at}")).collect();
        say!("  {} {} ({}): {state}; {}", bridge.name, bridge.version, bridge.run, listening.join(", "));
    }
    for names in &status.certificates {
        say!("certificate for {}", names.join(", "));
    }
    if let Some(admin) = &status.admin {
        say!("admin listener: http://{admin}");
    }
    match &status.memory.why {
        None => say!("memory: locked, never swapped or dumped"),
        Some(why) => say!("memory: never dumped, but not locked: {why}"),
    }
    for http in &status.http {
        say!("pages for others: {http}");
    }
    say!("secrets held here:");
    for secret in &status.secrets {
        say!("  {secret}");
    }
    for user in &core.unlocked {
        say!("unlocked: {} since {}", user.user, user.since);
        for session in &user.sessions {
            say!("  {} from {} by {} since {}", session.protocol, session.ip, session.credential, session.since);
        }
    }
    for unlocked in &core.unlocked_keysets {
        say!(
            "unlocked for a while: keyset {} of {} in {} until {}",
            unlocked.keyset,
            unlocked.user,
            unlocked.mailbox,
            unlocked.until
        );
    }
    for reseal in &core.reseals {
        let state = match (&reseal.error, reseal.finished) {
            (Some(error), _) => format!("ended early: {error}"),
            (None, true) => "done".to_owned(),
            (None, false) => "going on".to_owned(),
        };
        let (user, from, to) = (&reseal.user, &reseal.from, &reseal.to);
        say!("sealing anew: {user}, {from} to {to}: {} done, {} remain; {state}", reseal.done, reseal.remaining);
    }
    for problem in &core.problems {
        say!("problem: {problem}");
    }
    Ok(())
}

pub(super) fn trace(value: &Value, json: bool) -> Result<(), Failure> {
    if json {
        return print_json(value);
    }
    let lines: Vec<TraceLine> = parse(value.clone())?;
    if lines.is_empty() {
        say!("Nothing is remembered of that address.");
    }
    for line in lines {
        say!("{}  {}  {}  {}", line.time, line.side, line.message.as_deref().unwrap_or("-"), line.what);
    }
    Ok(())
}
