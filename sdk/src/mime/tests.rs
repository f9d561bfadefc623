use super::*;
use crate::Part;
use crate::summary::{MailAddressee, PartKind};
use proptest::prelude::*;

fn read(message: &[u8]) -> Summary {
    summarize(&Content::from(message.to_vec()), Timestamp(0), None).unwrap()
}

fn body<'a>(message: &'a [u8], part: &Part) -> &'a [u8] {
    &message[part.body.start as usize..part.body.end as usize]
}

fn header<'a>(message: &'a [u8], part: &Part) -> &'a [u8] {
    &message[part.header.start as usize..part.header.end as usize]
}

fn parts(part: &Part) -> &[Part] {
    match &part.kind {
        PartKind::Multipart(parts) => parts,
        other => panic!("no multipart: {other:?}"),
    }
}

fn inner(part: &Part) -> (&MailFields, &Part) {
    match &part.kind {
        PartKind::Message(fields, inner) => (fields, inner),
        other => panic!("no message: {other:?}"),
    }
}

fn mailbox(name: Option<&str>, local: &str, domain: &str) -> MailAddressee {
    let name = name.map(|name| name.as_bytes().to_vec());
    MailAddressee::Mailbox { name, route: None, local: local.into(), domain: domain.into() }
}

fn kind(part: &Part) -> String {
    let (main, sub) = &part.content_type;
    format!("{}/{}", String::from_utf8_lossy(main), String::from_utf8_lossy(sub))
}

/// Every range lies in the message, in order, and inside of what holds it.
fn check(part: &Part, within: std::ops::Range<u64>, depth: usize, count: &mut usize) {
    *count += 1;
    assert!(depth <= MAX_DEPTH);
    assert!(within.start <= part.header.start && part.header.start <= part.header.end);
    assert_eq!(part.header.end, part.body.start);
    assert!(part.body.start <= part.body.end && part.body.end <= within.end);
    match &part.kind {
        PartKind::Leaf => {
            assert!(!part.content_type.0.eq_ignore_ascii_case(b"multipart"));
            assert_ne!(kind(part).to_ascii_lowercase(), "message/rfc822");
        }
        PartKind::Multipart(parts) => {
            assert!(!parts.is_empty());
            let mut at = part.body.start;
            for inner in parts {
                check(inner, at..part.body.end, depth + 1, count);
                at = inner.body.end;
            }
        }
        PartKind::Message(_, inner) => {
            assert_eq!((inner.header.start, inner.body.end), (part.body.start, part.body.end));
            check(inner, part.body.clone(), depth + 1, count);
        }
    }
}

fn check_all(message: &[u8]) -> usize {
    let Ok(summary) = summarize(&Content::from(message.to_vec()), Timestamp(0), None) else { return 0 };
    let mut count = 0;
    assert_eq!(summary.structure.body.end, message.len() as u64);
    check(&summary.structure, 0..message.len() as u64, 0, &mut count);
    assert!(count <= MAX_PARTS);
    count
}

#[test]
fn a_plain_message() {
    let message =
        b"Subject: =?utf-8?q?h=C3=A4?=\r\n =?utf-8?q?y?=\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\none\r\ntwo";
    let summary = read(message);
    assert_eq!(summary.size, message.len() as u64);
    assert_eq!(&*summary.headers, &message[..message.len() - 8]);
    assert_eq!(summary.fields.subject.as_deref(), Some(&b"=?utf-8?q?h=C3=A4?= =?utf-8?q?y?="[..]));
    assert_eq!(body(message, &summary.structure), b"one\r\ntwo");
    assert_eq!(summary.structure.lines, 2);
    assert_eq!(kind(&summary.structure), "text/plain");
    assert_eq!(summary.structure.encoding, b"7bit");
}

#[test]
fn no_headers_no_body_nothing() {
    for (message, header_length, lines) in
        [(&b""[..], 0, 0), (b"\r\n", 2, 0), (b"\r\nbody\r\n", 2, 1), (b"Subject: x", 10, 0), (b"\n\nx", 1, 2)]
    {
        let summary = read(message);
        assert_eq!(summary.headers.len(), header_length, "{message:?}");
        assert_eq!(summary.structure.lines, lines, "{message:?}");
    }
}

