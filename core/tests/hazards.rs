//! What must hold even when the disk is read or changed by others.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use mesyx_sdk::{Append, Query, Role};
use rusqlite::Connection;
use std::path::Path;
use support::*;

/// Every file below a directory that holds one of the texts, in UTF-8, UTF-16, base64 or hex.
fn files_with(directory: &Path, texts: &[&str]) -> Vec<String> {
    use base64::Engine as _;
    let mut wanted: Vec<(String, Vec<u8>)> = Vec::new();
    for text in texts {
        wanted.push(((*text).to_owned(), text.as_bytes().to_vec()));
        wanted.push((format!("{text} in UTF-16"), text.encode_utf16().flat_map(u16::to_le_bytes).collect()));
        // Base64 at each of its three alignments, without the digits that its neighbours share.
        for shift in 0..3 {
            let padded = [&b"\0\0"[..shift], text.as_bytes()].concat();
            let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(&padded);
            let inner = encoded.as_bytes()[shift + usize::from(shift > 0)..encoded.len() - 2].to_vec();
            wanted.push((format!("{text} in base64"), inner));
        }
        let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        wanted.push((format!("{text} in hex"), hex.into_bytes()));
    }
    let wanted: Vec<(String, Vec<u8>)> =
        wanted.into_iter().map(|(name, text)| (name, text.to_ascii_lowercase())).collect();
    files_where(directory, |bytes| {
        let bytes = bytes.to_ascii_lowercase();
        let found = wanted.iter().filter(|(_, text)| holds(&bytes, text));
        found.map(|(name, _)| name.clone()).collect()
    })
}

const CANARIES: [&str; 6] =
    ["canarysubject", "canarybody", "canaryattachment", "canarysender", "canarycorrespondent", "canarydraft"];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_clear_is_ever_on_the_disk() {
    let (place, core) = Place::with_users().await;
    let message = |pad: usize| {
        format!(
            "From: canarysender@example.net\r\nTo: canarycorrespondent@example.com\r\nSubject: canarysubject\r\n\
             Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\ncanarybody\r\n{}\r\n--x\r\n\
             Content-Disposition: attachment; filename=canaryattachment.pdf\r\n\r\nx\r\n--x--\r\n",
            "pad ".repeat(pad)
        )
    };
    let sent = |pad: usize| {
        let mut envelope =
            envelope(&["alice@example.org", "bob+canarycorrespondent@example.org"], message(pad).as_bytes());
        envelope.from = Some(address("canarysender@example.net"));
        envelope.dedup = Some(b"<canarysubject@example.net>".to_vec());
        envelope.origin.peer = Some("canarysender.example.net".into());
        envelope
    };
    // Small ones lie in the database, large ones in files.
    for pad in [0, 100_000] {
        accept(&core, sent(pad)).await.unwrap();
        assert_eq!(files_with(place.data(), &CANARIES), Vec::<String>::new());
    }
    let session = login(&core, "alice").await;
    let drafts = mailbox(&session, Role::Drafts).await.id;
    let draft = b"Subject: canarydraft\r\n\r\ncanarydraft\r\n".to_vec();
    let append = Append { flags: Vec::new(), internal_date: None, content: draft.into() };
    session.append(drafts, vec![append]).await.unwrap();
    let inbox = inbox(&session).await;
    assert_eq!(bodies(&session, inbox).await.len(), 1, "the second has the same dedup");
    session.search(inbox, &Query::Text("canarybody".into())).await.unwrap();
    assert_eq!(core.trace(&address("canarysender@example.net"), 1).len(), 2);
    assert_eq!(files_with(place.data(), &CANARIES), Vec::<String>::new());
    core.close().await;
    assert_eq!(files_with(place.data(), &CANARIES), Vec::<String>::new());
    assert_eq!(files_with(place.data(), &["example.net"]), Vec::<String>::new());
}

#[test]
fn the_search_for_canaries_finds_them() {
    let directory = tempfile::TempDir::new().unwrap();
    std::fs::create_dir(directory.path().join("deep")).unwrap();
    for (name, content) in [
        ("clear", "xx CanaryBody yy".as_bytes().to_vec()),
        ("hex", b"63616e617279626f6479".to_vec()),
        ("base64", b"eHh4Y2FuYXJ5Ym9keXl5".to_vec()),
        ("shifted", b"eHhjYW5hcnlib2R5eXk=".to_vec()),
    ] {
        std::fs::write(directory.path().join("deep").join(name), content).unwrap();
    }
    let found = files_with(directory.path(), &["canarybody"]).join("\n");
    for name in ["deep/clear", "deep/hex", "deep/base64", "deep/shifted"] {
        assert!(found.contains(name), "{name} not in\n{found}");
    }
}

