//! Questions of the user, while there is a connection.

use super::Actor;
use super::up::Live;
use crate::link::{Ask, COMMANDS, Channel, Member, Reply, text};
use crate::network::proto::Which;
use mesyx_irc_codec::Source;
use mesyx_sdk::{Answer, Error, ErrorKind};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A little under the ten seconds that the host waits.
const PATIENCE: Duration = Duration::from_secs(9);

/// Questions that the network has not answered yet.
pub(super) type Open = HashMap<u64, Opened>;

pub(super) struct Opened {
    reply: oneshot::Sender<Result<Answer, Error>>,
    pub(super) until: Instant,
    names: bool,
}

impl Actor {
    pub(super) async fn question(&mut self, live: &mut Live, ask: Ask, reply: oneshot::Sender<Result<Answer, Error>>) {
        let answer = match ask {
            Ask::Presence { .. } => Ok(live.engine.presence().answer()),
            Ask::Channels { .. } => Ok(Channel::answer(&live.engine.channels())),
            Ask::Names { channel, .. } => match live.engine.members(&channel) {
                Some(members) => Ok(Member::answer(&members)),
                None => return self.ask_network(live, "NAMES", &[channel], Which::All, reply, true),
            },
            Ask::Join { channel, key, .. } => {
                live.engine.want(&channel, key.clone());
                let parameters: Vec<_> = std::iter::once(channel).chain(key).collect();
                return self.ask_network(live, "JOIN", &parameters, Which::Errors, reply, false);
            }
            Ask::Part { channel, reason, .. } => {
                live.engine.part(&channel, &reason);
                Ok(Answer::default())
            }
            Ask::Command { command, parameters, .. } => {
                let command = command.to_ascii_uppercase();
                if !COMMANDS.contains(&command.as_str()) {
                    let what = format!("{command} is not sent to networks; those that are: {}", COMMANDS.join(" "));
                    let _ = reply.send(Err(Error::new(ErrorKind::Invalid, what)));
                    return;
                }
                if let ("NICK", Some(nick)) = (command.as_str(), parameters.first()) {
                    live.engine.wish_nick(nick);
                }
                return self.ask_network(live, &command, &parameters, Which::All, reply, false);
            }
            Ask::Away { text, .. } => {
                live.engine.away(text.as_deref());
                self.away = text;
                Ok(Answer::default())
            }
            Ask::Typing { target, state, .. } => {
                live.engine.typing(&target, &state);
                Ok(Answer::default())
            }
            Ask::Ctcp { target, command, text, .. } => match live.engine.request_ctcp(&target, &command, &text) {
                true => Ok(Answer::default()),
                false => Err(Error::new(ErrorKind::Invalid, "that can't be asked by CTCP")),
            },
            Ask::Service { text, .. } => {
                let nick = text.split_whitespace().nth(1).unwrap_or("x");
                let room = live.engine.room("PRIVMSG", nick);
                let (lines, told) = self.desk.command(&text, room, Instant::now()).await;
                self.told(live, told).await;
                self.save_otr().await;
                Ok(text::answer(lines))
            }
            Ask::Networks
            | Ask::Add { .. }
            | Ask::Change { .. }
            | Ask::Remove { .. }
            | Ask::Connect { .. }
            | Ask::Disconnect { .. } => Ok(Answer::default()),
        };
        let _ = reply.send(answer);
    }

    fn ask_network(
        &mut self,
        live: &mut Live,
        command: &str,
        parameters: &[String],
        which: Which,
        reply: oneshot::Sender<Result<Answer, Error>>,
        names: bool,
    ) {
        if !live.engine.is_ready() {
            let _ = reply
                .send(Err(Error::new(ErrorKind::Unavailable, format!("not connected to {} yet", self.plan.network))));
            return;
        }
        self.next += 1;
        match live.engine.ask(self.next, command, parameters, which) {
            Ok(()) => {
                live.asks.insert(self.next, Opened { reply, until: Instant::now() + PATIENCE, names });
            }
            Err(why) => {
                let _ = reply.send(Err(Error::new(ErrorKind::Invalid, why)));
            }
        }
    }

    /// The network has answered.
    pub(super) fn answered(&mut self, live: &mut Live, id: u64, replies: &[Reply]) {
        let Some(Opened { reply, names, .. }) = live.asks.remove(&id) else { return };
        let answer = if names { Member::answer(&members(replies)) } else { Reply::answer(replies) };
        let _ = reply.send(Ok(answer));
    }

    /// Answers with what came so far, where the rest takes too long.
    pub(super) fn asks_overdue(&mut self, live: &mut Live, now: Instant) {
        let over: Vec<_> = live.asks.iter().filter(|(_, ask)| ask.until <= now).map(|(id, _)| *id).collect();
        for id in over {
            live.engine.give_up(id);
            // A question that was not sent yet has no event.
            if let Some(Opened { until, .. }) = live.asks.get_mut(&id) {
                *until = now + PATIENCE;
            }
        }
    }
}

/// The members that 353 names.
fn members(replies: &[Reply]) -> Vec<Member> {
    let names = replies.iter().filter(|reply| reply.command == "353").filter_map(|reply| reply.parameters.last());
    let member = |word: &str| {
        let at = word.find(|c: char| !"~&@%+!".contains(c)).unwrap_or(word.len());
        let source = Source::of(&word.as_bytes()[at..]);
        let text =
            |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
        let (nick, user, host) = (text(Some(source.name)), text(source.user), text(source.host));
        Member { signs: word[..at].to_owned(), nick, user, host, ..Member::default() }
    };
    names.flat_map(|names| names.split_whitespace().map(member).collect::<Vec<_>>()).collect()
}
