//! What was said on the network, as messages for the host.

use super::Actor;
use super::up::Live;
use crate::link::{News, SERVICE_NAME, SERVICE_NICK};
use crate::network::intake::Item;
use crate::network::proto::Said;
use mesyx_sdk::address::CaseMapping;
use mesyx_sdk::{
    Address, Conversation, Dsn, Envelope, Importance, IrcAddress, Kind, Line, LineHeaders, MessageId, MesyxAddress,
    Origin, Protection, Recipient, Style, Timestamp, Verb,
};
use std::time::Instant;

/// How far a server's clock may be ahead of ours before its word on the time is not taken.
const AHEAD: i64 = 60_000;

/// A line before it is a message.
pub(super) struct Draft {
    pub(super) channel: Option<String>,
    /// The group that it goes to in place of the user, where a relay took it.
    pub(super) group: Option<Address>,
    pub(super) nick: String,
    pub(super) verb: Verb,
    pub(super) text: String,
    pub(super) at: Option<Timestamp>,
    pub(super) msgid: Option<String>,
    pub(super) protection: Protection,
    pub(super) checks: Vec<String>,
    /// The bridge's own word: the name and the nick that it stands under.
    pub(super) service: Option<(&'static str, &'static str)>,
}

impl Actor {
    /// Something was said: to the user by way of OTR, in a channel as it is.
    pub(super) async fn said(&mut self, live: &mut Live, said: Said) {
        if said.channel.is_some() || said.verb == Verb::Action {
            return self.take(live, said, None).await;
        }
        let room = live.engine.room("PRIVMSG", &said.who.nick);
        let told = self.desk.receive(&said.who.nick, &said.raw, room, Instant::now()).await;
        live.current = Some(said);
        self.told(live, told).await;
        live.current = None;
        self.save_otr().await;
    }

    /// A text came through OTR's hands.
    pub(super) async fn private_text(
        &mut self,
        live: &mut Live,
        nick: &str,
        text: &[u8],
        private: Option<bool>,
        unexpected: bool,
    ) {
        if unexpected && private.is_none() {
            let warning = format!(
                "What follows came from {nick} IN THE CLEAR: anybody on the way could have read or written it."
            );
            self.word(nick, warning, true).await;
        }
        let Some(said) = &live.current else { return };
        let mut said = Said { raw: text.to_vec(), ..said.clone() };
        if private.is_some() {
            // Line ends that the network never saw are no lines of it.
            for (words, verb) in [(&b"/me "[..], Verb::Action), (b"\x01ACTION ", Verb::Action)] {
                if let Some(rest) = text.strip_prefix(words) {
                    (said.raw, said.verb) = (rest.strip_suffix(&[1]).unwrap_or(rest).to_vec(), verb);
                }
            }
        }
        self.take(live, said, Some((private, unexpected))).await;
    }

    async fn take(&mut self, live: &Live, said: Said, otr: Option<(Option<bool>, bool)>) {
        let mut checks = Vec::new();
        let protection = match otr {
            Some((Some(verified), _)) => Protection::Otr { verified },
            Some((None, unexpected)) => {
                if unexpected {
                    checks.push("otr=missing".to_owned());
                }
                live.protection.clone()
            }
            None => live.protection.clone(),
        };
        let text = live.engine.decode(&said.raw);
        let Said { channel, who, verb, at, msgid, .. } = said;
        let nick = who.nick;
        let draft = Draft { channel, group: None, nick, verb, text, at, msgid, protection, checks, service: None };
        self.bring(draft, live.engine.casemapping()).await;
    }

    /// A word of the bridge on a nick.
    pub(super) async fn word(&self, nick: &str, text: String, lasting: bool) {
        if !lasting {
            self.news(News::Service { peer: nick.to_owned(), text }).await;
        } else {
            // Stored, it comes to clients that are there as every line does: not by a signal too.
            self.service_notice(None, nick, text, (SERVICE_NAME, SERVICE_NICK)).await;
        }
    }

