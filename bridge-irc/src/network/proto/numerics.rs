//! Numerics (RFC 2812, section 5; those of later servers by modern.ircdocs.horse).

use super::{Again, Engine, Phase};
use crate::link::{News, Who};
use mesyx_irc_codec::Line;
use std::time::Instant;

impl Engine {
    pub(super) fn numeric(&mut self, numeric: u16, line: &Line<'_>, now: Instant) {
        let last = self.decode(line.parameters.last().copied().unwrap_or_default());
        let named = self.decode(line.parameter(1));
        match numeric {
            1 => return self.greeted(line),
            5 => {
                let end = line.parameters.len().saturating_sub(1).max(1);
                let tokens: Vec<_> = (1..end).map(|at| self.decode(line.parameter(at))).collect();
                self.isupport.take(tokens.iter().map(String::as_str));
                if self.tokens.len() + tokens.len() <= 256 {
                    self.tokens.extend(tokens);
                }
                return;
            }
            221 => {
                self.me.modes.clear();
                self.user_modes(&named);
            }
            302 => self.learn_host(&last),
            303 if self.ison(line) => return,
            305 => self.me.away = None,
            306 => self.me.away = Some(last.clone()),
            324 => {
                let modes = self.decode(line.parameter(2));
                self.set_modes(&named, &modes, line.parameters.get(3..).unwrap_or_default());
            }
            329 => {
                let created = self.decode(line.parameter(2)).parse().unwrap_or(0);
                let folded = self.fold(&named);
                if let Some(room) = self.rooms.get_mut(&folded) {
                    room.created = created;
                }
            }
            331 | 332 => {
                let folded = self.fold(&named);
                if let Some(room) = self.rooms.get_mut(&folded) {
                    room.topic = if numeric == 332 { last.clone() } else { String::new() };
                }
            }
            333 => {
                let (by, at) = (self.who(line.parameter(2)).nick, self.decode(line.parameter(3)).parse().unwrap_or(0));
                let folded = self.fold(&named);
                if let Some(room) = self.rooms.get_mut(&folded) {
                    (room.topic_by, room.topic_at) = (by, at);
                }
            }
            353 => {
                let channel = self.decode(line.parameter(2));
                self.names(&channel, &last);
            }
            366 => self.names_over(&named),
            376 | 422 if self.phase == Phase::Greeted => return self.ready(now),
            396 => self.set_host(&named),
            432 | 433 | 436 | 437 if self.phase == Phase::Registering => return self.nick_refused(&last),
            463..=465 if self.phase == Phase::Registering => {
                return self.over(format!("the network refused the connection: {last}"), Again::Late);
            }
            471 | 473..=475 | 477 | 437 | 480 | 489 | 500 | 520 => self.join_refused(&named, numeric, now),
            900..=908 => self.sasl_numeric(numeric, line),
            _ => {}
        }
        if self.phase != Phase::Ready || self.is_noise(numeric, &named) {
            return;
        }
        if self.refused(numeric, &named, &last) || self.collect(line, numeric) {
            return;
        }
        let source = line.source.map(|source| self.decode(source.whole)).unwrap_or_default();
        let parameters = (0..line.parameters.len()).map(|at| self.decode(line.parameter(at))).collect();
        self.news(News::Numeric { source, command: format!("{numeric:03}"), parameters });
    }

    /// What comes of our own questions, where the user asked nothing of the kind.
    fn is_noise(&self, numeric: u16, named: &str) -> bool {
        match numeric {
            302 => !self.asked_about("userhost"),
            324 | 329 => !self.asked_about(named),
            331..=333 | 353 | 366 => !(self.asked_about("topic") || self.asked_about("names")),
            900..=908 => true,
            _ => false,
        }
    }

    /// The names of a channel are complete: the first time, the user's own join is told.
    fn names_over(&mut self, channel: &str) {
        let first = self.names_end(channel);
        if !self.in_channel(channel) {
            return;
        }
        if first {
            let me = &self.me;
            let who = Who { nick: me.nick.clone(), user: me.user.clone(), host: me.host.clone() };
            let (account, realname) = (me.account.clone(), self.id.realname.clone());
            self.news(News::Join { channel: channel.to_owned(), who, account, realname });
        }
    }

    /// 302: `nick*=+user@host`.
    fn learn_host(&mut self, text: &str) {
        for word in text.split_whitespace() {
            let Some((nick, host)) = word.split_once('=') else { continue };
            if self.is_me(nick.trim_end_matches('*')) {
                self.set_host(host.trim_start_matches(['+', '-']));
            }
        }
    }

    /// `host` or `user@host`: how others see us from now on.
    fn set_host(&mut self, text: &str) {
        let (user, host) = text.rsplit_once('@').map_or((None, text), |(user, host)| (Some(user), host));
        if let Some(user) = user {
            user.clone_into(&mut self.me.user);
        }
        host.clone_into(&mut self.me.host);
    }
}
