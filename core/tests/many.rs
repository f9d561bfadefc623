//! Many messages at once. Times are printed (`--nocapture`), not asserted: they belong to the machine.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod support;

use mesyx_sdk::Query;
use std::time::Instant;
use support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_large_mailbox_is_delivered_listed_read_and_searched() {
    const MESSAGES: usize = 2000;
    let (_place, core) = Place::with_users().await;
    let text = |number: usize| {
        let head = format!(
            "Received: from a.example.net by mail.example.org; Sun, 22 Nov 2026 12:00:00 +0000\r\n\
             From: Sender <sender@example.net>\r\nTo: alice@example.org\r\nSubject: number {number}\r\n\
             Message-ID: <{number}@example.net>\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\n\r\n"
        );
        (head + &"All work and no play makes a dull line of text, over and over.\r\n".repeat(60)).into_bytes()
    };
    let start = Instant::now();
    for numbers in (0..MESSAGES).collect::<Vec<_>>().chunks(32) {
        let batch = numbers.iter().map(|number| envelope(&["alice@example.org"], &text(*number))).collect();
        for answer in core.accept("smtp", batch).await {
            answer.unwrap();
        }
    }
    println!("{MESSAGES} delivered in {:?}", start.elapsed());
    let session = login(&core, "alice").await;
    let inbox = inbox(&session).await;
    let all = uids(&session, inbox).await;
    assert_eq!(all.len(), MESSAGES);
    for time in ["first", "second"] {
        let start = Instant::now();
        let mut seen = 0;
        while seen < all.len() {
            let some = session.summaries(inbox, &all[seen..]).await.unwrap();
            assert_eq!(some[0].0, all[seen]);
            seen += some.len();
        }
        println!("{MESSAGES} summaries, {time} time: {:?}", start.elapsed());
    }
    for time in ["first", "second"] {
        let start = Instant::now();
        let read = bodies(&session, inbox).await;
        println!("{MESSAGES} bodies, {time} time: {:?}", start.elapsed());
        assert!(read.iter().enumerate().all(|(number, body)| *body == text(number)));
    }
    let start = Instant::now();
    let found = session.search(inbox, &Query::Text("number 1999".into())).await.unwrap();
    println!("a search of every body: {:?}", start.elapsed());
    assert_eq!(found.uids, [all[MESSAGES - 1]]);
    let app = core.add_app_password("alice", mesyx_core::admin::Proof::Password(password("alice")), "x").await.unwrap();
    drop(session);
    let start = Instant::now();
    for _ in 0..200 {
        drop(core.login(credentials("alice", app.clone(), HOME)).await.unwrap());
    }
    println!("200 logins with an app password, keys opened for each: {:?}", start.elapsed());
}