#[test]
fn parts_end_before_the_line_end_of_their_delimiter() {
    let message = b"Content-Type: multipart/mixed; boundary=\"b 1\"\r\n\r\npreamble\r\n--b 1 \t\r\n\r\none\r\n\r\n--b 1\r\nContent-Type: text/html\r\n\r\n--b 1\r\nX: y\r\n--b 1--  \r\nepilogue\r\n--b 1\r\nno part\r\n";
    let summary = read(message);
    let parts = parts(&summary.structure);
    assert_eq!(parts.len(), 3);
    assert_eq!((header(message, &parts[0]), body(message, &parts[0])), (&b"\r\n"[..], &b"one\r\n"[..]));
    assert_eq!(parts[0].lines, 1);
    assert_eq!(header(message, &parts[1]), b"Content-Type: text/html\r\n\r\n");
    assert_eq!((body(message, &parts[1]), parts[1].lines), (&b""[..], 0));
    assert_eq!(header(message, &parts[2]), b"X: y");
    assert_eq!(summary.structure.lines, 14);
    assert!(
        body(message, &summary.structure).starts_with(b"preamble")
            && summary.structure.body.end == message.len() as u64
    );
}

#[test]
fn a_line_that_only_begins_as_the_delimiter_is_text() {
    let message =
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n--bb\r\n--b x\r\n --b\r\n--b-\r\n--b--x\r\n--b--";
    let summary = read(message);
    assert_eq!(body(message, &parts(&summary.structure)[0]), b"--bb\r\n--b x\r\n --b\r\n--b-\r\n--b--x");
}

#[test]
fn an_outer_delimiter_ends_all_that_is_inside() {
    let message = b"Content-Type: multipart/mixed; boundary=outer\r\n\r\n--outer\r\nContent-Type: multipart/alternative; boundary=inner\r\n\r\n--inner\r\n\r\ncut\r\n--outer\r\n\r\n--inner\r\nis text here\r\n--outer--\r\n";
    let summary = read(message);
    let outer = parts(&summary.structure);
    assert_eq!(outer.len(), 2);
    assert_eq!(body(message, &parts(&outer[0])[0]), b"cut");
    assert_eq!(body(message, &outer[1]), b"--inner\r\nis text here");
}

#[test]
fn an_empty_part_before_an_outer_delimiter_stays_inside() {
    let message = b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n--a--";
    assert_eq!(check_all(message), 3);
}

#[test]
fn a_missing_close_ends_with_the_message() {
    let message = b"Content-Type: multipart/mixed; boundary=x\n\n--x\n\none\n--x\n\ntwo\n";
    let summary = read(message);
    let parts = parts(&summary.structure);
    assert_eq!((body(message, &parts[0]), body(message, &parts[1])), (&b"one"[..], &b"two\n"[..]));
    assert_eq!((parts[0].lines, parts[1].lines), (1, 1));
}

#[test]
fn a_multipart_without_parts_is_plain_text() {
    for message in [
        &b"Content-Type: multipart/mixed\r\n\r\n--x\r\n\r\na"[..],
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\nnothing",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x--\r\n",
        b"Content-Type: multipart/mixed; boundary=\"\"\r\n\r\n--\r\n\r\na",
    ] {
        let summary = read(message);
        assert_eq!(summary.structure.kind, PartKind::Leaf);
        assert_eq!(kind(&summary.structure), "text/plain");
        assert!(summary.structure.parameters.is_empty());
    }
}

#[test]
fn messages_inside() {
    let message = b"Content-Type: multipart/digest; boundary=d\r\n\r\n--d\r\n\r\nSubject: one\r\n\r\nfirst\r\n--d\r\nContent-Type: message/global\r\n\r\nSubject: two\r\nContent-Type: multipart/mixed; boundary=e\r\n\r\n--e\r\n\r\nin two\r\n--e--\r\n--d\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nU3ViamVjdDogeA==\r\n--d\r\nContent-Type: text/plain\r\n\r\nlast\r\n--d--\r\n";
    let summary = read(message);
    let digest = parts(&summary.structure);
    assert_eq!(digest.len(), 4);
    let (fields, first) = inner(&digest[0]);
    assert_eq!(kind(&digest[0]), "message/rfc822");
    assert_eq!(fields.subject.as_deref(), Some(&b"one"[..]));
    assert_eq!((header(message, first), body(message, first)), (&b"Subject: one\r\n\r\n"[..], &b"first"[..]));
    assert_eq!((digest[0].lines, first.lines), (3, 1));
    assert_eq!(body(message, &parts(inner(&digest[1]).1)[0]), b"in two");
    assert_eq!((kind(&digest[2]), &digest[2].kind), ("application/octet-stream".into(), &PartKind::Leaf));
    assert_eq!(kind(&digest[3]), "text/plain");
}

