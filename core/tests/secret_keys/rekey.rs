//! New master keys, and passwords.

use super::*;
use mesyx_core::keys::{Argon2Params, MasterKey, Slot};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn rekeying_retires_the_old_keys_and_loses_nothing() {
    let (place, core) = Place::with_users().await;
    for number in 0..3 {
        deliver(&core, &["alice@example.org"], &letter(number)).await;
    }
    let session = login(&core, "alice").await;
    let inbox = inbox(&session).await;
    let before = entries(&session, inbox).await;
    let old = wrapped(place.data());
    let refused = core.rekey("alice", Proof::Password(password("bob")), None).await.map(drop);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::LoginFailed);
    let keys = core.rekey("alice", proof("alice"), None).await.unwrap();
    assert_eq!((keys.revoked, keys.keysets), (vec!["phone".to_owned()], vec!["default".to_owned()]));
    assert!(keys.offline.is_empty());
    assert_eq!(session.mailboxes().await.map(drop).unwrap_err().kind(), ErrorKind::Forbidden, "every session ends");
    deliver(&core, &["alice@example.org"], &letter(3)).await;
    let session = login(&core, "alice").await;
    assert_eq!(bodies(&session, inbox).await, (0..4).map(letter).collect::<Vec<_>>());
    assert_eq!(entries(&session, inbox).await[..3], before, "what is shown is the same, under the same UIDs");
    let left = wrapped(place.data());
    let gone: Vec<_> = old.into_iter().filter(|wrapped| !left.contains(wrapped)).collect();
    assert_eq!(files_holding(place.data(), &gone), Vec::<String>::new(), "nothing is left under the old master key");
    // The new message is sealed to the new keyset, and the old one's file opens none of it.
    let sealed = keyset_sizes(place.data());
    assert_eq!(sealed, [1, 3]);
    // Again, by the new recovery key: not without a password, which is all there is should the answer be lost.
    let again = Proof::RecoveryKey(keys.recovery_key.clone());
    let refused = core.rekey("alice", again, None).await.map(drop).unwrap_err();
    assert_eq!((refused.kind(), wrapped(place.data())), (ErrorKind::Invalid, left), "nothing changed");
    let third = core.rekey("alice", Proof::RecoveryKey(keys.recovery_key), Some(password("alice"))).await.unwrap();
    assert!(third.revoked.is_empty());
    let session = login(&core, "alice").await;
    assert_eq!(bodies(&session, inbox).await, (0..4).map(letter).collect::<Vec<_>>());
}

