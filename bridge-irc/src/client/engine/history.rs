//! CHATHISTORY, MARKREAD, and what a client is told of what it missed.

use super::ask::{Ask, Asks, Given, Outcome};
use super::commands::Command;
use super::message::Target;
use super::msg::{read_stamp, stamp};
use super::names::{channel_like, fold};
use super::{ClientId, Server, caps};
use mesyx_sdk::{Anchor, ChatLine, Conversation, ConversationInfo, ErrorKind, History, Verb};
use std::sync::Arc;

/// Most lines of one answer.
pub(super) const MOST_LINES: usize = 1000;

fn anchor(text: &str) -> Option<Anchor> {
    match text.split_once('=')? {
        ("timestamp", at) => read_stamp(at).map(Anchor::Time),
        ("msgid", id) => id.parse().ok().map(Anchor::Message),
        _ => None,
    }
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
                let code = if sub.is_empty() { "NEED_MORE_PARAMS" } else { "INVALID_PARAMS" };
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
            server.fail(id, "CHATHISTORY", "INVALID_PARAMS", &[&sub, text], "That is neither timestamp=… nor msgid=…");
            Vec::new()
        };
        if sub == "TARGETS" {
            let (Some(Anchor::Time(from)), Some(Anchor::Time(to))) = (anchor(param(1)), anchor(param(2))) else {
                return bad(self, param(1));
            };
            if self.clients.get(&id).is_none_or(|client| client.user.is_none()) {
                self.targets_given(id, Ok(Given::Targets(Vec::new())));
                return Vec::new();
            }
            return vec![Ask::Targets { from: from.min(to), to: from.max(to), limit }];
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
            Some(Some(conversation)) => vec![Ask::History { conversation, target, sub, wanted, limit }],
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
                msg.batch = batch.map(str::to_owned);
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
        match self.stored(id, &target) {
            Some(Some(conversation)) => vec![Ask::Marker { conversation, target, set }],
            Some(None) => {
                self.tell_marker(id, &target, set);
                Vec::new()
            }
            None => {
                self.fail(id, "MARKREAD", "INVALID_TARGET", &[&target], "There is no such conversation");
                Vec::new()
            }
        }
    }

    pub(super) fn marker_given(&mut self, id: ClientId, target: &str, outcome: Outcome) {
        match outcome {
            Ok(Given::Marker(at)) => self.tell_marker(id, target, at),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => self.tell_marker(id, target, None),
            Err(error) => {
                self.fail(id, "MARKREAD", "INTERNAL_ERROR", &[target], error.message());
            }
        }
    }

    /// Whether a name can be a channel that the client is in; for the marker told on JOIN.
    pub(super) fn marker_asks(&self, id: ClientId, name: &str) -> Asks {
        if !self.caps(id).has(caps::READ_MARKER) || !channel_like(name) {
            return Vec::new();
        }
        let conversation = self.local_address(&fold(name)).map(Conversation::Group);
        let ask = conversation.map(|conversation| Ask::Marker { conversation, target: name.to_owned(), set: None });
        ask.into_iter().collect()
    }
}