#[test]
fn descriptions_of_a_part() {
    let summary = read(b"Content-Type: (a) Text/HTML (b) ; charset = \"utf-\\8\" ; (c;d=e) format=flowed;name*0*=utf-8''a%20;name=my file.txt; x\r\nContent-Disposition: attachment;\r\n filename=\"a;\\\"b\r\n c\"; size=3\r\nContent-Transfer-Encoding: (x) Quoted-Printable\r\nContent-Language: de, (or) en-GB\r\nContent-ID: <1@x>\r\nContent-Description: some\r\n text\r\nContent-MD5: Q2hlY2s=\r\nContent-Location: http://x/\r\n\r\n");
    let part = summary.structure;
    assert_eq!(kind(&part), "Text/HTML");
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(Vec<u8>, Vec<u8>)> {
        pairs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    };
    let wanted = [("charset", "utf-8"), ("format", "flowed"), ("name*0*", "utf-8''a%20"), ("name", "my file.txt")];
    assert_eq!(part.parameters, pairs(&wanted));
    assert_eq!(part.disposition, Some((b"attachment".to_vec(), pairs(&[("filename", "a;\"b c"), ("size", "3")]))));
    assert_eq!(part.encoding, b"Quoted-Printable");
    assert_eq!(part.language, [b"de".to_vec(), b"en-GB".to_vec()]);
    assert_eq!(part.id.as_deref(), Some(&b"<1@x>"[..]));
    assert_eq!(part.description.as_deref(), Some(&b"some text"[..]));
    assert_eq!(part.md5.as_deref(), Some(&b"Q2hlY2s="[..]));
    assert_eq!(part.location.as_deref(), Some(&b"http://x/"[..]));
}

#[test]
fn a_forgotten_semicolon() {
    let summary = read(b"Content-Type: multipart/mixed\r\n\tboundary=x; y=z\r\n\r\n--x\r\n\r\none\r\n--x--");
    assert_eq!((parts(&summary.structure).len(), summary.structure.parameters.len()), (1, 2));
}

#[test]
fn header_fields() {
    let block = b" stray\r\nFrom : a\r\nno colon\r\n continued\r\nX-Y:\r\n\tz\nbad name: x\r\nTo:b\r\n\r\nCc: c\r\n";
    let found: Vec<_> = fields(block).map(|field| (field.name, field.value, &block[field.range])).collect();
    let wanted: Vec<(&[u8], &[u8], &[u8])> =
        vec![(b"From", b" a", b"From : a\r\n"), (b"X-Y", b"\r\n\tz", b"X-Y:\r\n\tz\n"), (b"To", b"b", b"To:b\r\n")];
    assert_eq!(found, wanted);
}

#[test]
fn unfolding_leaves_one_line() {
    assert_eq!(unfold(b" a\r\n  b\n\tc\r\n"), b"a  b\tc");
    assert_eq!(unfold(b"a\rb\nc\0d\r\n\r\ne"), b"a b c d    e");
}

#[test]
fn address_lists() {
    let cases: Vec<(&str, Vec<MailAddressee>)> = vec![
        ("", vec![]),
        (" , ,", vec![]),
        ("a@b.c", vec![mailbox(None, "a", "b.c")]),
        ("Ann Bee <a@b>", vec![mailbox(Some("Ann Bee"), "a", "b")]),
        ("\"Bee, \\\"Ann\\\"\" <a@b>, c@d", vec![mailbox(Some("Bee, \"Ann\""), "a", "b"), mailbox(None, "c", "d")]),
        ("a@b (Ann (B) C)", vec![mailbox(Some("Ann (B) C"), "a", "b")]),
        ("<a@b> (Ann)", vec![mailbox(Some("Ann"), "a", "b")]),
        (
            "=?utf-8?q?A=C3=A4?=\r\n =?utf-8?q?b?= <a@b>",
            vec![mailbox(Some("=?utf-8?q?A=C3=A4?= =?utf-8?q?b?="), "a", "b")],
        ),
        ("\"a b\"@[127.0.0.1]", vec![mailbox(None, "a b", "[127.0.0.1]")]),
        ("a . b @ c . d", vec![mailbox(None, "a.b", "c.d")]),
        (
            "friends: a@b, c@d;, e@f",
            vec![
                MailAddressee::GroupStart(b"friends".to_vec()),
                mailbox(None, "a", "b"),
                mailbox(None, "c", "d"),
                MailAddressee::GroupEnd,
                mailbox(None, "e", "f"),
            ],
        ),
        (
            "undisclosed-recipients:;",
            vec![MailAddressee::GroupStart(b"undisclosed-recipients".to_vec()), MailAddressee::GroupEnd],
        ),
        (
            "open: a@b",
            vec![MailAddressee::GroupStart(b"open".to_vec()), mailbox(None, "a", "b"), MailAddressee::GroupEnd],
        ),
        (
            "<@x,@y:a@b>",
            vec![MailAddressee::Mailbox {
                name: None,
                route: Some(b"@x,@y".to_vec()),
                local: b"a".to_vec(),
                domain: b"b".to_vec(),
            }],
        ),
        ("<>", vec![mailbox(None, "", "")]),
        ("root", vec![mailbox(None, "root", "")]),
        ("some text", vec![mailbox(None, "some text", "")]),
        ("Foo <a@b, Bar <c@d>", vec![mailbox(Some("Foo"), "a", "b"), mailbox(Some("Bar"), "c", "d")]),
        ("\"open <a@b>", vec![mailbox(None, "open <a@b>", "")]),
        ("a@b@c", vec![mailbox(None, "a", "b@c")]),
        ("ä@bücher.example", vec![mailbox(None, "ä", "bücher.example")]),
    ];
    for (text, wanted) in cases {
        assert_eq!(addresses(text.as_bytes()), wanted, "{text}");
    }
}

