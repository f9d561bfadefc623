//! CHATHISTORY, MARKREAD, and what a client is told of what it missed.

use super::ask::{Ask, Asks, Given, Outcome};
use super::commands::Command;
use super::message::Target;
use super::msg::{read_stamp, stamp};
use super::names::fold;
use super::{ClientId, Server, caps};
use mesyx_sdk::{Anchor, ChatLine, Conversation, ConversationInfo, ErrorKind, History, MessageId, Verb};
use std::sync::Arc;

/// Most lines of one answer.
pub(super) const MOST_LINES: usize = 1000;
/// Most markers of one guest.
const MOST_MARKERS: usize = 100;

fn anchor(text: &str) -> Option<Anchor> {
    match text.split_once('=')? {
        ("timestamp", at) => read_stamp(at).map(Anchor::Time),
        // An id that none of ours can be is one that is not there.
        ("msgid", id) if !id.is_empty() => Some(Anchor::Message(id.parse().unwrap_or(MessageId([0; 16])))),
        _ => None,
    }
}

/// Whether a place is written in a way that is offered (`MSGREFTYPES`), well or not.
fn known_type(text: &str) -> bool {
    text.split_once('=').is_some_and(|(kind, _)| matches!(kind, "timestamp" | "msgid"))
}

impl Server {
    /// The stored conversation that a target names; `Some(None)` where it is one of which nothing is stored.
    fn stored(&self, id: ClientId, target: &str) -> Option<Option<Conversation>> {
        match self.target(id, target) {
            Target::Stored(conversation) => Some(Some(conversation)),
            Target::Channel(key, None) => {
                let (pid, person) = self.person_of(id)?;
                let channel = self.channels.get(&key)?;
                channel.standing(pid)?;
                let kept = person.account.is_some() && channel.group.is_some();
                Some(self.local_address(&key).filter(|_| kept).map(Conversation::Group))
            }
            Target::Person(_) => Some(None),
            _ => None,
        }
    }

    pub(super) fn chathistory(&mut self, id: ClientId, command: &Command) -> Asks {
        let sub = command.get(0).unwrap_or_default().to_ascii_uppercase();
        let wants = match sub.as_str() {
            "LATEST" | "BEFORE" | "AFTER" | "AROUND" | "TARGETS" => 4,
            "BETWEEN" => 5,
            _ => {
                let context: &[&str] = if sub.is_empty() { &[] } else { &[&sub] };
                let code = if sub.is_empty() { "NEED_MORE_PARAMS" } else { "UNKNOWN_COMMAND" };
                self.fail(id, "CHATHISTORY", code, context, "Unknown or missing subcommand");
                return Vec::new();
            }
        };
        if command.params.len() < wants {
            self.fail(id, "CHATHISTORY", "NEED_MORE_PARAMS", &[&sub], "Missing parameters");
            return Vec::new();
        }
        let param = |at: usize| command.params.get(at).map(String::as_str).unwrap_or_default();
        let Ok(limit) = param(wants - 1).parse::<usize>() else {
            self.fail(id, "CHATHISTORY", "INVALID_PARAMS", &[&sub, param(wants - 1)], "The limit is no number");
            return Vec::new();
        };
        let limit = if limit == 0 { MOST_LINES } else { limit.min(MOST_LINES) };
        let bad = |server: &mut Self, text: &str| {
            let code = if known_type(text) { "INVALID_PARAMS" } else { "INVALID_MSGREFTYPE" };
            server.fail(id, "CHATHISTORY", code, &[&sub, text], "That is neither timestamp=… nor msgid=…");
            Vec::new()
        };
        if sub == "TARGETS" {
            let (Some(Anchor::Time(from)), Some(Anchor::Time(to))) = (anchor(param(1)), anchor(param(2))) else {
                return bad(self, if anchor(param(1)).is_some() { param(2) } else { param(1) });
            };
            if self.clients.get(&id).is_none_or(|client| client.user.is_none()) {
                self.targets_given(id, Ok(Given::Targets(Vec::new())));
                return Vec::new();
            }
            return vec![Ask::Targets { from, to, limit }];
        }
        let target = param(1).to_owned();
        let wanted = match (sub.as_str(), anchor(param(2))) {
            ("LATEST", None) if param(2) == "*" => History::Latest(None),
            ("LATEST", Some(from)) => History::Latest(Some(from)),
            ("BEFORE", Some(from)) => History::Before(from),
            ("AFTER", Some(from)) => History::After(from),
            ("AROUND", Some(from)) => History::Around(from),
            ("BETWEEN", Some(from)) => match anchor(param(3)) {
                Some(to) => History::Between(from, to),
                None => return bad(self, param(3)),
            },
            _ => return bad(self, param(2)),
        };
        match self.stored(id, &target) {
            Some(Some(conversation)) => {
                let events = self.caps(id).has(caps::EVENT_PLAYBACK);
                vec![Ask::History { conversation, target, sub, wanted, limit, events }]
            }
            Some(None) => {
                self.show_lines(id, &target, None, &[]);
                Vec::new()
            }
            None => {
                self.fail(id, "CHATHISTORY", "INVALID_TARGET", &[&sub, &target], "Messages could not be retrieved");
                Vec::new()
            }
        }
    }