/// Two users' inboxes with one and two messages, the store closed, then changed by `tamper`; what alice then reads.
async fn read_after(tamper: &str) -> Vec<(Vec<u8>, String)> {
    let (place, core) = Place::with_users().await;
    let second = [HELLO, b"second\r\n"].concat();
    deliver(&core, &["alice@example.org"], HELLO).await;
    deliver(&core, &["alice@example.org"], &second).await;
    core.close().await;
    drop(core);
    let database = Connection::open(place.data().join("store/store.db")).unwrap();
    database.execute_batch(tamper).unwrap();
    drop(database);
    let core = place.open().await;
    let session = login(&core, "alice").await;
    let inbox = inbox(&session).await;
    let uids = uids(&session, inbox).await;
    let bodies = bodies(&session, inbox).await;
    let summaries = session.summaries(inbox, &uids).await.unwrap();
    assert_eq!((bodies.len(), summaries.len()), (2, 2));
    let subject = |at: usize| {
        let subject = summaries[at].1.fields.subject.clone().unwrap_or_default();
        String::from_utf8(subject).unwrap()
    };
    bodies.into_iter().enumerate().map(|(at, body)| (body, subject(at))).collect()
}

const UNREADABLE: &str = "This message cannot be opened";

#[tokio::test(flavor = "multi_thread")]
async fn swapped_bodies_are_not_shown() {
    let read = read_after(
        "CREATE TEMP TABLE t AS SELECT * FROM bodies; \
         UPDATE bodies SET body = (SELECT body FROM t WHERE t.id <> bodies.id);",
    )
    .await;
    for (body, subject) in read {
        let text = String::from_utf8(body).unwrap();
        assert!(text.contains(UNREADABLE), "{text}");
        assert_eq!(subject, "hello");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_summaries_are_not_shown() {
    let read = read_after(
        "CREATE TEMP TABLE t AS SELECT id, summary FROM messages; \
         UPDATE messages SET summary = (SELECT summary FROM t WHERE t.id <> messages.id);",
    )
    .await;
    // The bodies are whole, so the summaries are made anew from them.
    assert_eq!(read[0], (HELLO.to_vec(), "hello".to_owned()));
    assert_eq!(read[1].1, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_parts_are_not_shown() {
    let read = read_after(
        "UPDATE bodies SET body = CAST(substr(body, 1, 200) || x'00' || substr(body, 202) AS BLOB); \
         UPDATE messages SET summary = CAST(substr(summary, 1, 100) || x'00' || substr(summary, 102) AS BLOB);",
    )
    .await;
    for (body, subject) in read {
        assert!(String::from_utf8(body).unwrap().contains(UNREADABLE));
        assert_eq!(subject, UNREADABLE);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_known_instance_signed_is_not_shown() {
    let read = read_after("UPDATE attestations SET signature = CAST(x'01' || substr(signature, 2) AS BLOB);").await;
    for (body, subject) in read {
        assert!(String::from_utf8(body).unwrap().contains(UNREADABLE));
        assert_eq!(subject, UNREADABLE);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_finds_an_address_that_the_log_does_not_name() {
    let (_place, core) = Place::with_users().await;
    deliver(&core, &["alice@example.org"], HELLO).await;
    accept(&core, envelope(&["nobody@example.org"], HELLO)).await.unwrap_err();
    let lines = core.trace(&address("Sender@example.net"), 1);
    assert_eq!(lines.iter().map(|line| line.side.as_str()).collect::<Vec<_>>(), ["from", "from"]);
    assert_eq!(core.trace(&address("nobody@example.org"), 2).len(), 1);
    assert_eq!(core.trace(&address("bob@example.org"), 2), []);
    assert_eq!(core.log_tag(&address("alice@example.org")).len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_an_offline_key_are_served_sealed() {
    let read = read_after("UPDATE messages SET shown = 1; DELETE FROM secret_keys;").await;
    for (body, subject) in &read {
        assert_eq!(subject, "Sealed message (keyset default)");
        let text = String::from_utf8(body.clone()).unwrap();
        assert!(text.contains("multipart/encrypted") && text.contains("-----BEGIN PGP MESSAGE-----"), "{text}");
        assert!(!text.contains("hello") && !text.contains("sender@example.net"));
    }
}
