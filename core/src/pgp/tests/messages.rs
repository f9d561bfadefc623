//! What is protected and what stays visible, and what clients did before.

use super::compose::{self, Protected};
use super::*;
use proptest::prelude::*;

/// A message with a key in its header and one attached.
fn seed() -> Vec<u8> {
    use base64::Engine;
    static SEED: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let make = || {
        let key = correspondent("bob@example.net");
        let address = "bob@example.net".parse().expect("an address");
        let header = autocrypt::header(&address, &key, true).expect("a header");
        let attached = base64::engine::general_purpose::STANDARD.encode(public(&key));
        let head = "From: Bob <bob@example.net>\r\nBcc: eve@example.com\r\nSubject: x\r\n";
        let body = format!(
            "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nhi\r\n--x\r\nContent-Type: application/pgp-keys\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n{attached}\r\n--x--\r\n"
        );
        [head.as_bytes(), &header, body.as_bytes()].concat()
    };
    SEED.get_or_init(make).clone()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Found by fuzzing: from a header whose last line ends with LF alone, the block inside was made so too.
#[test]
fn a_header_that_ends_with_a_bare_line_feed_is_ended_properly() {
    for seed in ["header-ends-with-bare-lf", "inline", "mime", "plain"] {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/pgp_message/");
        measure::look_at(&std::fs::read(format!("{path}{seed}")).expect("a seed"));
    }
    for (header, inside) in
        [("Content-Type: text/html\n", "text/html"), ("Content-Id: <a>\r\nX: y\n", "Content-Id: <a>\r\n")]
    {
        let parted = compose::part(&Content::from(format!("From: a@b.example\r\n{header}\r\nbody\r\n").into_bytes()));
        let payload = String::from_utf8(parted.payload).expect("text");
        let (head, body) = payload.split_once("\r\n\r\n").expect("a body");
        assert!(head.contains(inside.trim_end()) && body == "body\r\n", "{payload:?}");
        assert!(!head.replace("\r\n", "").contains('\n'), "{payload:?}");
    }
}

#[test]
fn what_stands_outside_is_what_delivery_needs() {
    let compose::Parted { payload, outer } = compose::part(MESSAGE.as_bytes());
    assert_eq!(
        text(&outer),
        "Received: from client by mail.example.org\r\nFrom: Alice <alice@example.org>\r\nTo: bob@example.net\r\n\
         Subject: [...]\r\nDate: Mon, 23 Nov 2026 01:00:00 +0000\r\nMessage-ID: <1@example.org>\r\nReferences: <0@example.net>\r\n"
    );
    assert_eq!(
        text(&payload),
        "From: Alice <alice@example.org>\r\nTo: bob@example.net\r\nSubject: the secret plan\r\n\
         Date: Mon, 23 Nov 2026 01:00:00 +0000\r\nMessage-ID: <1@example.org>\r\nX-Note: between us\r\nReferences: <0@example.net>\r\n\
         HP-Outer: From: Alice <alice@example.org>\r\nHP-Outer: To: bob@example.net\r\nHP-Outer: Subject: [...]\r\n\
         HP-Outer: Date: Mon, 23 Nov 2026 01:00:00 +0000\r\nHP-Outer: Message-ID: <1@example.org>\r\n\
         HP-Outer: References: <0@example.net>\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8;\r\n hp=\"cipher\"; protected-headers=\"v1\"\r\n\
         Content-Transfer-Encoding: 8bit\r\n\r\nmeet at nine \u{e9}\r\n"
    );
}

#[test]
fn messages_of_odd_forms_are_taken_apart_too() {
    let parted = compose::part(b"From: a@b\r\nHP-Outer: Subject: lie\r\nSubject: x\r\n y\r\nResent-Bcc: c@d");
    assert_eq!(text(&parted.outer), "From: a@b\r\nSubject: [...]\r\n");
    assert!(
        text(&parted.payload)
            .starts_with("From: a@b\r\nSubject: x\r\n y\r\nHP-Outer: From: a@b\r\nHP-Outer: Subject: [...]\r\n")
    );
    assert!(
        text(&parted.payload).ends_with(
            "Content-Type: text/plain; charset=us-ascii;\r\n hp=\"cipher\"; protected-headers=\"v1\"\r\n\r\n"
        )
    );
    assert!(!text(&parted.payload).contains("c@d") && !text(&parted.payload).contains("lie"));
    let empty = compose::part(b"\r\nbody");
    assert!(empty.outer.is_empty() && empty.payload.ends_with(b"\r\n\r\nbody"));
    let folded = compose::part(b"Content-Type: multipart/mixed;\r\n\tboundary=\"b\" ; \r\n\r\n--b\r\n");
    assert!(text(&folded.payload).contains("Content-Type: multipart/mixed;\r\n\tboundary=\"b\";\r\n hp=\"cipher\""));
    let claimed = compose::part(b"Content-Type: text/plain; hp=\"clear\"\r\n\r\nx");
    assert!(text(&claimed.payload).contains("Content-Type: text/plain; hp=\"clear\"\r\n\r\nx"));
}

#[test]
fn blind_recipients_are_taken_out_and_nothing_else() {
    let with = b"Bcc: eve@example.com,\r\n mallory@example.com\r\nTo: b\r\nBCC: x\r\nSubject: y\r\nresent-bcc: z\r\n\r\nBcc: stays\r\n";
    assert_eq!(compose::without_blind(with).expect("changed"), b"To: b\r\nSubject: y\r\n\r\nBcc: stays\r\n");
    assert_eq!(compose::without_blind(b"To: b\r\n\r\nBcc: stays\r\n"), None);
}

#[test]
fn what_a_client_protected_is_known() {
    let armor = "-----BEGIN PGP MESSAGE-----\r\n\r\nwcBMA\r\n=abcd\r\n-----END PGP MESSAGE-----";
    let mime = |body: &str| {
        format!("Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=x\r\n\r\n{body}")
    };
    let parts = format!(
        "This is an OpenPGP/MIME encrypted message (RFC 4880 and 3156)\r\n--x\r\nContent-Type: application/pgp-encrypted\r\n\
         Content-Description: v\r\n\r\nVersion: 1\r\n\r\n--x\r\nContent-Type: application/octet-stream; name=\"encrypted.asc\"\r\n\
         Content-Disposition: inline; filename=\"encrypted.asc\"\r\n\r\n{armor}\r\n\r\n--x--\r\n"
    );
    let cases = [
        (MESSAGE.to_owned(), Protected::No),
        (mime(&parts), Protected::Encrypted),
        (mime(&parts.replace("--x--", "--x\r\nContent-Type: text/plain\r\n\r\nin clear\r\n--x--")), Protected::Signed),
        (mime("--x\r\n\r\nno armor at all\r\n--x--\r\n"), Protected::Signed),
        ("Content-Type: Multipart/Signed; boundary=x\r\n\r\n--x\r\n".to_owned(), Protected::Signed),
        ("Content-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n\r\nMII".to_owned(), Protected::Encrypted),
        ("Content-Type: application/pkcs7-mime; smime-type=signed-data\r\n\r\nMII".to_owned(), Protected::Signed),
        (format!("Subject: x\r\n\r\n\r\n{armor}\r\n\r\n"), Protected::Encrypted),
        (format!("Subject: x\r\n\r\n{armor}\r\nP.S. in clear\r\n"), Protected::Signed),
        (format!("Subject: x\r\n\r\n{armor}\r\nin clear\r\n{armor}\r\n"), Protected::Signed),
        (
            "Subject: x\r\n\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA256\r\n\r\nx\r\n".to_owned(),
            Protected::Signed,
        ),
        (format!("Subject: x\r\n\r\nLook at this:\r\n{armor}\r\n"), Protected::No),
        (
            format!(
                "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n{armor}\r\n--x\r\n\r\nfooter\r\n--x--\r\n"
            ),
            Protected::Signed,
        ),
        (
            "Content-Transfer-Encoding: base64\r\n\r\nLS0tLS1CRUdJTiBQR1AgTUVTU0FHRS0tLS0tDQoNCndjQk1BDQo=\r\n"
                .to_owned(),
            Protected::Signed,
        ),
        (
            format!(
                "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nsee below\r\n--x\r\n\r\n{armor}\r\n--x--\r\n"
            ),
            Protected::No,
        ),
    ];
    for (message, expected) in cases {
        assert_eq!(compose::protection(&Content::from(message.clone().into_bytes())), expected, "{message}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever stands in a message: nothing but the fields that are shown reaches the outside, Bcc reaches nothing, the body is kept.
    #[test]
    fn no_field_but_those_shown_reaches_the_outside(
        fields in proptest::collection::vec(
            (prop_oneof![Just("From"), Just("To"), Just("Subject"), Just("Bcc"), Just("bcc"), Just("X-Secret"), Just("Comments"),
                Just("Keywords"), Just("Content-Type"), Just("Content-Language"), Just("MIME-Version"), Just("HP-Outer"),
                Just("Received"), Just("User-Agent")],
             "[ -~]{0,20}(\r\n [ -~]{1,10})?"), 0..12),
        body in "[ -~\r\n]{0,60}",
    ) {
        let mut message = String::new();
        for (at, (name, value)) in fields.iter().enumerate() {
            message.push_str(&format!("{name}: canary{at} {value}\r\n"));
        }
        message.push_str(&format!("\r\n{body}"));
        let compose::Parted { payload, outer } = compose::part(message.as_bytes());
        let (payload, outer) = (text(&payload), text(&outer));
        for (at, (name, _)) in fields.iter().enumerate() {
            let canary = format!("canary{at} ");
            let shown = ["From", "To", "Received"].contains(name);
            prop_assert_eq!(outer.contains(&canary), shown, "{} outside", name);
            if name.eq_ignore_ascii_case("bcc") || *name == "HP-Outer" {
                prop_assert!(!payload.contains(&canary));
            }
        }
        let ending = format!("\r\n\r\n{body}");
        prop_assert!(payload.ends_with(&ending));
    }

    /// As the fuzz target does, from real messages that were changed at a few places.
    #[test]
    fn changed_messages_are_looked_at_without_harm(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..12),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut message = seed();
        for (at, byte) in changes {
            let at = at.index(message.len());
            message[at] = byte;
        }
        measure::look_at(&message);
        measure::look_at(&message[..cut.index(message.len())]);
    }

    /// What the queue gives back is never believed blindly.
    #[test]
    fn damaged_outgoing_messages_are_errors(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Outgoing::decode(&Content::from(bytes));
    }
}

#[test]
fn an_outgoing_message_survives_the_queue() {
    let mut contact = Contact::new("bob@example.net");
    let key = correspondent("bob@example.net");
    contact.learn(&contact::Known::new(&key, Source::Wkd, NOW).expect("known"));
    let form = Form {
        packets: Content::from(b"packets".to_vec()),
        outer: Content::from(b"outer".to_vec()),
        unsigned: Some("no key".to_owned()),
    };
    let outgoing = Outgoing {
        original: Content::from(b"original".to_vec()),
        form: Some(form),
        protected: Protected::Signed,
        recipients: vec![Known { policy: Policy::Require, contact }],
        policy: Policy::Off,
    };
    let stored = Content::from(outgoing.encode().expect("encoded"));
    let back = Outgoing::decode(&stored).expect("decoded");
    assert_eq!(format!("{outgoing:?}"), format!("{back:?}"));
    assert_eq!(back.original, outgoing.original);
    for cut in 0..stored.len() {
        assert!(Outgoing::decode(&stored.slice(0, cut as u64)).is_err(), "cut at {cut}");
    }
}