    /// A stored notice of the bridge's own: in a group, or on a nick.
    pub(super) async fn service_notice(
        &self,
        group: Option<Address>,
        nick: &str,
        text: String,
        service: (&'static str, &'static str),
    ) {
        let draft = Draft {
            channel: None,
            group,
            nick: nick.to_owned(),
            verb: Verb::Notice,
            text,
            at: None,
            msgid: None,
            protection: Protection::None,
            checks: Vec::new(),
            service: Some(service),
        };
        self.bring(draft, CaseMapping::Rfc1459).await;
    }

    pub(super) async fn bring(&self, draft: Draft, casemapping: CaseMapping) {
        match self.envelope(&draft, casemapping) {
            Ok(envelope) => {
                let _ = self.intake.send(Item::Line(Box::new(envelope))).await;
            }
            Err(error) => {
                tracing::error!(network = self.plan.network, %error, "a line from IRC has no place and is lost")
            }
        }
    }

    fn envelope(&self, draft: &Draft, casemapping: CaseMapping) -> Result<Envelope, mesyx_sdk::AddressError> {
        let network = &self.plan.network;
        let peer = Address::Irc(IrcAddress::new(network, &writable(&draft.nick), casemapping)?);
        let me = Address::Mesyx(MesyxAddress { user: self.address.clone() });
        let (conversation, to) = match (&draft.group, &draft.channel) {
            (Some(group), _) => (Conversation::Group(group.clone()), group.clone()),
            (None, Some(channel)) => {
                let channel = Address::Irc(IrcAddress::new(network, channel, casemapping)?);
                (Conversation::Group(channel.clone()), channel)
            }
            (None, None) => (Conversation::Direct(peer.clone()), me.clone()),
        };
        let reader = draft.group.clone().unwrap_or(me);
        let (from, nick) = match draft.service {
            Some((name, nick)) => (Address::Irc(IrcAddress::new(network, name, casemapping)?), nick.to_owned()),
            None => (peer, shown(&draft.nick)),
        };
        let (id, now) = (MessageId::random(), Timestamp::now());
        let at = draft.at.filter(|at| at.0 <= now.0 + AHEAD && at.0 > 0).unwrap_or(now);
        let mut text = draft.text.replace("\r\n", "\n").replace(['\r', '\0'], " ");
        text.truncate(text.floor_char_boundary(Line::MAX_TEXT));
        let line = Line { verb: draft.verb, args: Vec::new(), text };
        let headers = LineHeaders { id, from: from.clone(), nick, to, at };
        let content = line.to_content(&headers, self.host.domain())?;
        // A name of the network's own; one user's copy is not another's.
        let whose = draft.group.as_ref().map_or_else(|| self.address.to_string(), Address::to_string);
        let dedup = draft.msgid.as_ref().map(|msgid| format!("{network}\0{whose}\0{msgid}").into_bytes());
        Ok(Envelope {
            id,
            dedup,
            style: Style::Instant,
            kind: if draft.service.is_some() { Kind::Event } else { Kind::Message },
            from: Some(from),
            to: vec![Recipient::new(reader)],
            conversation: Some(conversation),
            sent: Some(at),
            received: now,
            importance: Importance::Normal,
            content,
            origin: Origin {
                bridge: String::new(),
                network: network.clone(),
                peer: Some(self.plan.target.host.clone()),
                protection: draft.protection.clone(),
                authenticated: None,
                checks: draft.checks.clone(),
            },
            junk: false,
            dsn: Dsn::default(),
        })
    }
}

/// A nick as an address takes it: some networks let relays have nicks that no client could take.
fn writable(nick: &str) -> String {
    let bad = |c: char| c.is_control() || " ,!@*?$%#&+.:".contains(c);
    let mut name: String = nick.chars().map(|c| if bad(c) { '_' } else { c }).collect();
    name.truncate(name.floor_char_boundary(IrcAddress::MAX_NAME));
    // What begins with `-` is the bridge's own.
    if name.starts_with('-') || name.is_empty() { format!("_{}", name.trim_start_matches('-')) } else { name }
}

/// A nick as it is shown.
fn shown(nick: &str) -> String {
    let mut nick: String = nick.chars().filter(|c| !c.is_control()).collect();
    nick.truncate(nick.floor_char_boundary(128));
    if nick.is_empty() { "?".to_owned() } else { nick }
}
