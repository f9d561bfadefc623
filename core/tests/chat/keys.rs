//! Keys of groups, sealed to keysets whose secret key is elsewhere, or that are sealed anew; changes and what is said of them.

use super::support::{self, Place, login};
use super::{address, change, join, say, texts};
use mesyx_core::Core;
use mesyx_core::admin::Proof;
use mesyx_core::secret_keys::{NewReseal, ResealKey};
use mesyx_sdk::{Conversation, GroupChange, History, MailboxId, Session, Verb};
use sequoia_openpgp::Cert;
use sequoia_openpgp::parse::Parse;
use std::sync::Arc;
use std::time::Duration;

const DEMO: &str = "mesyx:#demo@example.org";

fn proof() -> Proof {
    Proof::Password(support::password("alice"))
}

async fn both(core: &Core) -> (Arc<dyn Session>, Arc<dyn Session>, MailboxId) {
    let (alice, bob) = (login(core, "alice").await, login(core, "bob").await);
    join(&alice).await.unwrap();
    join(&bob).await.unwrap();
    let log = alice.conversation(&Conversation::Group(address(DEMO)), false).await.unwrap().mailbox;
    (alice, bob, log)
}

async fn said(session: &Arc<dyn Session>, log: MailboxId) -> Vec<String> {
    let lines = session.history(log, History::Latest(None), 1000).await.unwrap();
    lines.iter().filter(|line| line.line.verb == Verb::Say).map(|line| line.line.text.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_for_a_member_whose_key_is_elsewhere_are_shown_sealed_and_none_is_lost() {
    let (place, core) = Place::with_users().await;
    let (alice, bob, log) = both(&core).await;
    say(&bob, DEMO, "before").await.unwrap();
    let file = core.export_keyset("alice", "default", proof(), None).await.unwrap().armored;
    core.take_keyset_offline("alice", "default", proof(), &file, None).await.unwrap();
    // The key of what is said now is sealed to a keyset that opens nothing here.
    change(&bob, GroupChange::Leave { reason: String::new() }).await.unwrap();
    join(&bob).await.unwrap();
    for text in ["while it is away", "and again"] {
        say(&bob, DEMO, text).await.unwrap();
    }
    assert_eq!(said(&alice, log).await, [] as [&str; 0], "what can't be opened is left out of the history");
    assert_eq!(said(&bob, log).await.last().unwrap(), "and again");
    let sealed = support::bodies(&alice, log).await;
    assert!(!sealed.is_empty());
    for body in &sealed {
        let text = String::from_utf8_lossy(body);
        assert!(text.contains("multipart/encrypted") && !text.contains("while it is away"), "{text}");
    }
    // She may say something that she can't read back yet, and what she read is marked all the same.
    say(&alice, DEMO, "blind").await.unwrap();
    let info = alice.conversation(&Conversation::Group(address(DEMO)), false).await.unwrap();
    alice.mark_read(log, info.last).await.unwrap();
    let marked = alice.conversation(&Conversation::Group(address(DEMO)), false).await.unwrap();
    assert_eq!(marked.read, marked.last);
    core.bring_keyset_online("alice", "default", proof(), &file, None).await.unwrap();
    let all = ["before", "while it is away", "and again", "blind"];
    assert_eq!(said(&alice, log).await, all);
    drop((alice, bob));
    core.close().await;
    let core = place.open().await;
    let alice = login(&core, "alice").await;
    assert_eq!(said(&alice, log).await, all, "also after a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_groups_are_sealed_anew_with_the_keyset() {
    let (place, core) = Place::with_users().await;
    let (alice, bob, log) = both(&core).await;
    for text in ["one", "two"] {
        say(&bob, DEMO, text).await.unwrap();
    }
    let before: Vec<u32> = support::uids(&alice, log).await;
    let file = core.export_keyset("alice", "default", proof(), None).await.unwrap().armored;
    core.rekey("alice", proof(), None).await.unwrap();
    let cert = Cert::from_bytes(file.expose()).unwrap();
    let name = String::from_utf8(cert.userids().next().unwrap().userid().value().to_vec()).unwrap();
    let old = name.strip_prefix("Mesyx keyset ").unwrap().to_owned();
    say(&bob, DEMO, "three").await.unwrap();
    let keysets = || {
        let database = rusqlite::Connection::open(place.data().join("store/store.db")).unwrap();
        let sql =
            "SELECT count(DISTINCT g.keyset) FROM group_keys g JOIN users u ON u.id = g.user WHERE u.name = 'alice'";
        database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(keysets(), 2);
    let new = NewReseal { user: "alice".into(), from: old, to: "default".into(), key: ResealKey::Proof(proof()) };
    core.start_reseal(new).await.unwrap();
    let done = loop {
        let last = core.reseals().pop().unwrap();
        if last.finished {
            break last;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!((done.failed, done.remaining, done.error), (0, 0, None));
    assert_eq!(keysets(), 1, "every key of a group is sealed to the new keyset");
    let session = login(&core, "alice").await;
    assert_eq!(said(&session, log).await, ["one", "two", "three"]);
    assert_eq!(support::uids(&session, log).await[..before.len()], before, "and shown under the same numbers");
    assert_eq!(said(&bob, log).await, ["one", "two", "three"]);
}

/// Every change is in the log by the time that it is answered, under the key of those whom it concerns.
#[tokio::test]
async fn a_change_and_what_is_said_of_it_are_one() {
    let (_place, core) = Place::with_users().await;
    let (alice, bob, log) = both(&core).await;
    let mut feed = bob.live().await.unwrap();
    change(&alice, GroupChange::Topic("first".into())).await.unwrap();
    change(&alice, GroupChange::Mode { set: true, mode: 'm', parameter: None }).await.unwrap();
    change(&alice, GroupChange::Rank { member: "bob".into(), rank: mesyx_sdk::Rank::Voice }).await.unwrap();
    change(&alice, GroupChange::Leave { reason: "bye".into() }).await.unwrap();
    let heard: Vec<Verb> = [
        super::next_line(&mut feed).await,
        super::next_line(&mut feed).await,
        super::next_line(&mut feed).await,
        super::next_line(&mut feed).await,
    ]
    .iter()
    .map(|line| line.line.verb)
    .collect();
    assert_eq!(heard, [Verb::Topic, Verb::Mode, Verb::Mode, Verb::Part]);
    let lines = bob.history(log, History::Latest(None), 100).await.unwrap();
    let verbs: Vec<Verb> = lines.iter().map(|line| line.line.verb).collect();
    assert_eq!(verbs, [Verb::Join, Verb::Topic, Verb::Mode, Verb::Mode, Verb::Part]);
    assert_eq!(texts(&lines).last(), Some(&"bye"));
    // The one who left has the line of it too, and the heir is the founder with that very change.
    let own = alice.history(log, History::Latest(None), 100).await.unwrap();
    assert_eq!(own.last().map(|line| line.line.verb), Some(Verb::Part));
    let group = bob.groups().await.unwrap().remove(0);
    assert_eq!((group.members[0].name.as_str(), group.members[0].rank), ("bob", mesyx_sdk::Rank::Founder));
    // What the log holds, `trace` tells without a word of what was said.
    let traced = core.trace(&mesyx_sdk::Address::Mail("#demo@irc.example.org".parse().unwrap()), 1);
    assert!(traced.len() >= 5 && traced.iter().all(|line| line.what == "a line of a group"), "{traced:?}");
}

#[tokio::test]
async fn limits_of_groups_are_the_operators() {
    let (place, core) = Place::with_users().await;
    support::add(&core, "carol").await;
    let mut settings = place.settings.clone();
    settings.groups.members = 2;
    settings.groups.groups_of_one = 1;
    settings.groups.topic_bytes = 60;
    settings.groups.name_bytes = 6;
    settings.groups.masks = 1;
    settings.groups.epoch_lines = 2;
    core.reconfigure(settings).unwrap();
    let (alice, bob, log) = both(&core).await;
    let carol = login(&core, "carol").await;
    let refused = |result: Result<Arc<mesyx_sdk::Group>, mesyx_sdk::Error>| result.unwrap_err().to_string();
    assert!(refused(join(&carol).await).contains("(+l)"));
    let other = alice.change_group(&address("mesyx:#other@example.org"), GroupChange::Join { key: None }).await;
    assert!(refused(other).contains("1 groups"));
    let long = carol.change_group(&address("mesyx:#longer@example.org"), GroupChange::Join { key: None }).await;
    assert!(refused(long).contains("6 bytes"));
    assert!(refused(change(&alice, GroupChange::Topic("x".repeat(61))).await).contains("60 bytes"));
    let mask = |mask: &str| GroupChange::List { add: true, mode: 'b', mask: mask.into() };
    change(&alice, mask("a!*@*")).await.unwrap();
    assert!(refused(change(&alice, mask("b!*@*")).await).contains("1 masks"));
    let epochs = || {
        let database = rusqlite::Connection::open(place.data().join("store/store.db")).unwrap();
        database.query_row("SELECT count(DISTINCT epoch) FROM group_keys", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let before = epochs();
    for number in 0..8 {
        say(&bob, DEMO, &number.to_string()).await.unwrap();
    }
    assert!((4..=5).contains(&(epochs() - before)), "a key for two lines: {}", epochs() - before);
    assert_eq!(said(&alice, log).await.len(), 8);
}
