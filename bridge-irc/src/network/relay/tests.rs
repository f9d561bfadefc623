use super::config::RelayChannel;
use super::tie::{Look, Tie, Turn};
use super::words::{is_otr, lines};
use crate::network::config::IrcNetworkConfig;
use crate::network::proto::Standing;
use mesyx_sdk::{Config, Group, Host, MemoryHost, Timestamp, Verb};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn host() -> MemoryHost {
    MemoryHost::new("example.org".parse().unwrap())
}

fn tie() -> Tie {
    let config = RelayChannel { name: "#X".into(), key: None, group: "#Demo".into() };
    Tie::new("net", &config, &host()).unwrap()
}

fn group(modes: &str) -> Group {
    Group {
        address: "mesyx:#demo@example.org".parse().unwrap(),
        name: "#Demo".into(),
        created: Timestamp(0),
        topic: None,
        members: Vec::new(),
        modes: modes.chars().map(|mode| (mode, String::new())).collect(),
        lists: BTreeMap::new(),
    }
}

fn standing(signs: &str, topic: &str, guarded: bool) -> Standing {
    Standing { signs: signs.into(), topic: topic.into(), guarded, ..Standing::default() }
}

const BEGAN: Option<Turn> = Some(Turn::Began { inside: true });

#[test]
fn a_channel_allows_by_voice_until_it_takes_it_away() {
    let mut tie = tie();
    tie.group_is(Some(&group("nt")));
    assert_eq!(tie.look(Some(&standing("", "", true)), "mesyx"), Look::Same);
    assert!(!tie.is_on() && tie.is_off() && tie.turn(true).is_none());
    assert_eq!(tie.look(Some(&standing("+", "", true)), "mesyx"), Look::Changed);
    assert_eq!((tie.turn(true), tie.turn(true)), (BEGAN, None));
    // The connection ends, and the server has forgotten the voice: the channel's word counts on.
    tie.left();
    assert!(tie.is_on());
    assert_eq!(tie.look(Some(&standing("", "", true)), "mesyx"), Look::Same);
    assert_eq!((tie.is_on(), tie.turn(true)), (true, None));
    assert_eq!(tie.look(Some(&standing("@", "", true)), "mesyx"), Look::Same);
    // Taken away: that is a word, too, and counts over the next connection.
    assert_eq!(tie.look(Some(&standing("", "", true)), "mesyx"), Look::Changed);
    assert!(matches!(tie.turn(true), Some(Turn::Ended(why)) if why.contains("voice")));
    tie.left();
    assert_eq!(tie.look(Some(&standing("", "", true)), "mesyx"), Look::Same);
    assert!(tie.is_off() && tie.kept().is_none());
}

#[test]
fn a_topic_counts_only_where_operators_set_it() {
    let mut tie = tie();
    tie.group_is(Some(&group("")));
    for (topic, guarded) in [
        ("relay:mesyx", false),
        ("relay:mesyx2", true),
        ("no-relay:mesyx", true),
        ("relay: mesyx", true),
        ("relay:other", true),
    ] {
        assert_eq!(tie.look(Some(&standing("", topic, guarded)), "mesyx"), Look::Same, "{topic}");
        assert!(tie.is_off());
    }
    let topic = "of cheese | Relay:Mesyx.";
    assert_eq!(tie.look(Some(&standing("", topic, true)), "mesyx"), Look::Changed);
    assert_eq!(tie.turn(true), BEGAN);
    // It is there to be read after each connection: gone then, it counts no more.
    tie.left();
    assert_eq!(tie.look(Some(&standing("", "of cheese", true)), "mesyx"), Look::Changed);
    assert!(matches!(tie.turn(true), Some(Turn::Ended(why)) if why.contains("topic")));
}

#[test]
fn who_made_the_channel_by_joining_it_was_allowed_by_nobody() {
    let mut tie = tie();
    tie.group_is(Some(&group("")));
    let alone = Standing { alone: true, ..standing("@", "", false) };
    assert_eq!(tie.look(Some(&alone), "mesyx"), Look::Founded);
    assert!(tie.is_off());
    // Alone later on, with a voice that somebody gave: that is another thing.
    tie.look(Some(&standing("", "", false)), "mesyx");
    tie.look(Some(&standing("+", "", false)), "mesyx");
    assert_eq!(tie.turn(true), BEGAN);
    assert_eq!(tie.look(Some(&Standing { alone: true, ..standing("+", "", false) }), "mesyx"), Look::Same);
    // Where everybody had gone, those who come are told again.
    tie.left();
    assert_eq!(tie.look(Some(&alone), "mesyx"), Look::Founded);
    assert_eq!(tie.turn(false), None);
    tie.look(Some(&standing("", "", false)), "mesyx");
    assert_eq!((tie.turn(true), tie.turn(true)), (Some(Turn::Began { inside: false }), None));
}

#[test]
fn a_group_that_is_not_open_to_all_is_not_relayed() {
    let mut tie = tie();
    tie.look(Some(&standing("+", "", true)), "mesyx");
    // Not known yet: nothing goes, and what waits is kept.
    assert!(!tie.is_on() && !tie.is_off());
    for modes in ["s", "i", "k", "ntk"] {
        tie.group_is(Some(&group("nt")));
        assert_eq!(tie.turn(true), BEGAN);
        tie.group_is(Some(&group(modes)));
        assert!(tie.is_off(), "{modes}");
        assert!(matches!(tie.turn(true), Some(Turn::Ended(why)) if why.contains("+s")));
    }
    tie.group_is(None);
    assert!(tie.is_off());
    tie.group_is(Some(&group("m")));
    assert!(tie.is_on() && tie.moderated);
    // Removed from the channel: only a new word of the channel's counts.
    assert!(tie.withdraw("out".into()) && !tie.withdraw("out".into()));
    assert_eq!(tie.look(Some(&standing("", "", true)), "mesyx"), Look::Same);
    assert!(tie.is_off());
}

