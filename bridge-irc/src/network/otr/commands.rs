//! `/msg *otr …`: what users say to the service nick.

use super::{Desk, Told, own, refusal, word};
use crate::network::config::OtrPolicy;
use mesyx_otr::{Error, Fingerprint, Output, Session, SessionState, Trust};
use std::time::Instant;

/// What is answered to `help` and to what is no command.
const HELP: [&str; 13] = [
    "OTR protects what you and one other write to each other, from this server to the other's client.",
    "status [NICK]: which conversations are private",
    "start NICK: begin a private conversation; refresh NICK: fresh keys for it; end NICK: end it",
    "verify NICK SECRET: check that NICK knows a secret that you share",
    "verify NICK \"QUESTION\" ANSWER: the same with a question",
    "answer NICK SECRET: when NICK asks; abort NICK: give up a verification",
    "trust NICK [FINGERPRINT]: you compared the fingerprint by other means; it is NICK's",
    "distrust NICK [FINGERPRINT]: take that back",
    "forget NICK: forget all fingerprints of NICK",
    "policy [NICK] [off|opportunistic|require|default]: how much OTR is wanted; without NICK, on this network",
    "fingerprints [NICK]: yours, and those of others",
    "On a connection to no network in particular, write NICK as NICK/NETWORK, and policy/NETWORK.",
    "Secrets stand in your client's own log of this window: delete it.",
];

impl Desk {
    /// Carries out a command: lines to show, and what is to be done.
    pub(crate) async fn command(&mut self, text: &str, room: usize, now: Instant) -> (Vec<String>, Vec<Told>) {
        let (verb, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let (nick, rest) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
        let (verb, rest) = (verb.to_ascii_lowercase(), rest.trim().to_owned());
        let needs_nick = matches!(
            verb.as_str(),
            "start" | "refresh" | "end" | "verify" | "answer" | "abort" | "trust" | "distrust" | "forget"
        );
        if needs_nick && nick.is_empty() {
            return (vec![format!("{verb} whom? /msg *otr help")], Vec::new());
        }
        match verb.as_str() {
            "status" => (self.status(nick), Vec::new()),
            "fingerprints" => (self.fingerprints(nick), Vec::new()),
            "policy" => self.set_policy(nick, &rest),
            "trust" | "distrust" => self.trust(nick, &rest, verb == "trust", now),
            "forget" => {
                let peer = self.peer_name(nick);
                for print in self.book.known(&peer) {
                    self.book.set_trust(&peer, print, Trust::Unknown);
                }
                self.changed = true;
                (vec![format!("All fingerprints of {nick} are forgotten.")], Vec::new())
            }
            "start" | "refresh" | "end" | "verify" | "answer" | "abort" => {
                self.step(&verb, nick, &rest, room, now).await
            }
            _ => (HELP.iter().map(|line| (*line).to_owned()).collect(), Vec::new()),
        }
    }

    async fn step(
        &mut self,
        verb: &str,
        nick: &str,
        rest: &str,
        room: usize,
        now: Instant,
    ) -> (Vec<String>, Vec<Told>) {
        if self.identity.is_none() {
            return (vec!["Your OTR key is still being made; try again in a few seconds.".to_owned()], Vec::new());
        }
        self.session(nick, room, now);
        let folded = self.fold(nick);
        let (question, secret) = question(rest);
        if matches!(verb, "verify" | "answer") && secret.is_empty() {
            return (vec![format!("The secret is missing: /msg *otr {verb} {nick} SECRET")], Vec::new());
        }
        let (name, secret) = (verb.to_owned(), secret.to_owned());
        let run = move |session: &mut Session| -> Result<Output, Error> {
            match name.as_str() {
                "start" => session.start(now),
                "refresh" => session.refresh(now),
                "end" => Ok(session.end(now)),
                "verify" => session.smp_start(secret.as_bytes(), question.as_deref().map(str::as_bytes), now),
                "answer" => session.smp_answer(secret.as_bytes(), now),
                _ => session.smp_abort(now),
            }
        };
        let done = match self.with(&folded, true, run).await {
            Some(Ok(out)) => out,
            Some(Err(error)) => return (vec![refusal(nick, error).replace("not sent: ", "")], Vec::new()),
            None => return (vec!["That did not work; try again.".to_owned()], Vec::new()),
        };
        let said = match verb {
            "start" => format!("{nick} is asked for a private conversation; what you write meanwhile waits for it."),
            "refresh" => format!("{nick} is asked for fresh keys."),
            "end" => format!(
                "No private conversation with {nick} any more: what you write goes IN THE CLEAR{}.",
                self.but(nick)
            ),
            "verify" => format!("{nick} is asked for the secret; wait for the answer."),
            "answer" => "Your answer is being checked.".to_owned(),
            _ => format!("The verification with {nick} is given up."),
        };
        (vec![said], self.handle(nick, done, Vec::new(), now))
    }

    fn but(&self, nick: &str) -> &'static str {
        if self.policy_of(nick) == OtrPolicy::Require { ", once the policy is no longer require" } else { "" }
    }