/// How many messages are sealed to each keyset that has any, sorted.
pub(super) fn keyset_sizes(data: &Path) -> Vec<u32> {
    let database = rusqlite::Connection::open(data.join("store/store.db")).unwrap();
    let mut select = database
        .prepare(
            "SELECT count(*) FROM session_keys k JOIN messages m ON m.session_key = k.id GROUP BY k.keyset ORDER BY 1",
        )
        .unwrap();
    let rows = select.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_costs_more_after_the_next_login() {
    let (mut place, core) = Place::with_users().await;
    let params = |data: &Path| {
        let database = rusqlite::Connection::open(data.join("store/store.db")).unwrap();
        let mut select = database.prepare("SELECT slot, record, last_used FROM slots ORDER BY slot").unwrap();
        let rows = select.query_map([], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, Option<i32>>(2)?))
        });
        rows.unwrap().map(Result::unwrap).collect::<Vec<_>>()
    };
    drop(login(&core, "alice").await);
    while params(place.data()).iter().all(|(.., used)| used.is_none()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let first = params(place.data());
    place.settings.argon2 = mesyx_core::settings::Argon2Settings { memory_kib: 128, passes: 2, lanes: 1 };
    core.reconfigure(place.settings.clone()).unwrap();
    drop(login(&core, "alice").await);
    while params(place.data()) == first {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let raised = params(place.data());
    let changed: Vec<_> = first.iter().zip(&raised).filter(|(one, other)| one != other).collect();
    let [(before, after)] = changed.as_slice() else { panic!("one slot changed, not {}", changed.len()) };
    assert_eq!((&before.0, before.2), (&after.0, after.2), "the same slot, and when it was used last");
    assert!(after.2.is_some());
    drop(login(&core, "alice").await);
    core.close().await;
    assert_eq!(params(place.data()), raised, "once is enough");
}

#[test]
fn a_slot_is_made_costlier_and_never_cheaper() {
    let params = |memory_kib, passes| Argon2Params { memory_kib, passes, lanes: 1 };
    let slot = Slot::create_human(mesyx_sdk::UserId::random(), &MasterKey::random(), &password("alice"), params(64, 2));
    let slot = slot.unwrap();
    assert_eq!(slot.raised(params(64, 2)), None);
    assert_eq!(slot.raised(params(32, 2)), None);
    assert_eq!(slot.raised(params(64, 1)), None);
    assert_eq!(slot.raised(params(128, 1)), Some(params(128, 2)), "more memory, and no fewer passes");
    assert_eq!(slot.raised(params(32, 3)), Some(params(64, 3)), "more passes, and no less memory");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_password_changes_one_row_whatever_the_mailbox_holds() {
    let (place, core) = Place::with_users().await;
    for number in 0..30 {
        deliver(&core, &["alice@example.org"], &letter(number)).await;
    }
    let dump = |data: &Path| {
        let database = rusqlite::Connection::open(data.join("store/store.db")).unwrap();
        let mut tables = database
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name")
            .unwrap();
        let tables: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let mut rows: Vec<(String, String)> = Vec::new();
        for table in tables.into_iter().filter(|table| table != "meta") {
            let mut select = database.prepare(&format!("SELECT * FROM {table}")).unwrap();
            let columns = select.column_count();
            let found = select.query_map([], |row| {
                let values: Vec<rusqlite::types::Value> =
                    (0..columns).map(|at| row.get(at)).collect::<Result<_, _>>()?;
                Ok(format!("{values:?}"))
            });
            rows.extend(found.unwrap().map(|row| (table.clone(), row.unwrap())));
        }
        rows
    };
    let before = dump(place.data());
    let new = Secret::from("another password".to_owned());
    core.set_password("alice", proof("alice"), new).await.unwrap();
    let after = dump(place.data());
    let gone: Vec<_> = before.iter().filter(|row| !after.contains(row)).map(|(table, _)| table.as_str()).collect();
    let come: Vec<_> = after.iter().filter(|row| !before.contains(row)).map(|(table, _)| table.as_str()).collect();
    assert_eq!((gone, come), (vec!["slots"], vec!["slots"]));
}

/// The parts of all slots that only their password opens.
fn slots(data: &Path) -> Vec<Vec<u8>> {
    let database = rusqlite::Connection::open(data.join("store/store.db")).unwrap();
    let mut select = database.prepare("SELECT record FROM slots").unwrap();
    let rows = select.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    rows.map(|row| row.unwrap()).map(|record| record[record.len() - 48..].to_vec()).collect()
}

/// What is in the first list and not in the second.
fn gone(before: Vec<Vec<u8>>, after: &[Vec<u8>]) -> Vec<Vec<u8>> {
    before.into_iter().filter(|one| !after.contains(one)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_that_are_revoked_or_replaced_are_in_no_file() {
    let (place, core) = Place::with_users().await;
    let before = slots(place.data());
    assert!(!files_holding(place.data(), &before).is_empty(), "the search finds what is there");
    core.revoke_app_password("alice", "phone").await.unwrap();
    let revoked = gone(before, &slots(place.data()));
    assert_eq!((revoked.len(), files_holding(place.data(), &revoked)), (1, Vec::new()));
    let before = slots(place.data());
    core.set_password("alice", proof("alice"), Secret::from("another password".to_owned())).await.unwrap();
    let replaced = gone(before, &slots(place.data()));
    assert_eq!((replaced.len(), files_holding(place.data(), &replaced)), (1, Vec::new()));
    let before = slots(place.data());
    core.remove_user("bob").await.unwrap();
    let removed = gone(before, &slots(place.data()));
    assert_eq!((removed.len(), files_holding(place.data(), &removed)), (3, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_key_that_is_discarded_is_in_no_file() {
    let (place, core) = Place::with_users().await;
    core.rekey("alice", proof("alice"), None).await.unwrap();
    let old = core.keysets("alice").await.unwrap().into_iter().find(|info| info.retired.is_some()).unwrap();
    let before = wrapped(place.data());
    assert!(core.remove_keyset("alice", &old.id, true).await.unwrap().gone);
    let discarded = gone(before, &wrapped(place.data()));
    assert_eq!((discarded.len(), files_holding(place.data(), &discarded)), (1, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_was_added_is_told_so_whatever_happens_afterwards() {
    let (place, core) = Place::with_users().await;
    let database = rusqlite::Connection::open(place.data().join("store/store.db")).unwrap();
    // From the moment in which carol is there, nobody can be read.
    let damage =
        "CREATE TRIGGER damage AFTER INSERT ON keysets BEGIN UPDATE users SET record = x'ff' WHERE name = 'bob'; END;";
    database.execute_batch(damage).unwrap();
    let added = add(&core, "carol").await;
    assert!(!added.recovery_key.expose().is_empty());
    let names: i64 = database.query_row("SELECT count(*) FROM users", [], |row| row.get(0)).unwrap();
    assert_eq!(names, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_damaged_secret_key_hurts_only_its_own_messages() {
    let (place, core) = Place::with_users().await;
    deliver(&core, &["alice@example.org"], &letter(1)).await;
    core.rekey("alice", proof("alice"), None).await.unwrap();
    deliver(&core, &["alice@example.org"], &letter(2)).await;
    let old = core.keysets("alice").await.unwrap().into_iter().find(|info| info.retired.is_some()).unwrap();
    core.close().await;
    drop(core);
    let database = rusqlite::Connection::open(place.data().join("store/store.db")).unwrap();
    let damage = format!(
        "UPDATE secret_keys SET wrapped = CAST(substr(wrapped, 1, 200) || x'00' || substr(wrapped, 202) AS BLOB)
         WHERE keyset = x'{}'",
        old.id
    );
    assert_eq!(database.execute(&damage, []).unwrap(), 1);
    let core = place.open().await;
    let session = login(&core, "alice").await;
    let shown = bodies(&session, inbox(&session).await).await;
    assert_eq!((shown.len(), &shown[1]), (2, &letter(2)));
    assert!(String::from_utf8_lossy(&shown[0]).contains("cannot be opened"));
    // The identity's is what tells a wrong master key: without it nobody logs in.
    drop(session);
    let damage =
        "UPDATE secret_keys SET wrapped = CAST(substr(wrapped, 1, 200) || x'00' || substr(wrapped, 202) AS BLOB)
        WHERE length(keyset) = 0";
    database.execute(damage, []).unwrap();
    let refused = core.login(credentials("alice", password("alice"), HOME)).await.map(drop);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unavailable);
}