    pub(super) fn history_given(&mut self, id: ClientId, target: &str, sub: &str, outcome: Outcome) {
        match outcome {
            Ok(Given::Lines(lines)) => {
                if let Some(Some(conversation)) = self.stored(id, target) {
                    self.show_lines(id, target, Some(&conversation), &lines);
                }
            }
            Ok(_) => {}
            // A place that is not there, or a conversation in which nothing was said.
            Err(error) if error.kind() == ErrorKind::NotFound => self.show_lines(id, target, None, &[]),
            Err(error) => {
                let text = format!("Messages could not be retrieved: {}", error.message());
                self.fail(id, "CHATHISTORY", "MESSAGE_ERROR", &[sub, target], &text);
            }
        }
    }

    /// Lines in a batch of the type `chathistory`.
    fn show_lines(&mut self, id: ClientId, target: &str, conversation: Option<&Conversation>, lines: &[Arc<ChatLine>]) {
        let batch = self.batch_name();
        let batched = self.caps(id).has(caps::BATCH);
        if batched {
            let open = self.own_msg("BATCH").arg(format!("+{batch}")).arg("chathistory").arg(target);
            self.send(id, open);
        }
        if let Some(conversation) = conversation {
            self.play(id, conversation, lines, batched.then_some(batch.as_str()));
        }
        if batched {
            let close = self.own_msg("BATCH").arg(format!("-{batch}"));
            self.send(id, close);
        }
    }

    fn play(&mut self, id: ClientId, conversation: &Conversation, lines: &[Arc<ChatLine>], batch: Option<&str>) {
        let caps = self.caps(id);
        for line in lines {
            let spoken = matches!(line.line.verb, Verb::Say | Verb::Notice | Verb::Action);
            if !spoken && !caps.has(caps::EVENT_PLAYBACK) {
                continue;
            }
            for mut msg in self.lines_of(id, conversation, line) {
                // The lines of a message of several are in a batch of their own, which is in this one.
                if msg.batch.is_none() {
                    msg.batch = batch.map(str::to_owned);
                }
                if !caps.has(caps::SERVER_TIME)
                    && spoken
                    && let Some(text) = msg.params.last_mut().filter(|text| !text.starts_with('\x01'))
                {
                    // Who is told no times would take old lines for new ones.
                    let time = stamp(line.at);
                    *text = format!("[{} {}] {text}", &time[..10], &time[11..16]);
                }
                self.send(id, msg);
            }
        }
    }