#[tokio::test]
async fn what_a_channel_allowed_lasts() {
    let host = host();
    let config = RelayChannel { name: "#x".into(), key: None, group: "#demo".into() };
    let mut tie = Tie::load(&host, "net", &config).await.unwrap();
    tie.group_is(Some(&group("")));
    tie.look(Some(&standing("+", "", true)), "mesyx");
    tie.turn(true);
    host.set_checkpoint(tie.key(), tie.kept()).await.unwrap();
    let mut tie = Tie::load(&host, "net", &config).await.unwrap();
    tie.group_is(Some(&group("")));
    tie.look(Some(&standing("", "", true)), "mesyx");
    assert_eq!((tie.is_on(), tie.turn(true)), (true, None));
    // For this group only.
    let other = RelayChannel { group: "#other".into(), ..config };
    assert!(!Tie::load(&host, "net", &other).await.unwrap().allowed());
}

fn said(verb: Verb, nick: &str, taken: bool, text: &str) -> Vec<String> {
    lines(verb, nick, taken, text, 60).into_iter().map(|line| String::from_utf8(line).unwrap()).collect()
}

#[test]
fn every_line_has_its_speaker_in_front() {
    assert_eq!(said(Verb::Say, "ann", false, "hello"), ["<ann> hello"]);
    assert_eq!(said(Verb::Action, "ann", false, "waves"), ["* ann waves"]);
    assert_eq!(said(Verb::Notice, "ann", false, "beep"), ["-ann- beep"]);
    assert_eq!(said(Verb::Say, "ann", true, "hello"), ["<a\u{200b}nn> hello"]);
    assert_eq!(said(Verb::Say, "ann", false, "one\ntwo"), ["<ann> one", "<ann> two"]);
    assert_eq!(said(Verb::Say, "ann", false, "\u{1}VERSION\u{1}"), ["<ann>  VERSION "]);
    assert_eq!(said(Verb::Say, "a\u{3}4\u{202e}n\u{200b} <n>\n", false, "x"), ["<a4n__n_> x"]);
    assert_eq!(said(Verb::Say, "\u{1}", false, "x"), ["<?> x"]);
    let many = said(Verb::Say, "ann", false, &"a line\n".repeat(50));
    assert_eq!((many.len(), many[19].as_str()), (20, "<ann> [31 more lines, which are too many for here]"));
    assert!(is_otr(b"?OTRv23?") && is_otr(b"?OTR:AAMC") && !is_otr(b"what is OTR?"));
}

proptest! {
    #[test]
    fn nothing_gets_past_the_prefix(nick in any::<String>(), text in any::<String>(), taken in any::<bool>(), room in 64_usize..500) {
        for line in lines(Verb::Say, &nick, taken, &text, room) {
            prop_assert!(line.len() <= room.max(80));
            prop_assert!(!line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0 | 1)));
            let line = String::from_utf8(line).unwrap();
            let name = line.strip_prefix('<').and_then(|rest| rest.split_once("> ")).map(|(name, _)| name);
            prop_assert!(name.is_some_and(|name| !name.is_empty() && !name.contains(char::is_whitespace) && name.len() <= 70));
        }
    }
}

#[test]
fn all_that_is_wrong_with_relays_is_told_at_once() {
    let relay = |nick: &str, channels: serde_json::Value| serde_json::json!({ "nick": nick, "channels": channels });
    let network =
        |name: &str, relay: serde_json::Value| serde_json::json!({ "name": name, "host": "h", "relay": relay });
    let tied = |name: &str, group: &str| serde_json::json!({ "name": name, "group": group });
    let good = network("a", relay("mesyx", serde_json::json!([tied("#x", "#x"), tied("#y", "#y")])));
    let check = |networks: Vec<serde_json::Value>| {
        let config: IrcNetworkConfig = Config::new(serde_json::json!({ "network": networks })).parse().unwrap();
        config.check().map_err(|errors| errors.0.into_iter().map(|error| error.path).collect::<Vec<_>>())
    };
    assert_eq!(check(vec![good.clone()]), Ok(()));
    let channels = [tied("x", "#q"), tied("#z", "z"), tied("#Z", "#X"), tied("#w,#v", "#a b")];
    let mut bad = network("b", relay("1 nick", serde_json::json!(channels)));
    bad["tls"] = false.into();
    bad["relay"]["password_secret"] = "s".into();
    bad["relay"]["channels"][1]["key"] = "two words".into();
    let wrong = check(vec![good, bad, network("c", relay("r", serde_json::json!([])))]).unwrap_err();
    let paths = [
        "network[1].relay.nick",
        "network[1].relay.password_secret",
        "network[1].relay.channels[0].name",
        "network[1].relay.channels[1].key",
        "network[1].relay.channels[1].group",
        "network[1].relay.channels[2].name",
        "network[1].relay.channels[2].group",
        "network[1].relay.channels[3].name",
        "network[1].relay.channels[3].group",
        "network[2].relay.channels",
    ];
    assert_eq!(wrong, paths);
}
