//! CAP: negotiation of capabilities.

use super::ask::Asks;
use super::caps::{ALL, CAP_NOTIFY, Caps};
use super::commands::Command;
use super::{ClientId, Server};

/// Longest list of capabilities on one line, in bytes: a server's name has at most 63 beside it.
const LINE: usize = 410;

impl Server {
    pub(super) fn cap(&mut self, id: ClientId, command: &Command) -> Asks {
        let sub = command.get(0).unwrap_or_default().to_ascii_uppercase();
        let Some(client) = self.clients.get_mut(&id) else { return Vec::new() };
        match sub.as_str() {
            "LS" => {
                let version = command.get(1).and_then(|version| version.parse().ok()).unwrap_or(301);
                client.cap_version = client.cap_version.max(version);
                if client.cap_version >= 302 {
                    client.caps = client.caps.with(CAP_NOTIFY);
                }
                if let Some(reg) = &mut client.reg {
                    reg.negotiating = true;
                }
                let values = client.cap_version >= 302;
                let names = ALL.iter().map(|(cap, name)| match cap.value().filter(|_| values) {
                    Some(value) => format!("{name}={value}"),
                    None => (*name).to_owned(),
                });
                let names = names.collect();
                self.cap_list(id, "LS", names);
            }
            "LIST" => {
                let names = client.caps.names().map(str::to_owned).collect();
                self.cap_list(id, "LIST", names);
            }
            "REQ" => {
                if let Some(reg) = &mut client.reg {
                    reg.negotiating = true;
                }
                let wanted = command.params.get(1).cloned().unwrap_or_default();
                let changed = apply(client.caps, &wanted, client.cap_version);
                let answer = if let Some(caps) = changed {
                    client.caps = caps;
                    "ACK"
                } else {
                    "NAK"
                };
                let msg = self.own_msg("CAP").arg(self.nick_of(id)).arg(answer).arg(wanted);
                self.send(id, msg);
            }
            "END" => {
                if let Some(reg) = &mut client.reg {
                    reg.negotiating = false;
                    // IRCv3 `sasl-3.1`: who goes on without having finished gives it up.
                    if client.sasl.take().is_some() {
                        self.numeric(id, "906", ["SASL authentication aborted"]);
                    }
                    return self.try_register(id);
                }
            }
            _ => {
                let shown = command.get(0).filter(|sub| !sub.contains(' ') && !sub.starts_with(':')).unwrap_or("*");
                self.numeric(id, "410", [shown, "Invalid CAP command"]);
            }
        }
        Vec::new()
    }

    fn cap_list(&mut self, id: ClientId, sub: &str, names: Vec<String>) {
        let mut lines = vec![String::new()];
        for name in names {
            match lines.last_mut() {
                Some(line) if line.is_empty() => *line = name,
                Some(line) if line.len() + 1 + name.len() <= LINE => {
                    line.push(' ');
                    line.push_str(&name);
                }
                _ => lines.push(name),
            }
        }
        let version = self.clients.get(&id).map_or(0, |client| client.cap_version);
        if version < 302 {
            // Only version 302 knows a list that goes on: what one line has no room for is not offered to others.
            lines.truncate(1);
        }
        let last = lines.len() - 1;
        for (at, line) in lines.into_iter().enumerate() {
            let mut msg = self.own_msg("CAP").arg(self.nick_of(id)).arg(sub);
            if at < last && version >= 302 {
                msg = msg.arg("*");
            }
            self.send(id, msg.arg(line));
        }
    }
}

/// The capabilities after a request; `None` where it can't be granted whole.
fn apply(mut caps: Caps, wanted: &str, version: u16) -> Option<Caps> {
    for name in wanted.split_ascii_whitespace() {
        if let Some(name) = name.strip_prefix('-') {
            let cap = Caps::named(name)?;
            // IRCv3: it can't be switched off by clients that negotiated version 302.
            if cap == CAP_NOTIFY && version >= 302 {
                return None;
            }
            caps = caps.without(cap);
        } else {
            caps = caps.with(Caps::named(name)?);
        }
    }
    Some(caps)
}