    pub(super) fn targets_given(&mut self, id: ClientId, outcome: Outcome) {
        let targets = match outcome {
            Ok(Given::Targets(targets)) => targets,
            Ok(_) => return,
            Err(error) => {
                let text = format!("Targets could not be retrieved: {}", error.message());
                return self.fail(id, "CHATHISTORY", "MESSAGE_ERROR", &["TARGETS"], &text);
            }
        };
        let batch = self.batch_name();
        let batched = self.caps(id).has(caps::BATCH);
        if batched {
            let open = self.own_msg("BATCH").arg(format!("+{batch}")).arg("draft/chathistory-targets");
            self.send(id, open);
        }
        for (conversation, at) in targets {
            let Some(name) = self.conversation_name(id, &conversation) else { continue };
            let mut msg = self.own_msg("CHATHISTORY").arg("TARGETS").arg(name).arg(stamp(at));
            msg.batch = batched.then(|| batch.clone());
            self.send(id, msg);
        }
        if batched {
            let close = self.own_msg("BATCH").arg(format!("-{batch}"));
            self.send(id, close);
        }
    }

    pub(super) fn playback_given(&mut self, id: ClientId, outcome: Outcome) {
        let Ok(Given::Playback(all)) = outcome else { return };
        for (ConversationInfo { conversation, .. }, lines) in all {
            if lines.is_empty() {
                continue;
            }
            let Some(name) = self.conversation_name(id, &conversation) else { continue };
            self.show_lines(id, &name, Some(&conversation), &lines);
        }
    }

    pub(super) fn markread(&mut self, id: ClientId, command: &Command) -> Asks {
        let Some(target) = command.get(0).map(str::to_owned) else {
            self.fail(id, "MARKREAD", "NEED_MORE_PARAMS", &[], "Missing parameters");
            return Vec::new();
        };
        let set = match command.get(1) {
            None => None,
            Some(text) => match text.strip_prefix("timestamp=").and_then(read_stamp) {
                Some(at) => Some(at),
                None => {
                    self.fail(id, "MARKREAD", "INVALID_PARAMS", &[&target], "The marker is timestamp=…");
                    return Vec::new();
                }
            },
        };
        // Nothing is read that was not said yet.
        let set = set.map(|at| at.min(self.now));
        match self.stored(id, &target) {
            Some(Some(conversation)) => vec![Ask::Marker { conversation, target, set, joined: false }],
            Some(None) => {
                let key = fold(&target);
                let Some(person) = self.clients.get(&id).and_then(|client| client.person) else { return Vec::new() };
                let Some(person) = self.people.get_mut(&person) else { return Vec::new() };
                if person.markers.len() >= MOST_MARKERS {
                    person.markers.clear();
                }
                let read = set.max(person.markers.get(&key).copied());
                person.markers.extend(read.map(|at| (key, at)));
                self.tell_marker(id, &target, read);
                Vec::new()
            }
            None => {
                self.fail(id, "MARKREAD", "INVALID_PARAMS", &[&target], "There is no such conversation");
                Vec::new()
            }
        }
    }

    /// How far a conversation was read: to who asked; all clients of the user, where it was set.
    pub(super) fn marker_given(&mut self, id: ClientId, target: &str, set: bool, joined: bool, outcome: Outcome) {
        match outcome {
            Ok(Given::Marker(at)) => {
                self.tell_marker(id, target, at);
                if let Some((pid, _)) = self.person_of(id).filter(|_| set) {
                    let bound = self.clients.get(&id).and_then(|client| client.network.clone());
                    for other in self.clients_of(pid).into_iter().filter(|other| *other != id) {
                        // Another network has other names.
                        if self.clients.get(&other).is_some_and(|client| client.network == bound) {
                            self.move_marker(other, target, at);
                        }
                    }
                }
            }
            Ok(_) => {}
            Err(error) if joined || error.kind() == ErrorKind::NotFound => self.tell_marker(id, target, None),
            Err(error) => {
                self.fail(id, "MARKREAD", "INTERNAL_ERROR", &[target], error.message());
            }
        }
        if joined {
            self.show_channel(id, &fold(target));
        }
    }
}
