//! A relay on ngircd: two users of a group here, people in a channel there.

use crate::support::{Bridged, Ngircd, Other, PATIENCE, free_port, skipped};
use mesyx_sdk::*;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

const DEMO: &str = "mesyx:#demo@example.org";

/// The bridge with a relay, and the users ann and bea of the group.
struct Relayed {
    bridged: Bridged,
    ann: Arc<dyn Session>,
    bea: Arc<dyn Session>,
}

impl Relayed {
    async fn start(port: u16) -> Self {
        Self::on(MemoryHost::new("example.org".parse().unwrap()), port).await
    }

    async fn on(host: MemoryHost, port: u16) -> Self {
        let user = host.add_user("ann", "pw").unwrap();
        host.add_user("bea", "pw").unwrap();
        let (ann, bea) = (host.session("ann").unwrap(), host.session("bea").unwrap());
        for session in [&ann, &bea] {
            session.change_group(&DEMO.parse().unwrap(), GroupChange::Join { key: None }).await.unwrap();
        }
        let relay = serde_json::json!({
            "nick": "mesyx", "channels": [{ "name": "#x", "group": "#Demo" }], "ignore": ["Otherbot"],
        });
        let config = serde_json::json!({ "network.relay": relay, "network.channels": [] });
        Self { bridged: Bridged::again(host, user, port, config), ann, bea }
    }

    /// Ends the bridge. A host for its next life, with what was kept.
    async fn stop(self) -> MemoryHost {
        let (old, _) = self.bridged.stop().await;
        let host = MemoryHost::new("example.org".parse().unwrap());
        for key in old.checkpoints("").await.unwrap() {
            host.set_checkpoint(&key, old.checkpoint(&key).await.unwrap()).await.unwrap();
        }
        host
    }

    async fn say(&self, session: &Arc<dyn Session>, line: Line) {
        let from = chat::address_of(session.user(), self.bridged.host.domain()).unwrap();
        let to: Address = DEMO.parse().unwrap();
        let mut envelope = memory::envelope(Some(from.clone()), vec![to.clone()], Content::default());
        let nick = session.user().name.clone();
        let headers = LineHeaders { id: envelope.id, from, nick, to: to.clone(), at: Timestamp::now() };
        envelope.content = line.to_content(&headers, self.bridged.host.domain()).unwrap();
        (envelope.style, envelope.conversation) = (Style::Instant, Some(Conversation::Group(to)));
        session.submit(envelope).await.unwrap();
    }

    async fn ann_says(&self, text: &str) {
        self.say(&self.ann, Line::say(text)).await;
    }

    /// What a member has of the group, without joins and modes: from whom, and what.
    async fn log(&self, session: &Arc<dyn Session>) -> Vec<(String, Verb, String)> {
        let group = Conversation::Group(DEMO.parse().unwrap());
        let mailbox = session.conversation(&group, true).await.unwrap().mailbox;
        let lines = session.history(mailbox, History::Latest(None), 500).await.unwrap();
        let spoken = lines.iter().filter(|line| matches!(line.line.verb, Verb::Say | Verb::Notice | Verb::Action));
        spoken.map(|line| (line.from.to_string(), line.line.verb, line.line.text.clone())).collect()
    }

