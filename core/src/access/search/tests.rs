use super::*;
use mesyx_sdk::{Content, Flags, Timestamp};
use proptest::prelude::*;

struct Sample {
    entry: Entry,
    content: Content,
    summary: Summary,
}

fn sample(uid: Uid, flags: &[Flag], day: i32, message: &[u8]) -> Sample {
    let content = Content::from(message.to_vec());
    let summary = mime::summarize(&content, Timestamp(i64::from(day) * 86_400_000 + 5), None).unwrap();
    let entry = Entry {
        uid,
        message: MessageId([u8::try_from(uid).unwrap(); 16]),
        modseq: ModSeq::from(uid) * 2,
        flags: flags.iter().cloned().collect::<Flags>(),
        padded_size: summary.size.next_multiple_of(64),
        day: Timestamp(i64::from(day) * 86_400_000),
    };
    Sample { entry, content, summary }
}

fn samples() -> Vec<Sample> {
    let seen = [Flag::Seen];
    vec![
        sample(1, &[], 100, b"Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\nFrom: Alice <alice@example.org>\r\nDate: Wed, 1 Apr 1970 23:00:00 -0500\r\n\r\nhello world\r\n"),
        sample(2, &seen, 101, b"Subject: Report\r\nTo: bob@example.org\r\nContent-Type: text/html; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<b>Gr</b>&uuml;=DFe in <i>HTML</i>\r\n"),
        sample(3, &[Flag::Flagged, Flag::Seen], 102, b"Subject: files\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nSGVsbG8gd29ybGQ=\r\n--x\r\nContent-Type: application/pdf\r\n\r\nsecretword hello\r\n--x--\r\n"),
        sample(4, &[], 103, b"\r\n"),
    ]
}

/// The engine as a session runs it: opens only what is undecided.
fn staged(search: &Search, sample: &Sample) -> (bool, u8) {
    let mut facts = Facts { entry: &sample.entry, summary: None, body: None };
    if let Some(found) = search.matches(&facts) {
        return (found, 0);
    }
    let summary = SummaryFacts::new(&sample.summary);
    facts.summary = Some(&summary);
    if let Some(found) = search.matches(&facts) {
        return (found, 1);
    }
    let body = search.look_into(&sample.content, &sample.summary);
    facts.body = Some(&body);
    (search.matches(&facts).expect("everything is known"), 2)
}

fn found(query: &Query) -> Vec<Uid> {
    let search = Search::new(query).unwrap();
    samples().iter().filter(|sample| staged(&search, sample).0).map(|sample| sample.entry.uid).collect()
}

#[test]
fn texts_are_found_as_readers_see_them() {
    let header = |name: &str, text: &str| found(&Query::Header(name.into(), text.into()));
    assert_eq!(header("SUBJECT", "GRÜSSE"), [0_u32; 0]);
    assert_eq!(header("SUBJECT", "GRÜßE"), [1]);
    assert_eq!(header("from", "alice@EXAMPLE"), [1]);
    assert_eq!(header("subject", ""), [1, 2, 3]);
    assert_eq!(header("x-none", ""), [0_u32; 0]);
    assert_eq!(found(&Query::Body("HELLO WORLD".into())), [1, 3]);
    assert_eq!(found(&Query::Body("grüße in html".into())), [2]);
    assert_eq!(found(&Query::Body("secretword".into())), [0_u32; 0]);
    assert_eq!(found(&Query::Body(String::new())), [1, 2, 3, 4]);
    assert_eq!(found(&Query::Text("report".into())), [2]);
    assert_eq!(found(&Query::Text("subject: files".into())), [3]);
    assert_eq!(found(&Query::Text("grüße".into())), [1, 2]);
}

#[test]
fn dates_and_sizes() {
    assert_eq!(found(&Query::SentOn(90)), [1]);
    assert_eq!(found(&Query::SentBefore(1000)), [1]);
    assert_eq!(found(&Query::SentSince(91)), [0_u32; 0]);
    assert_eq!(found(&Query::On(101)), [2]);
    assert_eq!(found(&Query::Before(101)), [1]);
    assert_eq!(found(&Query::Since(102)), [3, 4]);
    let size = samples()[0].summary.size;
    assert_eq!(found(&Query::And(vec![Query::Larger(size - 1), Query::Smaller(size + 1)])), [1]);
    assert_eq!(found(&Query::Smaller(3)), [4]);
    assert_eq!(found(&Query::Smaller(2)), [0_u32; 0]);
}

#[test]
fn nothing_is_opened_that_need_not_be() {
    let samples = samples();
    let depth = |query: Query| {
        let search = Search::new(&query).unwrap();
        samples.iter().map(|sample| staged(&search, sample).1).collect::<Vec<_>>()
    };
    let body = || Query::Body("hello".into());
    assert_eq!(depth(Query::And(vec![body(), Query::Flag(Flag::Seen)])), [0, 2, 2, 0]);
    assert_eq!(depth(Query::Or(vec![body(), Query::Not(Box::new(Query::Flag(Flag::Seen)))])), [0, 2, 2, 0]);
    assert_eq!(depth(Query::And(vec![body(), Query::Header("Subject".into(), "files".into())])), [1, 1, 2, 1]);
    assert_eq!(depth(Query::Text("files".into())), [2, 2, 1, 2]);
    assert_eq!(depth(Query::Larger(1_000_000)), [0; 4]);
}

