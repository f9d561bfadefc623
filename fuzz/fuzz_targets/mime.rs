//! MIME: every range lies in the message and inside of what holds it, and the limits hold.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesyx_sdk::summary::PartKind;
use mesyx_sdk::{Content, Part, Timestamp, mime};

fuzz_target!(|data: &[u8]| {
    let unfolded = mime::unfold(data);
    assert!(!unfolded.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
    let _ = mime::sent_day(data);
    let mut at = 0;
    for field in mime::fields(data) {
        assert!(field.range.start >= at && field.range.end > field.range.start && !field.name.is_empty());
        at = field.range.end;
    }
    let Ok(summary) = mime::summarize(&Content::from(data.to_vec()), Timestamp(0), None) else { return };
    let mut parts = 0;
    check(&summary.structure, 0, data.len() as u64, 0, &mut parts);
    assert_eq!(summary.structure.body.end, data.len() as u64);
});

fn check(part: &Part, start: u64, end: u64, depth: usize, parts: &mut usize) {
    *parts += 1;
    assert!(depth <= mime::MAX_DEPTH && *parts <= mime::MAX_PARTS);
    assert!(start <= part.header.start && part.header.start <= part.header.end);
    assert!(part.header.end == part.body.start && part.body.start <= part.body.end && part.body.end <= end);
    match &part.kind {
        PartKind::Leaf => assert!(!part.content_type.0.eq_ignore_ascii_case(b"multipart")),
        PartKind::Multipart(inside) => {
            assert!(!inside.is_empty());
            let mut at = part.body.start;
            for inner in inside {
                check(inner, at, part.body.end, depth + 1, parts);
                at = inner.body.end;
            }
        }
        PartKind::Message(_, inner) => check(inner, part.body.start, part.body.end, depth + 1, parts),
    }
}
