use super::*;
use crate::settings::{Alias, DomainSettings};

const ALICE: UserId = UserId([1; 16]);
const BOB: UserId = UserId([2; 16]);

fn settings() -> Settings {
    let mut settings =
        Settings::new("data".into(), "key".into(), "mail.example.org".into(), "example.org".parse().unwrap());
    settings.domains.push(DomainSettings { domain: "bücher.example".parse().unwrap(), catch_all: Some("bob".into()) });
    let alias = |address: &str, targets: &[&str]| Alias {
        address: address.parse().unwrap(),
        targets: targets.iter().map(|target| (*target).to_owned()).collect(),
    };
    settings.aliases = vec![
        alias("team@example.org", &["alice", "bob@example.org"]),
        alias("all@example.org", &["team@example.org", "Alice"]),
        alias("odd+name@example.org", &["bob"]),
        alias("ghost@example.org", &["carol"]),
    ];
    settings.postmaster = Some("bob".into());
    settings
}

fn directory_of(settings: &Settings) -> Directory {
    let member = |id, name: &str, addresses: &[&str]| Member {
        id,
        name: name.into(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        disabled: false,
    };
    let members = vec![
        member(ALICE, "alice", &["alice@example.org", "jörg@bücher.example"]),
        member(BOB, "bob", &["bob@example.org", "\"a b\"@example.org"]),
    ];
    Directory::new(settings, members)
}

fn resolve(address: &str, sender: &Sender) -> (RecipientStatus, Vec<UserId>) {
    let (status, users) = directory_of(&settings()).resolve(&Address::Mail(address.parse().unwrap()), sender);
    (status, users.to_vec())
}

#[test]
fn every_spelling_of_an_address_finds_its_users() {
    let cases: [(&str, &[UserId]); 22] = [
        ("alice@example.org", &[ALICE]),
        ("ALICE@EXAMPLE.ORG", &[ALICE]),
        ("alice+lists@example.org", &[ALICE]),
        ("alice+a+b@example.org", &[ALICE]),
        ("\"alice\"@example.org", &[ALICE]),
        ("\"a b\"@example.org", &[BOB]),
        ("\"A B+c\"@example.org", &[BOB]),
        ("jörg@bücher.example", &[ALICE]),
        ("JÖRG@xn--bcher-kva.example", &[ALICE]),
        ("jo\u{308}rg@BÜCHER.example", &[ALICE]),
        ("anybody@bücher.example", &[BOB]),
        ("+x@bücher.example", &[BOB]),
        ("team@example.org", &[ALICE, BOB]),
        ("team+x@example.org", &[ALICE, BOB]),
        ("all@example.org", &[ALICE, BOB]),
        ("odd+name@example.org", &[BOB]),
        ("postmaster@example.org", &[BOB]),
        ("PostMaster@bücher.example", &[BOB]),
        ("abuse@example.org", &[BOB]),
        ("abuse+x@example.org", &[BOB]),
        ("postmaster@mail.example.org", &[BOB]),
        ("abuse@mail.example.org", &[BOB]),
    ];
    for (address, users) in cases {
        assert_eq!(resolve(address, &Sender::Stranger), (RecipientStatus::Local, users.to_vec()), "{address}");
    }
}

#[test]
fn nothing_makes_it_relay() {
    let unknown = [
        "nobody@example.org",
        "+x@example.org",
        "odd@example.org",
        "ghost@example.org",
        "alice@mail.example.org",
        "someone%example.com@example.org",
        "example.com!someone@example.org",
        "\"someone@example.com\"@example.org",
        "\"@example.com:someone\"@example.org",
        "\"alice@example.org\"@example.org",
        "alice%example.org@example.org",
        "用户@example.org",
    ];
    for address in unknown {
        assert_eq!(resolve(address, &Sender::Stranger), (RecipientStatus::Unknown, vec![]), "{address}");
    }
    let foreign = [
        "alice@example.com",
        "alice@sub.example.org",
        "alice@notexample.org",
        "\"alice@example.org\"@example.com",
        "alice%example.org@example.com",
        "postmaster@example.com",
        "alice@[127.0.0.1]",
        "postmaster@[IPv6:::1]",
        "rust@a.b.irc.example.org",
        "rust@irc.example.org",
        "rust@libera.irc.example.com",
    ];
    for address in foreign {
        for sender in [Sender::Stranger, Sender::User(ALICE)] {
            assert_eq!(resolve(address, &sender), (RecipientStatus::Foreign, vec![]), "{address}");
        }
    }
    for sender in [Sender::Stranger, Sender::User(ALICE)] {
        let (status, users) = resolve("#rust@libera.irc.example.org", &sender);
        assert!(matches!(status, RecipientStatus::Refused(_)) && users.is_empty(), "{status:?}");
    }
}

#[test]
fn users_write_as_what_reaches_them() {
    let directory = directory_of(&settings());
    let may = |user, address: &str| directory.may_send_as(user, &address.parse().unwrap());
    for address in ["alice@example.org", "Alice+x@example.org", "team@example.org", "jörg@bücher.example"] {
        assert!(may(ALICE, address), "{address}");
    }
    for address in
        ["bob@example.org", "odd+name@example.org", "postmaster@example.org", "x@bücher.example", "a@example.com"]
    {
        assert!(!may(ALICE, address), "{address}");
    }
    assert!(may(BOB, "postmaster@example.org") && may(BOB, "abuse@mail.example.org"));
    assert!(!may(BOB, "postmaster@example.com"));
    // A catch-all receives for others; it does not speak for them.
    assert!(!may(BOB, "anybody@bücher.example"));
}

#[test]
fn postmaster_is_answered_whatever_the_settings_say() {
    let mut settings = settings();
    for postmaster in [None, Some("nobody".to_owned())] {
        settings.postmaster = postmaster;
        let directory = directory_of(&settings);
        let (status, users) =
            directory.resolve(&Address::Mail("postmaster@example.org".parse().unwrap()), &Sender::Stranger);
        assert_eq!((status, &*users), (RecipientStatus::Local, &[ALICE][..]));
    }
}

#[test]
fn separators_are_the_operators() {
    let mut settings = settings();
    let local = |settings: &Settings, address: &str| {
        let address = Address::Mail(address.parse().unwrap());
        directory_of(settings).resolve(&address, &Sender::Stranger).0 == RecipientStatus::Local
    };
    settings.separators = vec!['-', '+'];
    assert!(local(&settings, "alice-x@example.org") && local(&settings, "alice+x@example.org"));
    settings.separators.clear();
    assert!(!local(&settings, "alice+x@example.org") && local(&settings, "odd+name@example.org"));
}

#[test]
fn loops_and_contradictions_are_told() {
    assert_eq!(settings().check(), Vec::<String>::new());
    assert_eq!(directory_of(&settings()).problems(), ["the alias ghost@example.org: there is no carol"]);
    let mut settings = settings();
    let alias = |address: &str, target: &str| Alias { address: address.parse().unwrap(), targets: vec![target.into()] };
    settings.aliases = vec![
        alias("a@example.org", "b@example.org"),
        alias("b@example.org", "a@example.org"),
        alias("c@example.org", "someone@example.com"),
        alias("d@example.com", "alice"),
        alias("alice@example.org", "bob"),
    ];
    let wrong = settings.check();
    assert_eq!(wrong.len(), 4, "{wrong:?}");
    // A loop that came in all the same ends.
    let directory = directory_of(&settings);
    let (status, _) = directory.resolve(&Address::Mail("a@example.org".parse().unwrap()), &Sender::Stranger);
    assert_eq!(status, RecipientStatus::Unknown);
    // A user's own address is not taken over by an alias.
    let (_, users) = directory.resolve(&Address::Mail("alice@example.org".parse().unwrap()), &Sender::Stranger);
    assert_eq!(*users, [ALICE]);
}
