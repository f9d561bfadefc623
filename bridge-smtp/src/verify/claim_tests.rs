use super::*;
use proptest::prelude::*;

fn ours(value: &str) -> bool {
    Claims::new("mail.bücher.example").names_us(value.as_bytes())
}

#[test]
fn our_name_in_any_spelling() {
    for value in [
        " mail.xn--bcher-kva.example; dmarc=pass",
        " mail.bücher.example; dmarc=pass",
        " MAIL.XN--BCHER-KVA.EXAMPLE; dmarc=pass",
        " \"mail.xn--bcher-kva.example\"; dmarc=pass",
        " \"mail.xn--\\bcher-kva.example\"; dmarc=pass",
        " (by us) (really (\\) us)) mail.xn--bcher-kva.example (yes) 1; none",
        "\r\n\tmail.xn--bcher-kva.example\r\n\t1 ; dkim=pass",
        " mail.xn--bcher-kva.example.; spf=pass",
        " mail.xn--bcher-kva.example",
        // Above and below us.
        " xn--bcher-kva.example; spf=pass",
        " inner.mail.xn--bcher-kva.example; spf=pass",
        // Full-width letters and dots are the same name (UTS 46).
        " ｍail．bücher．example; dmarc=pass",
    ] {
        assert!(ours(value), "{value:?}");
    }
}

#[test]
fn what_some_program_may_read_as_our_name() {
    for value in [
        "",
        " ; dmarc=pass",
        " mail.\r\n xn--bcher-kva.example; dmarc=pass",
        " mail.xn--bcher-kva.example dmarc=pass",
        " \"mail.xn--bcher-kva.example; dmarc=pass",
        " (mail.xn--bcher-kva.example; dmarc=pass",
        " =?utf-8?q?mail.xn--bcher-kva.example?=; dmarc=pass",
        " mail.xn--bcher-kva.example/1; dmarc=pass",
        " other.example, mail.xn--bcher-kva.example; dmarc=pass",
        " \"\"; x=y",
    ] {
        assert!(ours(value), "{value:?}");
    }
}

#[test]
fn names_of_others_stay() {
    for value in [
        " mx.google.com; dkim=pass header.i=@example.org",
        " mail.xn--bcher-kva.example.evil.test; dmarc=pass",
        " notmail.xn--bcher-kva.example; dmarc=pass",
        " example; dmarc=pass",
        " mail.example (mail.xn--bcher-kva.example); none",
        " 1.2.3.4 1; none",
        " other.example; x=\"mail.xn--bcher-kva.example; dmarc=pass\"",
    ] {
        assert!(!ours(value), "{value:?}");
    }
}

#[test]
fn claims_go_and_every_other_byte_stays() {
    let trace = "Received: by us\r\n";
    let message = "a: 1\r\nAuthentication-Results: mail.example.org; dmarc=pass\r\n\theader.from=x\r\n\
        Mesyx-PGP: signature=good\r\nmesyx-\u{e9}: no field\r\nauthentication-results : other.example; none\r\nb: 2\r\n \
        AUTHENTICATION-RESULTS: mail.example.org\r\n\r\nMesyx-PGP: in the body\r\n";
    let mut bytes = format!("{trace}{message}").into_bytes();
    assert_eq!(Claims::new("mail.example.org").take_out(&mut bytes, trace.len()), 2);
    let kept = "a: 1\r\nmesyx-\u{e9}: no field\r\nauthentication-results : other.example; none\r\nb: 2\r\n \
        AUTHENTICATION-RESULTS: mail.example.org\r\n\r\nMesyx-PGP: in the body\r\n";
    assert_eq!(String::from_utf8(bytes).unwrap(), format!("{trace}{kept}"));
}

#[test]
fn what_a_sealer_says() {
    let value = b" i=1; mx.example; dkim=pass header.d=a;\r\n\tDMARC = pass (p=reject) header.from=a";
    assert!(says(value, "dmarc", "pass") && says(value, "dkim", "pass") && !says(value, "spf", "pass"));
    for no in [
        "i=1; x; dmarc=fail",
        "i=1; x (; dmarc=pass)",
        "i=1; \"x; dmarc=pass\"",
        "i=1; x; x-dmarc=pass",
        "i=1; x; dmarc=passed",
    ] {
        assert!(!says(no.as_bytes(), "dmarc", "pass"), "{no}");
    }
}

/// A spelling of a name in which a program that follows RFC 8601 reads the name.
fn spelt(name: &'static str) -> impl Strategy<Value = String> {
    let blank = prop::sample::select(vec![
        "",
        " ",
        "\t",
        "\r\n ",
        "(c)",
        "(a (b) \\) c)",
        "\r\n\t(mail.example.org; x=y)\r\n ",
    ]);
    let cased = prop::collection::vec(any::<bool>(), name.len()).prop_map(move |upper| {
        let letter = |(c, upper): (char, bool)| if upper { c.to_ascii_uppercase() } else { c };
        name.chars().zip(upper).map(letter).collect::<String>()
    });
    let version = prop::sample::select(vec!["", " 1", "\r\n 1 "]);
    (blank.clone(), cased, any::<bool>(), blank, version).prop_map(|(before, name, quoted, after, version)| {
        let name = if quoted { format!("\"{name}\"") } else { name };
        format!("{before}{name}{after}{version}; dmarc=pass")
    })
}

proptest! {
    #[test]
    fn no_spelling_of_our_name_stays(value in spelt("mail.example.org")) {
        prop_assert!(Claims::new("mail.example.org").names_us(value.as_bytes()), "{value:?}");
    }

    #[test]
    fn every_spelling_of_anothers_name_stays(value in spelt("mail.example.net")) {
        prop_assert!(!Claims::new("mail.example.org").names_us(value.as_bytes()), "{value:?}");
    }

    #[test]
    fn no_bytes_make_it_fail_and_a_second_time_takes_nothing(
        pieces in prop::collection::vec(prop_oneof![
            Just("Authentication-Results:".to_owned()), Just("Mesyx-PGP: x".to_owned()), Just(" mail.example.org; x".to_owned()),
            Just("\r\n".to_owned()), Just("\r\n ".to_owned()), "[ -~]{0,12}", "\\PC{0,4}",
        ], 0..30),
    ) {
        let claims = Claims::new("mail.example.org");
        let before = pieces.concat().into_bytes();
        let mut bytes = before.clone();
        let gone = claims.take_out(&mut bytes, 0);
        prop_assert_eq!(gone == 0, bytes == before);
        prop_assert_eq!(claims.take_out(&mut bytes, 0), 0);
        let others = |block: &[u8]| -> Vec<Vec<u8>> {
            let others = mime::fields(block).filter(|field| !claims.is_claimed(field));
            others.map(|field| block[field.range].to_vec()).collect()
        };
        prop_assert_eq!(others(&before), others(&bytes));
    }
}