#[test]
fn large_queries_are_refused() {
    let deep = (0..60).fold(Query::All, |query, _| Query::Not(Box::new(query)));
    assert_eq!(Search::new(&deep).unwrap_err().kind(), ErrorKind::Invalid);
    assert!(Search::new(&(0..49).fold(Query::All, |query, _| Query::Not(Box::new(query)))).is_ok());
    assert_eq!(Search::new(&Query::Or(vec![Query::All; 1000])).unwrap_err().kind(), ErrorKind::Invalid);
}

/// Says the same as [`Search`], with everything open and one term at a time.
fn oracle(query: &Query, sample: &Sample) -> bool {
    let text = |text: &str| decode::fold(text);
    let sent = || sample.summary.fields.date.as_deref().and_then(decode::written_day);
    let day = sample.summary.internal_date.day();
    let body = |wanted: &str| {
        let mut all = String::new();
        let mut found = wanted.is_empty();
        decode::text_parts(&sample.content, &sample.summary.structure, &mut |text| {
            all.push_str(text);
            found |= text.contains(wanted);
            false
        });
        found
    };
    match query {
        Query::All => true,
        Query::And(queries) => queries.iter().all(|query| oracle(query, sample)),
        Query::Or(queries) => queries.iter().any(|query| oracle(query, sample)),
        Query::Not(query) => !oracle(query, sample),
        Query::Uids(ranges) => ranges.iter().any(|range| range.contains(&sample.entry.uid)),
        Query::Flag(flag) => sample.entry.flags.contains(flag),
        Query::Header(name, wanted) => mime::fields(&sample.summary.headers)
            .any(|field| field.is(name) && decode::header_value(field.value).contains(&text(wanted))),
        Query::Body(wanted) => body(&text(wanted)),
        Query::Text(wanted) => {
            let wanted = text(wanted);
            let in_headers = mime::fields(&sample.summary.headers).any(|field| {
                let name = String::from_utf8_lossy(field.name).to_ascii_lowercase();
                format!("{name}: {}", decode::header_value(field.value)).contains(&wanted)
            });
            in_headers || body(&wanted)
        }
        Query::Before(bound) => day < *bound,
        Query::On(bound) => day == *bound,
        Query::Since(bound) => day >= *bound,
        Query::SentBefore(bound) => sent().is_some_and(|day| day < *bound),
        Query::SentOn(bound) => sent() == Some(*bound),
        Query::SentSince(bound) => sent().is_some_and(|day| day >= *bound),
        Query::Larger(bytes) => sample.summary.size > *bytes,
        Query::Smaller(bytes) => sample.summary.size < *bytes,
        Query::ModSeq(modseq) => sample.entry.modseq >= *modseq,
        Query::Message(message) => sample.entry.message == *message,
        _ => unreachable!(),
    }
}

fn query() -> impl Strategy<Value = Query> {
    let word = || prop::sample::select(vec!["hello", "Grüße", "report", "", "files", "ß", "secret", "o w"]);
    let name = prop::sample::select(vec!["Subject", "from", "x-none", "Content-Type"]);
    let leaf = prop_oneof![
        Just(Query::All),
        (0u32..6, 0u32..6).prop_map(|(a, b)| Query::Uids(vec![a.min(b)..=a.max(b)])),
        prop::sample::select(vec![Flag::Seen, Flag::Flagged, Flag::Draft]).prop_map(Query::Flag),
        (name, word()).prop_map(|(name, text)| Query::Header(name.into(), text.into())),
        word().prop_map(|text| Query::Body(text.into())),
        word().prop_map(|text| Query::Text(text.into())),
        (99i32..105).prop_map(Query::Before),
        (99i32..105).prop_map(Query::On),
        (99i32..105).prop_map(Query::Since),
        (88i32..93).prop_map(Query::SentBefore),
        (88i32..93).prop_map(Query::SentOn),
        (88i32..93).prop_map(Query::SentSince),
        (0u64..400).prop_map(Query::Larger),
        (0u64..400).prop_map(Query::Smaller),
        (0u64..10).prop_map(Query::ModSeq),
        (0u8..6).prop_map(|byte| Query::Message(MessageId([byte; 16]))),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Query::And),
            prop::collection::vec(inner.clone(), 0..5).prop_map(Query::Or),
            inner.prop_map(|query| Query::Not(Box::new(query))),
        ]
    })
}

proptest! {
    #[test]
    fn stages_find_what_looking_at_everything_finds(query in query()) {
        let search = Search::new(&query).unwrap();
        for sample in samples() {
            prop_assert_eq!(staged(&search, &sample).0, oracle(&query, &sample), "{}", sample.entry.uid);
        }
    }

    #[test]
    fn decoding_never_panics(raw in prop::collection::vec(any::<u8>(), 0..300)) {
        let content = Content::from(raw);
        let summary = mime::summarize(&content, Timestamp(0), None).unwrap();
        let search = Search::new(&Query::Text("x".into())).unwrap();
        let facts = SummaryFacts::new(&summary);
        facts.any_header_has("x");
        search.look_into(&content, &summary);
    }
}
