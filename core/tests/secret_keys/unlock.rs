//! Keysets that are unlocked for a while.

use super::*;
use mesyx_core::secret_keys::NewUnlock;
use std::time::Duration;

fn unlock(file: &Secret, seconds: u64) -> NewUnlock {
    NewUnlock {
        user: "alice".into(),
        keyset: "default".into(),
        file: file.clone(),
        passphrase: None,
        time: Duration::from_secs(seconds),
    }
}

async fn unlocked(session: &Arc<dyn Session>) -> Option<MailboxId> {
    let mailboxes = session.mailboxes().await.unwrap();
    mailboxes.into_iter().find(|mailbox| mailbox.name.as_str() == "Unlocked/default").map(|mailbox| mailbox.id)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlocked_keyset_shows_opened_copies_for_a_while() {
    let (place, core) = Place::with_users().await;
    for number in 0..4 {
        deliver(&core, &["alice@example.org"], &letter(number)).await;
    }
    let session = login(&core, "alice").await;
    let inbox = inbox(&session).await;
    let file = offline(&core, "default", None).await;
    let before = entries(&session, inbox).await;
    assert_eq!(unlocked(&session).await, None);
    let mut watcher = session.watch().await.unwrap();
    let told = core.unlock_keyset(unlock(&file, 600)).await.unwrap();
    assert_eq!(told.mailbox, "Unlocked/default");
    assert_eq!(watcher.next().await, Some(Change::MailboxList));
    let view = unlocked(&session).await.unwrap();
    let status = session.status(view).await.unwrap();
    assert_eq!((status.messages, status.uid_next), (4, 5));
    assert_eq!(bodies(&session, view).await, (0..4).map(letter).collect::<Vec<_>>());
    assert_eq!(subjects(&session, view).await, ["number 0", "number 1", "number 2", "number 3"]);
    let found = session.search(view, &Query::Body("the end 2".into())).await.unwrap();
    assert_eq!((found.uids.as_slice(), found.unsearchable), (&[3][..], 0));
    // The other mailboxes are as they were.
    assert_eq!(entries(&session, inbox).await, before);
    assert_eq!(subjects(&session, inbox).await, vec!["Sealed message (keyset default)"; 4]);
    // Flags stay in the view; nothing else can be changed.
    let seen = FlagChange::Add(vec![Flag::Seen]);
    assert_eq!(session.store_flags(view, &[1], &seen, None).await.unwrap().entries.len(), 1);
    assert_eq!(session.status(view).await.unwrap().unseen, 3);
    assert_eq!(session.move_messages(view, &[1], inbox).await.unwrap_err().kind(), ErrorKind::Forbidden);
    assert_eq!(session.copy(inbox, &[before[0].0], view).await.unwrap_err().kind(), ErrorKind::Forbidden);
    // What comes in meanwhile comes there too.
    let modseq = session.snapshot(view, false).await.unwrap().highest_modseq;
    deliver(&core, &["alice@example.org"], &letter(9)).await;
    while session.changes(view, modseq).await.unwrap().changed.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(bodies(&session, view).await.last(), Some(&letter(9)));
    let bob = login(&core, "bob").await;
    assert_eq!(unlocked(&bob).await, None);
    assert_eq!(bob.snapshot(view, false).await.map(drop).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(core.status().await.unwrap().unlocked_keysets.len(), 1);

    core.lock_keyset("alice", "default").unwrap();
    assert_eq!(unlocked(&session).await, None);
    assert!(session.changes(view, 0).await.unwrap().deleted);
    assert_eq!(session.snapshot(view, false).await.map(drop).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(session.bodies(view, &[1]).await.map(drop).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(core.lock_keyset("alice", "default").unwrap_err().kind(), ErrorKind::NotFound);

    // Another mailbox the next time, and gone by itself.
    let first = status.uid_validity;
    core.unlock_keyset(unlock(&file, 1)).await.unwrap();
    let next = unlocked(&session).await.unwrap();
    assert!(next != view && session.status(next).await.unwrap().uid_validity > first);
    while unlocked(&session).await.is_some() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(core.unlock_keyset(unlock(&file, 0)).await.unwrap_err().kind(), ErrorKind::Invalid);
    core.unlock_keyset(unlock(&file, 600)).await.unwrap();
    let names = secret_bytes(&file);
    assert_eq!(files_holding(place.data(), &names), Vec::<String>::new(), "never on the disk");
    drop((session, bob));
    core.close().await;
    drop(core);
    let core = place.open().await;
    assert_eq!(unlocked(&login(&core, "alice").await).await, None, "not after a restart");
}