#[test]
fn whatever_a_reader_could_take_for_an_address_is_given() {
    let hidden = |text: &str| {
        addresses(text.as_bytes()).iter().any(|one| matches!(one, MailAddressee::Mailbox { local, domain, .. } if local == b"ceo" && domain == b"bank.example"))
    };
    for text in [
        "me@here ceo@bank.example",
        "ceo@bank.example me@here",
        "ceo@bank.example Boss <me@here>",
        "<me@here> ceo@bank.example",
        "<me@here><ceo@bank.example>",
        "x:me@here;ceo@bank.example",
        "(c) ceo@bank.example, me@here",
    ] {
        assert!(hidden(text), "{text}: {:?}", addresses(text.as_bytes()));
    }
    let headers = b"From: me@here\r\nX: y\r\nfrom : ceo@bank.example\r\n\r\nFrom: body@text\r\n";
    assert_eq!(
        addresses_in(headers, "From").unwrap(),
        [mailbox(None, "me", "here"), mailbox(None, "ceo", "bank.example")]
    );
    let many = [b"From: ".to_vec(), b"a@b,".repeat(MAX_ITEMS)].concat();
    assert_eq!(addresses_in(&many, "From"), Err(TooManyAddresses));
}

#[test]
fn header_limits() {
    let with = |bytes: usize| [b"X: ".to_vec(), vec![b'x'; bytes - 5], b"\r\n\r\nbody".to_vec()].concat();
    let read = |message: Vec<u8>| summarize(&message.into(), Timestamp(0), None);
    assert!(read(with(MAX_HEADER_BYTES)).is_ok());
    assert_eq!(read(with(MAX_HEADER_BYTES + 1)), Err(HeadersTooLarge));
    assert!(read(b"X: y\r\n".repeat(MAX_HEADER_LINES)).is_ok());
    assert_eq!(read(b"X: y\r\n".repeat(MAX_HEADER_LINES + 1)), Err(HeadersTooLarge));
    // A long body is no header.
    assert!(read([b"\r\n".to_vec(), b"x\r\n".repeat(MAX_HEADER_LINES * 2)].concat()).is_ok());
}

#[test]
fn headers_over_a_limit_inside_make_a_leaf() {
    let long = b"X: y\r\n".repeat(MAX_HEADER_LINES + 1);
    let message = [&b"Content-Type: message/rfc822\r\n\r\n"[..], &long, b"\r\nbody"].concat();
    let summary = read(&message);
    assert_eq!(
        (kind(&summary.structure), &summary.structure.kind),
        ("application/octet-stream".into(), &PartKind::Leaf)
    );
    let message = [
        &b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: image/png\r\n"[..],
        &long,
        b"\r\nbody\r\n--x\r\n\r\nz\r\n--x--",
    ]
    .concat();
    let summary = read(&message);
    let parts = parts(&summary.structure);
    assert_eq!((parts.len(), kind(&parts[0]), body(&message, &parts[0])), (2, "text/plain".into(), &b"body"[..]));
}

