use super::*;
use proptest::prelude::*;

fn mail(text: &str) -> MailAddress {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn domain() -> Domain {
    "example.org".parse().unwrap()
}

#[test]
fn spellings_of_one_address_are_equal() {
    for (one, other) in [
        ("ann@B\u{fc}cher.example", "ann@xn--bcher-kva.example"),
        ("ann@bu\u{308}cher.example", "ann@XN--BCHER-KVA.EXAMPLE"),
        ("\"ann\"@example.org", "ann@EXAMPLE.org"),
        ("\"a\\nn\"@example.org", "ann@example.org"),
        ("e\u{301}ve@example.org", "\u{e9}ve@example.org"),
        ("a@[IPv6:::1]", "a@[ipv6:0:0:0:0:0:0:0:1]"),
    ] {
        assert_eq!(mail(one), mail(other), "{one}");
        assert_eq!(mail(one).to_string(), mail(other).to_string());
    }
    assert_ne!(mail("Ann@example.org"), mail("ann@example.org"));
    assert_eq!(mail("a@xn--bcher-kva.example").domain().to_unicode(), "b\u{fc}cher.example");
}

#[test]
fn quoting_is_kept_where_it_is_needed() {
    for text in ["\"a b\"@x.org", "\"a\\\"b\\\\\"@x.org", "\".a\"@x.org", "\"a@b\"@x.org", "a.b@[127.0.0.1]"] {
        assert_eq!(mail(text).to_string(), text);
    }
}

#[test]
fn what_is_no_address_is_refused() {
    for text in [
        "",
        "@",
        "a",
        "a@",
        "@b",
        "a@@b",
        "a b@c",
        ".a@b",
        "a.@b",
        "a..b@c",
        "a@b..c",
        "a@b.",
        "a@-b",
        "a@b-",
        "\"a@b",
        "\"a\"b@c",
        "a@[1.2.3]",
        "a@[IPv6:x]",
        "a@[",
        "a@b c",
        "<a@b>",
        "a@b,c@d",
        "@x:a@b",
        "a(c)@b",
        "a@b\0",
        "\"a\0\"@b",
        "\"a\\",
        "a@xn--\u{fc}",
    ] {
        assert!(text.parse::<MailAddress>().is_err(), "{text:?}");
    }
    assert!(format!("{}@b", "a".repeat(64)).parse::<MailAddress>().is_ok());
    assert!(format!("{}@b", "a".repeat(65)).parse::<MailAddress>().is_err());
    let long = format!("a@{}.org", vec!["b".repeat(60); 4].join("."));
    assert!(long.parse::<MailAddress>().is_ok());
    assert!(format!("{}{long}", "a".repeat(10)).parse::<MailAddress>().is_err());
}

#[test]
fn no_address_makes_a_second_line() {
    for c in ['\r', '\n', '\0', '\u{7f}', '\u{85}'] {
        for text in [
            format!("a{c}b@c"),
            format!("\"a{c}b\"@c"),
            format!("\"a\\{c}b\"@c"),
            format!("a@b{c}c"),
            format!("a@[::1{c}]"),
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
        assert!(MailAddress::new(&format!("a{c}b"), domain()).is_err());
        assert!(IrcAddress::new("net", &format!("#a{c}b"), CaseMapping::Ascii).is_err());
        assert!(IrcAddress::new(&format!("n{c}t"), "#a", CaseMapping::Ascii).is_err());
    }
}

#[test]
fn irc_names_in_mail() {
    let new = |name: &str| IrcAddress::new("libera", name, CaseMapping::Rfc1459).unwrap();
    for (name, spelled) in [
        ("#rust", "#rust@libera.irc.example.org"),
        ("#C++", "#c=2b=2b@libera.irc.example.org"),
        ("#B\u{fc}cher", "=u#bcher-4ya@libera.irc.example.org"),
        ("ann[a\\way]~", "ann=7ba=7cway=7d=5e@libera.irc.example.org"),
        ("#a=b.c", "#a=3db=2ec@libera.irc.example.org"),
        ("#\u{43c}\u{443}\u{437}\u{44b}\u{43a}\u{430}", "=u#-8sbumi6b5c@libera.irc.example.org"),
    ] {
        let spelling = new(name).to_mail(&domain()).unwrap();
        assert_eq!(spelling.to_string(), spelled);
        assert_eq!(IrcAddress::from_mail(&spelling, &domain(), CaseMapping::Rfc1459), Ok(new(name)));
        let upper = MailAddress::new(&spelling.local().to_ascii_uppercase(), spelling.domain().clone()).unwrap();
        assert_eq!(IrcAddress::from_mail(&upper, &domain(), CaseMapping::Rfc1459), Ok(new(name)));
    }
}

#[test]
fn only_the_one_spelling_is_read() {
    for text in [
        "#=61@libera.irc.example.org",
        "#=@libera.irc.example.org",
        "#=2@libera.irc.example.org",
        "#=zz@libera.irc.example.org",
        "#=80@libera.irc.example.org",
        "#=+5@libera.irc.example.org",
        "=u#abc-@libera.irc.example.org",
        "=u@libera.irc.example.org",
        "#a+b@libera.irc.example.org",
        "#a=0d@libera.irc.example.org",
        "#a=20b@libera.irc.example.org",
        "a=21b=40c@libera.irc.example.org",
        "=3aquit@libera.irc.example.org",
        "#x@irc.example.org",
        "#x@a.b.irc.example.org",
        "#x@libera.irc.example.net",
        "#x@liberairc.example.org",
    ] {
        assert!(IrcAddress::from_mail(&mail(text), &domain(), CaseMapping::Ascii).is_err(), "{text}");
    }
}

#[test]
fn limits_of_irc_names() {
    let new = |name: &str| IrcAddress::new("net", name, CaseMapping::Ascii);
    assert!(new(&format!("#{}", "a".repeat(63))).unwrap().to_mail(&domain()).is_ok());
    assert!(new(&format!("#{}", "a".repeat(64))).is_err());
    assert!(new(&format!("#{}", ".".repeat(21))).unwrap().to_mail(&domain()).is_ok());
    let error = new(&format!("#{}", ".".repeat(22))).unwrap().to_mail(&domain()).unwrap_err();
    assert!(error.to_string().contains("too long"));
    // 31 Cyrillic letters are all that IRC's 64 bytes can hold.
    assert!(new(&format!("#{}", "\u{439}\u{44f}\u{430}".repeat(10))).unwrap().to_mail(&domain()).is_ok());
    for name in ["", " ", "#a b", "#a,b", ":a", "a!b@c", "$*", "*", "@#a", "a.b", "%x"] {
        assert!(new(name).is_err(), "{name}");
    }
    for network in ["", "-a", "a-", "a.b", "a_b", "\u{fc}", "a b"] {
        assert!(IrcAddress::new(network, "#a", CaseMapping::Ascii).is_err(), "{network}");
    }
}

#[test]
fn case_mappings_differ() {
    let equal = |one: &str, other: &str, by: CaseMapping| by.fold(one) == by.fold(other);
    use CaseMapping::{Ascii, Rfc1459, Rfc1459Strict};
    assert!(equal("#Ab", "#aB", Ascii) && !equal("a[", "a{", Ascii) && !equal("a~", "a^", Rfc1459Strict));
    assert!(equal("a[]\\", "a{}|", Rfc1459Strict) && equal("a~", "a^", Rfc1459) && equal("a[]\\", "a{}|", Rfc1459));
    assert_eq!("rfc1459".parse(), Ok(Rfc1459));
    assert!("rfc3454".parse::<CaseMapping>().is_err());
}

#[test]
fn look_alikes_are_flagged() {
    use Suspicion::{Bidirectional, Invisible, LooksLatin, MixedScripts};
    for (text, wanted) in [
        ("ann@example.org", None),
        ("j\u{f6}rg.m\u{fc}ller@b\u{fc}cher.example", None),
        ("\u{438}\u{432}\u{430}\u{43d}@\u{43f}\u{43e}\u{447}\u{442}\u{430}.\u{440}\u{444}", None),
        ("\u{438}\u{432}\u{430}\u{43d}@example.org", None),
        ("\u{3b1}\u{3bb}\u{3ad}\u{3be}\u{3b7}\u{3c2}@example.org", None),
        ("\u{5c71}\u{7530}\u{3055}\u{3093}\u{30e1}x@example.org", None),
        ("\u{5d3}\u{5d5}\u{5d3}@example.org", None),
        ("ann@\u{440}aypal.example", Some(MixedScripts)),
        ("\u{430}nn@example.org", Some(MixedScripts)),
        ("ann@\u{430}\u{440}\u{440}\u{4cf}\u{435}.com", Some(LooksLatin)),
        ("\u{441}\u{43e}\u{441}\u{43e}@example.org", Some(LooksLatin)),
        ("ann\u{202e}gro@example.org", Some(Bidirectional)),
        ("ann\u{2066}x@example.org", Some(Bidirectional)),
        ("a\u{5d3}b@example.org", Some(Bidirectional)),
        ("a\u{200b}nn@example.org", Some(Invisible)),
        ("\"a\u{a0}nn\"@example.org", Some(Invisible)),
        ("a\u{ad}nn@example.org", Some(Invisible)),
        ("irc:net/#\u{440}ust", Some(MixedScripts)),
        ("mesyx:\u{430}nn@example.org", Some(MixedScripts)),
    ] {
        let address: Address = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(address.suspicious(), wanted, "{text}");
    }
    // What could be taken for another domain is shown as it is on the wire.
    assert!(mail("ann@\u{440}aypal.example").domain().to_unicode().starts_with("xn--"));
}

/// Texts near to addresses, with all that could go wrong in them.
fn nearly() -> impl Strategy<Value = String> {
    let pieces = proptest::sample::select(vec![
        "a",
        "B",
        "1",
        "@",
        "@",
        ".",
        "\"",
        "\\",
        "[",
        "]",
        "IPv6:",
        "::1",
        "127.0.0.1",
        "\u{fc}",
        "u\u{308}",
        "\u{37e}",
        "\u{212a}",
        "\u{df}",
        "xn--",
        "xn--bcher-kva",
        "-",
        "_",
        " ",
        "\r",
        "\n",
        "\0",
        "(",
        "<",
        ">",
        ",",
        ";",
        "\u{202e}",
        "\u{5d0}",
        "\u{3002}",
        "irc:",
        "mesyx:",
        "/",
        "#",
        "=2e",
        "=u",
    ]);
    proptest::collection::vec(pieces, 0..14).prop_map(|pieces| pieces.concat())
}

fn round_trip(text: &str) -> Result<(), TestCaseError> {
    let Ok(address) = text.parse::<Address>() else { return Ok(()) };
    let printed = address.to_string();
    prop_assert!(!printed.chars().any(char::is_control), "{:?}", printed);
    prop_assert_eq!(printed.parse::<Address>(), Ok(address.clone()), "{:?} -> {:?}", text, printed);
    let _ = address.suspicious();
    if let Some(mail) = address.as_mail() {
        let shown =
            format!("\"{}\"@{}", mail.local().replace('\\', "\\\\").replace('"', "\\\""), mail.domain().to_unicode());
        prop_assert_eq!(shown.parse::<MailAddress>(), Ok(mail.clone()), "U-labels: {:?}", shown);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn addresses_round_trip(text in nearly()) {
        round_trip(&text)?;
        round_trip(&format!("{text}@example.org"))?;
        round_trip(&format!("a@{text}.org"))?;
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        round_trip(&text)?;
    }

    #[test]
    fn any_local_part_round_trips(local in any::<String>()) {
        if let Ok(address) = MailAddress::new(&local, domain()) {
            prop_assert_eq!(address.to_string().parse(), Ok(address));
        }
    }

    #[test]
    fn irc_names_round_trip(
        name in prop_oneof![any::<String>(), "[#&+!]?[a-zA-Z0-9=.#_{}|^~\\[\\]\\\\-]{1,20}", "#[а-яé=.a-z-]{1,12}"],
        casemapping in prop_oneof![Just(CaseMapping::Ascii), Just(CaseMapping::Rfc1459), Just(CaseMapping::Rfc1459Strict)],
    ) {
        let Ok(address) = IrcAddress::new("net", &name, casemapping) else { return Ok(()) };
        prop_assert_eq!(Address::from(address.clone()).to_string().parse::<Address>(), Ok(address.clone().into()));
        let Ok(spelled) = address.to_mail(&domain()) else { return Ok(()) };
        prop_assert!(!spelled.needs_utf8() && !spelled.to_string().starts_with('"'));
        prop_assert_eq!(IrcAddress::network_of(&spelled, &domain()), Some("net"));
        prop_assert_eq!(IrcAddress::from_mail(&spelled, &domain(), casemapping), Ok(address));
    }

    #[test]
    fn what_is_read_as_an_irc_name_is_its_spelling(local in "[a-z0-9#=u_-]{1,20}") {
        let Ok(written) = MailAddress::new(&local, "net.irc.example.org".parse().unwrap()) else { return Ok(()) };
        if let Ok(address) = IrcAddress::from_mail(&written, &domain(), CaseMapping::Ascii) {
            prop_assert_eq!(address.to_mail(&domain()), Ok(written));
        }
    }
}

#[test]
fn names_of_networks() {
    for name in ["xmpp", "a", "matrix-2", "abcdefghijklmnop"] {
        assert_eq!(NetworkName::new(name).unwrap().as_str(), name);
        assert_eq!(name.parse::<AddressKind>().unwrap().to_string(), name);
    }
    for name in ["", "-a", "a-", "X", "a.b", "a b", "abcdefghijklmnopq", "irc", "mail", "mesyx", "\u{e9}"] {
        assert!(NetworkName::new(name).is_err(), "{name}");
    }
    assert_eq!("mail".parse(), Ok(AddressKind::Mail));
    let other = |text: &str| text.parse::<Address>();
    assert!(matches!(other("xmpp:a@b"), Ok(Address::Other(_))));
    assert!(matches!(other("\"xmpp:a\"@b.example"), Ok(Address::Mail(_))));
    assert!(matches!(other("xmpp@[IPv6:::1]"), Ok(Address::Mail(_))));
    for wrong in ["xmpp:", "xmpp:a\nb", "xmpp:a\0", ":a", "XMPP:a@b"] {
        assert!(other(wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn each_name_elsewhere_has_one_spelling(name in prop_oneof!["\\PC{1,40}", "[a.Σé]{1,9}"], other in "[a-z=.@A-Z0-9u-]{1,40}") {
        let network = NetworkName::new("xmpp").unwrap();
        if let Ok(address) = OtherAddress::new(network, &name) {
            prop_assert_eq!(address.to_string().parse::<Address>(), Ok(Address::Other(address.clone())));
            if let Ok(mail) = address.to_mail(&domain()) {
                prop_assert!(mail.to_string().is_ascii() && !mail.to_string().contains('"'), "{}", mail);
                prop_assert_eq!(OtherAddress::from_mail(&mail, &domain()), Some(address));
            }
        }
        if let Ok(mail) = format!("{other}@xmpp.x.example.org").parse::<MailAddress>()
            && let Some(read) = OtherAddress::from_mail(&mail, &domain())
        {
            let again = read.to_mail(&domain()).unwrap();
            prop_assert_eq!(again.local(), mail.local().to_ascii_lowercase());
        }
    }
}
