//! RPL_ISUPPORT (numeric 005): true to what the server does.

use super::channel::MOST_MASKS;
use super::history::MOST_LINES;
use super::modes::MOST_CHANGES;
use super::{ClientId, MOST_MONITORED, Server, names};

impl Server {
    pub(super) fn isupport(&mut self, id: ClientId) {
        let bound = self.clients.get(&id).and_then(|client| client.network.clone());
        let network = bound.clone().unwrap_or_else(|| self.facts.network.clone());
        let mut tokens = vec![
            format!("AWAYLEN={}", names::TEXT),
            "BOT=B".into(),
            "CASEMAPPING=ascii".into(),
            format!("CHANLIMIT=#:{}", self.facts.channels),
            "CHANMODES=beI,k,l,imnst".into(),
            format!("CHANNELLEN={}", self.facts.channel_name),
            "CHANTYPES=#".into(),
            format!("CHATHISTORY={MOST_LINES}"),
            "ELIST=CMNTU".into(),
            "EXCEPTS=e".into(),
            "INVEX=I".into(),
            format!("KEYLEN={}", names::KEY),
            format!("KICKLEN={}", names::TEXT),
            format!("MAXLIST=beI:{MOST_MASKS}"),
            format!("MODES={MOST_CHANGES}"),
            format!("MONITOR={MOST_MONITORED}"),
            "MSGREFTYPES=msgid,timestamp".into(),
            format!("NAMELEN={}", names::TEXT),
            format!("NETWORK={}", network.replace(' ', "\\x20")),
            format!("NICKLEN={}", names::NICK),
            "PREFIX=(qov)~@+".into(),
            "SAFELIST".into(),
            "STATUSMSG=~@+".into(),
            "TARGMAX=JOIN:,KICK:,LIST:,MONITOR:,NAMES:,NOTICE:4,PART:,PRIVMSG:4,TAGMSG:4,WHOIS:4,WHOWAS:4".into(),
            format!("TOPICLEN={}", self.facts.topic),
            format!("USERLEN={}", names::USER),
            "UTF8ONLY".into(),
            "WHOX".into(),
        ];
        if let Some(bound) = bound {
            tokens.push(format!("BOUNCER_NETID={bound}"));
        }
        for some in tokens.chunks(13) {
            let mut msg = self.own_msg("005").arg(self.nick_of(id));
            msg.params.extend(some.iter().cloned());
            self.send(id, msg.arg("are supported by this server"));
        }
    }
}