#[test]
fn bomb_nested_multiparts() {
    let mut message = Vec::new();
    for level in 0..10_000 {
        message.extend_from_slice(
            format!("Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n").as_bytes(),
        );
    }
    assert_eq!(check_all(&message), MAX_DEPTH + 1);
    // One boundary for all of them.
    assert!(check_all(&b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n".repeat(10_000)) <= MAX_PARTS);
}

#[test]
fn bomb_nested_messages() {
    assert_eq!(check_all(&b"Content-Type: message/rfc822\r\n\r\n".repeat(10_000)), MAX_DEPTH + 1);
}

#[test]
fn bomb_many_parts() {
    let message =
        [b"Content-Type: multipart/mixed; boundary=b\r\n\r\n".to_vec(), b"--b\r\n\r\nx\r\n".repeat(100_000)].concat();
    assert_eq!(check_all(&message), MAX_PARTS);
    let summary = read(&message);
    let parts = parts(&summary.structure);
    let last = &parts[MAX_PARTS - 2];
    assert_eq!((last.body.end, last.lines), (message.len() as u64, 3 * (100_000 - 998) - 2));
    // Parts that are all headers.
    let message =
        [b"Content-Type: multipart/mixed; boundary=b\r\n\r\n".to_vec(), b"--b\r\nX: y\r\n".repeat(100_000)].concat();
    assert_eq!(check_all(&message), MAX_PARTS);
}

#[test]
fn bomb_addresses_and_parameters_are_bounded() {
    let message = [
        b"To: ".to_vec(),
        b"a@b,".repeat(200_000),
        b"\r\nContent-Type: a/b".to_vec(),
        b";a=b".repeat(40_000),
        b"\r\n\r\n".to_vec(),
    ]
    .concat();
    let summary = read(&message);
    assert_eq!(summary.fields.to.len() + summary.structure.parameters.len(), MAX_ITEMS);
}

#[test]
fn bomb_nothing_is_ever_closed() {
    for unit in ["(", "\"", "<", "[", ":", "a:", "(\\", "@", "<@", ";=", ";a=\"", "/", "\\"] {
        let text = unit.repeat(300_000);
        for name in [
            "From",
            "To",
            "Content-Type",
            "Content-Type: a/b",
            "Content-Disposition",
            "Content-Language",
            "Content-Transfer-Encoding",
        ] {
            check_all(format!("{name}: {text}\r\n\r\n").as_bytes());
        }
    }
}

/// The scanner's work: each delimiter-like line is looked up at most twice, however many boundaries are open.
#[test]
fn bomb_boundaries_that_nearly_match() {
    let mut message = Vec::new();
    let stem = "x".repeat(60);
    for level in 0..MAX_DEPTH {
        message.extend_from_slice(
            format!("Content-Type: multipart/mixed; boundary={stem}{level:03}\r\n\r\n--{stem}{level:03}\r\n")
                .as_bytes(),
        );
    }
    message.extend_from_slice(b"\r\n");
    message.extend_from_slice(format!("--{stem}\r\n").repeat(100_000).as_bytes());
    assert_eq!(check_all(&message), MAX_DEPTH + 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_read(message in proptest::collection::vec(any::<u8>(), 0..2000)) {
        check_all(&message);
    }

    #[test]
    fn any_pieces_are_read(pieces in proptest::collection::vec(0_usize..PIECES.len(), 0..80)) {
        let message: Vec<u8> = pieces.into_iter().flat_map(|piece| PIECES[piece].as_bytes().to_vec()).collect();
        check_all(&message);
        let text = unfold(&message);
        prop_assert!(!text.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        let mut depth = 0_i32;
        for addressee in addresses(&message) {
            match addressee {
                MailAddressee::GroupStart(_) => depth += 1,
                MailAddressee::GroupEnd => depth -= 1,
                MailAddressee::Mailbox { .. } => {}
            }
            prop_assert!((0..=1).contains(&depth));
        }
        prop_assert_eq!(depth, 0);
    }

    #[test]
    fn fields_cover_the_block_in_order(block in "(([A-Za-z:]{0,4}[ \t:]?[a-z]{0,3}\r?\n){0,12})") {
        let mut at = 0;
        for field in fields(block.as_bytes()) {
            prop_assert!(field.range.start >= at && field.range.end > field.range.start);
            at = field.range.end;
        }
        prop_assert!(at <= block.len());
    }
}

const PIECES: [&str; 34] = [
    "\r\n",
    "\r\n",
    "\n",
    "--a\r\n",
    "--a--\r\n",
    "--b\r\n",
    "--b--\r\n",
    "Content-Type: multipart/mixed; boundary=a\r\n",
    "Content-Type: multipart/digest; boundary=\"b\"\r\n",
    "Content-Type: message/rfc822\r\n",
    "Content-Transfer-Encoding: 8bit\r\n",
    "Content-Transfer-Encoding: base64\r\n",
    "From: ",
    "To: x: ",
    "a@b",
    ",",
    ";",
    ":",
    "<",
    ">",
    "\"",
    "\\",
    "(",
    ")",
    "[",
    "]",
    " ",
    "\t",
    "\r",
    "\0",
    "text",
    "é",
    "Content-Type: ",
    "--",
];