    /// The lines of the group that came from the network, once one holds `text`.
    async fn brought(&self, text: &str) -> Vec<String> {
        let found = timeout(PATIENCE, async {
            loop {
                let log = self.log(&self.bea).await;
                if log.iter().any(|(.., said)| said.contains(text)) {
                    let outside = log.into_iter().filter(|(from, ..)| from.starts_with("irc:"));
                    return outside.map(|(from, _, said)| format!("{from} {said}")).collect();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        match found.await {
            Ok(found) => found,
            Err(_) => panic!("{text} did not come into the group: {:?}", self.log(&self.bea).await),
        }
    }

    /// Waits until so many lines wait for the network.
    async fn keeps(&self, count: usize) {
        let kept = timeout(PATIENCE, async {
            while self.bridged.host.checkpoints("relay-line/").await.unwrap().len() != count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        kept.await.unwrap_or_else(|_| panic!("there are never {count} lines that wait"));
    }

    async fn mode(&self, set: bool, mode: char) {
        let change = GroupChange::Mode { set, mode, parameter: None };
        self.ann.change_group(&DEMO.parse().unwrap(), change).await.unwrap();
    }
}

/// An operator of the channel `#x`, in which the relay will be.
async fn eve(server: &Ngircd) -> Other {
    let mut eve = Other::connect(server.port, "eve").await;
    eve.join("#x").await;
    eve
}

impl Other {
    /// The texts that the relay said in the channel up to the one that holds `text`.
    async fn relayed(&mut self, text: &str) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let line = self.wait("PRIVMSG #x :").await;
            let (who, said) = line.split_once(" PRIVMSG #x :").unwrap();
            assert!(who.starts_with(":mesyx!"), "{line}");
            all.push(said.to_owned());
            if said.contains(text) {
                return all;
            }
        }
    }
}

#[tokio::test]
async fn a_relay_speaks_and_hears_only_where_operators_allow_it() {
    if skipped() {
        return;
    }
    let server = Ngircd::start("irc", free_port(), "").await;
    let mut eve = eve(&server).await;
    let here = Relayed::start(server.port).await;
    eve.wait(":mesyx!").await;
    eve.send("WHOIS mesyx").await;
    assert!(eve.wait(" 311 ").await.ends_with(":Relay of #Demo on example.org"));

    // Not allowed: nothing leaves, nothing comes in; asked in private it says what it is and what it waits for.
    here.ann_says("not for outside").await;
    eve.send("PRIVMSG #x :not for inside").await;
    eve.send("PRIVMSG mesyx :!relay").await;
    let answer = eve.wait(" NOTICE eve :#x ").await;
    assert!(answer.starts_with(":mesyx!") && answer.contains("#x is not relayed"), "{answer}");
    assert!(answer.contains("/mode #x +v mesyx"), "{answer}");

    // Allowed: both sides are told, and lines go both ways, each once.
    eve.send("MODE #x +v mesyx").await;
    let notice = eve.wait("NOTICE #x :I am a relay").await;
    assert!(notice.starts_with(":mesyx!") && notice.contains("group #demo on example.org"), "{notice}");
    assert_eq!(here.brought("is relayed to #x").await.len(), 1);
    here.ann_says("hello outside").await;
    here.say(&here.bea, Line { verb: Verb::Action, ..Line::say("waves") }).await;
    assert_eq!(eve.relayed("waves").await, ["<ann> hello outside", "* bea waves"]);
    eve.send("PRIVMSG #x :hello inside").await;
    eve.send("PRIVMSG #x :\u{1}ACTION nods\u{1}").await;
    let brought = here.brought("nods").await;
    assert_eq!(brought[1..], ["irc:net/eve hello inside", "irc:net/eve nods"]);
    let log = here.log(&here.ann).await;
    assert_eq!(log, here.log(&here.bea).await);
    assert_eq!(log.last().map(|(_, verb, _)| *verb), Some(Verb::Action));

    // A long text has its speaker in front of each line; and is not lost.
    let long: String = (0..200).map(|n| format!("word{n} ")).collect();
    here.ann_says(&long).await;
    here.ann_says("the end of it\r\nQUIT :out\nPRIVMSG eve :forged").await;
    let said = eve.relayed("forged").await;
    assert!(said.len() > 5 && said.iter().all(|line| line.starts_with("<ann> ")), "{said:?}");
    // Servers strip blanks at the end of a line.
    let words: Vec<_> = said.iter().flat_map(|line| line["<ann> ".len()..].split(' ')).collect();
    let all = words.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>();
    assert_eq!(all[..200], long.split_whitespace().collect::<Vec<_>>());
    // Somebody there has ann's nick: what is said is not a call for them.
    let mut ann = Other::connect(server.port, "Ann").await;
    ann.join("#x").await;
    eve.wait("JOIN :#x").await;
    eve.send("PRIVMSG #x :she is here").await;
    here.brought("she is here").await;
    here.ann_says("who, me?").await;
    assert_eq!(eve.relayed("who, me?").await, ["<a\u{200b}nn> who, me?"]);

    // Another relay is not heard, nor what is said to operators alone.
    let mut other = Other::connect(server.port, "otherbot").await;
    other.join("#x").await;
    other.send("PRIVMSG #x :<joe> from elsewhere").await;
    eve.wait("from elsewhere").await;
    // What is said to it alone is kept nowhere, and answered once; OTR by plain words.
    ann.send("PRIVMSG mesyx :?OTRv23?").await;
    ann.send("PRIVMSG mesyx :for nobody").await;
    ann.send("NOTICE mesyx :nor this").await;
    let answer = ann.wait("NOTICE Ann :").await;
    assert!(answer.contains("OTR is not here"), "{answer}");
    eve.send("PRIVMSG #x :to the last").await;
    let brought = here.brought("to the last").await;
    assert_eq!(brought[3..], ["irc:net/eve she is here", "irc:net/eve to the last"]);
    ann.send("PING :sync").await;
    let answered = ann.wait("PONG").await;
    assert!(answered.contains("sync"));
    // The echo of what was relayed would be here: all that came from outside are those five lines and the relay's own word.
    assert_eq!(brought.len(), 5);
    assert!(here.bridged.lines().iter().all(|(headers, ..)| headers.to.to_string() == DEMO));

    // The operator takes the voice away: it is over, and what is said then never leaves.
    eve.send("MODE #x -v mesyx").await;
    here.brought("is not relayed to #x").await;
    here.ann_says("after the end").await;
    eve.send("PRIVMSG #x :nor that").await;
    other.send("PRIVMSG mesyx :still there?").await;
    other.wait("#x is not relayed").await;
    eve.send("MODE #x +o mesyx").await;
    eve.wait("NOTICE #x :I am a relay").await;
    here.ann_says("again").await;
    assert_eq!(eve.relayed("again").await, ["<a\u{200b}nn> again"]);
    eve.send("PRIVMSG #x :also again").await;
    let brought = here.brought("also again").await;
    assert_eq!(brought.iter().filter(|line| line.contains("nor that")).count(), 0, "{brought:?}");
    here.bridged.stop().await;
}

#[tokio::test]
async fn a_relay_heeds_topics_kicks_and_groups_that_close() {
    if skipped() {
        return;
    }
    let server = Ngircd::start("irc", free_port(), "").await;
    let mut eve = eve(&server).await;
    let here = Relayed::start(server.port).await;
    eve.wait(":mesyx!").await;
    // Anybody could have set this topic.
    eve.send("TOPIC #x :of cheese, relay:mesyx").await;
    eve.send("PRIVMSG mesyx :who?").await;
    eve.wait("#x is not relayed").await;
    eve.send("MODE #x +t").await;
    eve.wait("NOTICE #x :I am a relay").await;
    here.ann_says("by the topic").await;
    assert_eq!(eve.relayed("by the topic").await, ["<ann> by the topic"]);

    // A group that is for some only is for none outside.
    here.mode(true, 'i').await;
    eve.wait("NOTICE #x :I relay nothing").await;
    here.ann_says("among us").await;
    here.mode(false, 'i').await;
    eve.wait("NOTICE #x :I am a relay").await;
    here.ann_says("open again").await;
    assert_eq!(eve.relayed("open again").await, ["<ann> open again"]);
    // A moderated one hears nobody outside.
    here.mode(true, 'm').await;
    here.say(&here.ann, Line::say("quiet please")).await;
    eve.relayed("quiet please").await;
    eve.send("PRIVMSG #x :heckling").await;

    // Who is removed has to be allowed anew; what is said meanwhile is lost to the channel.
    eve.send("MODE #x +v mesyx").await;
    eve.send("KICK #x mesyx :enough").await;
    let brought = here.brought("eve removed it from #x (enough)").await;
    assert!(!brought.iter().any(|line| line.contains("heckling")), "{brought:?}");
    here.ann_says("where are they?").await;
    assert!(here.bridged.host.checkpoints("relay-line/").await.unwrap().is_empty());
    here.bridged.stop().await;
}

#[tokio::test]
async fn lines_wait_for_the_network_over_a_restart_and_none_comes_twice() {
    if skipped() {
        return;
    }
    let mut server = Ngircd::start("irc", free_port(), "").await;
    let mut first = eve(&server).await;
    let here = Relayed::start(server.port).await;
    first.wait(":mesyx!").await;
    first.send("MODE #x +v mesyx").await;
    first.wait("NOTICE #x :I am a relay").await;

    // More than the network takes at once, and the bridge stops in the midst of it: the next life says the rest, and tells nothing anew.
    let texts: Vec<String> = (0..30).map(|n| format!("<ann> line {n:02}")).collect();
    for text in &texts {
        here.ann_says(&text["<ann> ".len()..]).await;
    }
    let mut said = first.relayed("line 08").await;
    let here = Relayed::on(here.stop().await, server.port).await;
    let mut heard = Vec::new();
    while said.last().is_none_or(|last| !last.contains("line 29")) {
        let line = first.wait("#x :").await;
        match line.split_once(" PRIVMSG #x :") {
            Some((_, text)) => said.push(text.to_owned()),
            None => heard.push(line),
        }
    }
    assert_eq!(said, texts);
    assert!(!heard.iter().any(|line| line.contains("NOTICE")), "{heard:?}");

    // The bridge stops while the network has not answered for a line: that is waited for.
    here.keeps(0).await;
    server.signal("-STOP");
    here.ann_says("frozen").await;
    here.keeps(1).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let goes_on = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        server.signal("-CONT");
    };
    let (kept, ()) = tokio::join!(here.stop(), goes_on);
    let here = Relayed::on(kept, server.port).await;
    let mut said = Vec::new();
    loop {
        let line = first.wait("#x").await;
        match line.split_once(" PRIVMSG #x :") {
            Some((_, text)) => said.push(text.to_owned()),
            // It hears the group by the time that it is back.
            None if line.contains("JOIN :#x") => break,
            None => {}
        }
    }
    here.ann_says("thawed").await;
    said.extend(first.relayed("thawed").await);
    assert_eq!(said, ["<ann> frozen", "<ann> thawed"]);

    // Said while the network is away. All before it was answered for.
    here.keeps(0).await;
    server.end();
    drop(first);
    here.ann_says("in the dark").await;
    here.ann_says("still dark").await;
    here.keeps(2).await;
    let kept = here.stop().await;
    server.run().await;
    let mut eve = eve(&server).await;
    let here = Relayed::on(kept, server.port).await;
    assert_eq!(eve.relayed("still dark").await, ["<ann> in the dark", "<ann> still dark"]);
    eve.send("PRIVMSG #x :light").await;
    here.brought("light").await;
    here.ann_says("at last").await;
    assert_eq!(eve.relayed("at last").await, ["<ann> at last"]);
    here.keeps(0).await;
    here.bridged.stop().await;
}

#[tokio::test]
async fn a_relay_founds_no_channel_and_tells_when_it_may_not_hear() {
    if skipped() {
        return;
    }
    let server = Ngircd::start("irc", free_port(), "").await;
    let mut bob = Other::connect(server.port, "bob").await;
    let here = Relayed::start(server.port).await;
    // It answers, so it has joined by then; and it leaves: who comes is the channel's operator.
    timeout(PATIENCE, async {
        loop {
            bob.send("PRIVMSG mesyx :who?\r\nPING :asked").await;
            let (mut answered, mut line) = (false, String::new());
            while !line.contains("asked") {
                line = bob.next().await.unwrap();
                answered |= line.contains("NOTICE bob :#x is not relayed");
            }
            if answered {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    timeout(Duration::from_secs(60), async {
        loop {
            bob.send("MODE #x").await;
            // ERR_NOSUCHNICK, which here means a channel too, or how it is.
            if bob.wait(" #x ").await.contains(" 401 ") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("the relay leaves a channel that it made");
    bob.send("JOIN #x").await;
    assert!(bob.wait(" 353 ").await.ends_with(":@bob"));
    here.bridged.stop().await;

    let host = MemoryHost::new("example.org".parse().unwrap());
    host.grant_only([Grant::Accept, Grant::Deliver, Grant::Checkpoint, Grant::Signal]);
    host.add_user("cy", "pw").unwrap();
    let user = host.session("cy").unwrap().user().clone();
    let relay = serde_json::json!({ "nick": "mesyx", "channels": [{ "name": "#x", "group": "#demo" }] });
    let bridged = Bridged::again(host, user, server.port, serde_json::json!({ "network.relay": relay }));
    timeout(PATIENCE, async {
        let told = |report: &Health| matches!(report, Health::Degraded(why) if why.contains("grant 'guests'"));
        while !bridged.host.health_reports().iter().any(told) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    bridged.stop().await;
}