    fn status(&self, nick: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for peer in self.peers.values().filter(|peer| nick.is_empty() || self.fold(&peer.nick) == self.fold(nick)) {
            let name = &peer.nick;
            let state = match peer.session.as_ref().map(Session::state) {
                Some(SessionState::Private(print)) => {
                    let trust = trust_word(self.book.trust(&self.peer_name(name), print));
                    format!("{name}: private, {trust}, fingerprint {print}")
                }
                Some(SessionState::Finished) => format!("{name}: ended by {name}; nothing is sent until start or end"),
                _ if nick.is_empty() => continue,
                _ => format!("{name}: in the clear; policy {}", policy_word(self.policy_of(name))),
            };
            lines.push(state);
        }
        if lines.is_empty() {
            lines.push(match nick {
                "" => {
                    format!("No private conversations on {}; policy {}.", self.network, policy_word(self.policy_of("")))
                }
                nick => format!("{nick}: in the clear; policy {}", policy_word(self.policy_of(nick))),
            });
        }
        lines.sort();
        lines
    }

    fn fingerprints(&self, nick: &str) -> Vec<String> {
        let own =
            self.identity.as_ref().map_or("not made yet".to_owned(), |identity| identity.fingerprint().to_string());
        let mut lines = vec![format!("Yours on {}: {own}", self.network)];
        let folded = self.fold(nick);
        for (peer, print, trust) in self.book.entries().filter(|(peer, ..)| nick.is_empty() || peer.peer == folded) {
            lines.push(format!("{}: {print}, {}", peer.peer, trust_word(trust)));
        }
        lines
    }

    fn set_policy(&mut self, nick: &str, value: &str) -> (Vec<String>, Vec<Told>) {
        let named = |word: &str| match word {
            "off" => Some(Some(OtrPolicy::Off)),
            "opportunistic" => Some(Some(OtrPolicy::Opportunistic)),
            "require" => Some(Some(OtrPolicy::Require)),
            "default" => Some(None),
            _ => None,
        };
        // `policy require` is about the network.
        let (nick, value) = if value.is_empty() && named(nick).is_some() { ("", nick) } else { (nick, value) };
        let whom = if nick.is_empty() { self.network.clone() } else { nick.to_owned() };
        if value.is_empty() {
            return (vec![format!("The policy for {whom} is {}.", policy_word(self.policy_of(nick)))], Vec::new());
        }
        let Some(policy) = named(value) else {
            return (vec![format!("'{value}' is no policy; write off, opportunistic, require or default")], Vec::new());
        };
        let folded = self.fold(nick);
        let private =
            |peer: &super::Peer| peer.session.as_ref().is_some_and(|session| session.state() != SessionState::Plain);
        if policy == Some(OtrPolicy::Off) && self.peers.get(&folded).is_some_and(private) {
            return (vec![format!("End the private conversation first: /msg *otr end {nick}")], Vec::new());
        }
        match policy {
            Some(policy) => self.policies.insert(folded, policy),
            None => self.policies.remove(&folded),
        };
        self.changed = true;
        let policies: Vec<_> =
            self.peers.values().map(|peer| (self.fold(&peer.nick), own(self.policy_of(&peer.nick)))).collect();
        for (peer, policy) in policies {
            if let Some(session) = self.peers.get_mut(&peer).and_then(|peer| peer.session.as_mut()) {
                session.set_policy(policy);
            }
        }
        (vec![format!("The policy for {whom} is {} now.", policy_word(self.policy_of(nick)))], Vec::new())
    }

    fn trust(&mut self, nick: &str, print: &str, trusted: bool, now: Instant) -> (Vec<String>, Vec<Told>) {
        let folded = self.fold(nick);
        let session = self.peers.get_mut(&folded).and_then(|peer| peer.session.as_mut());
        let current = match session.as_ref().map(|session| session.state()) {
            Some(SessionState::Private(print)) => Some(print),
            _ => None,
        };
        let print = if print.is_empty() { current } else { Fingerprint::parse(print) };
        let Some(print) = print else {
            return (
                vec![format!(
                    "Which one? There is no private conversation with {nick}; write the fingerprint's 40 digits."
                )],
                Vec::new(),
            );
        };
        // What was held because the fingerprint had changed goes out now.
        let released =
            session.filter(|_| trusted && current == Some(print)).and_then(|session| session.release_held(now).ok());
        let trust = if trusted { Trust::ByHand } else { Trust::Seen };
        self.book.set_trust(&self.peer_name(nick), print, trust);
        self.changed = true;
        let mut told = released.map(|out| self.handle(nick, out, Vec::new(), now)).unwrap_or_default();
        let said = format!("Fingerprint {print} of {nick} is {} now.", trust_word(trust));
        told.push(word(nick, said.clone(), true));
        (vec![said], told)
    }
}

/// `"QUESTION" SECRET`, or `SECRET`.
fn question(text: &str) -> (Option<String>, &str) {
    let quoted = text.strip_prefix('"').and_then(|rest| rest.split_once('"'));
    match quoted {
        Some((question, secret)) if !secret.trim().is_empty() => (Some(question.to_owned()), secret.trim()),
        _ => (None, text),
    }
}

fn trust_word(trust: Trust) -> &'static str {
    match trust {
        Trust::Unknown => "unknown",
        Trust::Seen => "not verified",
        Trust::Smp => "verified by a shared secret",
        Trust::ByHand => "verified by hand",
    }
}

fn policy_word(policy: OtrPolicy) -> &'static str {
    match policy {
        OtrPolicy::Off => "off",
        OtrPolicy::Opportunistic => "opportunistic",
        OtrPolicy::Require => "require",
    }
}
