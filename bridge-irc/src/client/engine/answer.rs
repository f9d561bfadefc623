//! What clients are sent: lines, numerics, standard replies, and the answers to labeled commands.

use super::caps::{self, Caps};
use super::msg::Msg;
use super::{Capture, ClientId, Server};

impl Server {
    /// Sends a line to one client that is no answer to its command.
    pub(super) fn tell(&mut self, to: ClientId, msg: &Msg) {
        if let Some(client) = self.clients.get(&to)
            && let Some(line) = msg.render(client.caps, self.now, None)
        {
            client.outbox.push(line);
        }
    }

    /// Sends a line to one client; as part of the answer, where its command is being answered.
    pub(super) fn send(&mut self, to: ClientId, msg: Msg) {
        let Some(client) = self.clients.get_mut(&to) else { return };
        if self.answering == Some(to)
            && let Some(capture) = &mut client.capture
        {
            capture.msgs.push(msg);
            return;
        }
        if let Some(line) = msg.render(client.caps, self.now, None) {
            client.outbox.push(line);
        }
    }

    /// Sends a line of the server's own.
    pub(super) fn own_msg(&self, command: &'static str) -> Msg {
        Msg::new(self.facts.server.clone(), command)
    }

    /// A numeric for a client; its nick is the first parameter.
    pub(super) fn numeric<const N: usize>(&mut self, to: ClientId, numeric: &'static str, params: [&str; N]) {
        let mut msg = self.own_msg(numeric).arg(self.nick_of(to));
        msg.params.extend(params.iter().map(|param| (*param).to_owned()));
        self.send(to, msg);
    }

    /// A standard reply (IRCv3 `standard-replies`): `FAIL COMMAND CODE CONTEXT… :text`.
    pub(super) fn fail(&mut self, to: ClientId, command: &str, code: &str, context: &[&str], text: &str) {
        let mut msg = self.own_msg("FAIL").arg(command).arg(code);
        // A context that can't stand between spaces would spoil the line.
        msg.params.extend(context.iter().map(|part| if part.is_empty() { "*".into() } else { part.replace(' ', "_") }));
        self.send(to, msg.arg(text));
    }

    /// Ends a connection with an ERROR line.
    pub(super) fn end(&mut self, id: ClientId, why: &str) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.quit.get_or_insert_with(|| why.to_owned());
        let error = Msg::new(self.facts.server.clone(), "ERROR").arg(format!("Closing link: {} ({why})", client.ip));
        if let Some(mut line) = error.render(Caps::NONE, self.now, None) {
            // ERROR has no source: RFC 1459, section 4.6.4.
            if let Some(at) = line.iter().position(|byte| *byte == b' ') {
                line.drain(..=at);
            }
            client.outbox.push(line);
        }
        client.outbox.close();
    }

    /// The answer to a labeled command is complete (IRCv3 `labeled-response`).
    pub fn finish(&mut self, id: ClientId) {
        self.answering = None;
        let batch = self.batch_name();
        let Some(client) = self.clients.get_mut(&id) else { return };
        let Some(Capture { label, mut msgs }) = client.capture.take() else { return };
        let mut lines = Vec::new();
        let server = &self.facts.server;
        let batched = client.caps.has(caps::BATCH);
        match msgs.len() {
            0 => lines.push((Msg::new(server.clone(), "ACK"), Some(label.as_str()))),
            1 => lines.push((msgs.remove(0), Some(label.as_str()))),
            // Who knows no batches can't be told what belongs together.
            _ if !batched => lines.extend(msgs.into_iter().map(|msg| (msg, None))),
            _ => {
                // An answer that is one batch already takes the label itself.
                let name =
                    msgs[0].params.first().and_then(|name| name.strip_prefix('+')).unwrap_or_default().to_owned();
                let last = msgs.last().is_some_and(|msg| {
                    &*msg.command == "BATCH"
                        && msg.params.first().and_then(|param| param.strip_prefix('-')) == Some(&name)
                });
                if &*msgs[0].command == "BATCH" && last {
                    for (at, msg) in msgs.into_iter().enumerate() {
                        lines.push((msg, (at == 0).then_some(label.as_str())));
                    }
                } else {
                    let open = Msg::new(server.clone(), "BATCH").arg(format!("+{batch}")).arg("labeled-response");
                    lines.push((open, Some(label.as_str())));
                    for mut msg in msgs {
                        msg.batch.get_or_insert_with(|| batch.clone());
                        lines.push((msg, None));
                    }
                    lines.push((Msg::new(server.clone(), "BATCH").arg(format!("-{batch}")), None));
                }
            }
        }
        for (msg, label) in lines {
            if let Some(line) = msg.render(client.caps, self.now, label) {
                client.outbox.push(line);
            }
        }
    }
}
