//! From submission to what goes on the wire, and from what came in to what goes out.

use super::*;
use crate::store::RecordKind;
use base64::Engine;

const BOB: &str = "bob@example.net";

fn from_bob(key: &Cert, date: &str) -> String {
    let address: MailAddress = BOB.parse().expect("an address");
    let header = autocrypt::header(&address, key, true).expect("a header");
    let header = String::from_utf8(header).expect("text");
    format!(
        "From: Bob <bob@example.net>\r\nTo: alice@example.org\r\nDate: {date}\r\nSubject: hello\r\n{header}\r\nhi\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_the_message_goes_as_submitted_and_with_one_encrypted_and_signed() {
    let home = Home::new().await;
    let Wrapped::Plain(plain) = home.send(BOB, MESSAGE).await else { panic!("there is no key") };
    let plain = String::from_utf8_lossy(&plain).into_owned();
    assert!(plain.ends_with(&compose_without_bcc()), "what was submitted, without Bcc: {plain}");
    assert!(plain.starts_with("Autocrypt: addr=alice@example.org; prefer-encrypt=mutual; keydata=\r\n "));
    let bob = correspondent(BOB);
    home.core.import_contact("alice", proof(), BOB, &public(&bob), false).await.expect("imported");
    let message = encrypted(home.send(BOB, MESSAGE).await);
    let clear = String::from_utf8(open(&message, &bob, Some(&home.identity()))).expect("text");
    assert!(clear.contains("Subject: the secret plan\r\n") && !clear.contains("eve@example.com"));
    // Two recipients: each has a copy of their own, and the one without a key gets it in clear.
    let outgoing = home.prepare(&[BOB, "carol@example.com"], MESSAGE).await.expect("prepared");
    encrypted(home.wrap(&outgoing, BOB).await);
    assert!(is_plain(&home.wrap(&outgoing, "carol@example.com").await));
}

fn compose_without_bcc() -> String {
    MESSAGE.replace("Bcc: eve@example.com\r\n", "")
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_before_the_answer_and_few_after() {
    let home = Home::new().await;
    let outgoing = home.prepare(&[BOB], MESSAGE).await.expect("prepared");
    assert_eq!(home.source.asked(), 0, "no directory is asked at submission");
    assert!(is_plain(&home.wrap(&outgoing, BOB).await));
    assert!(is_plain(&home.wrap(&outgoing, BOB).await));
    assert_eq!(home.source.asked(), 1, "that there is none is remembered");
    let dave = correspondent("dave@example.net");
    home.source.put("dave@example.net", Ok(Some(public(&dave))));
    let outgoing = home.prepare(&["dave@example.net"], MESSAGE).await.expect("prepared");
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (core, user, outgoing) = (Arc::clone(&home.core), home.user(), outgoing.clone());
            let to: MailAddress = "dave@example.net".parse().expect("an address");
            tokio::spawn(async move { core.shared.wrap(user, &outgoing, &to).await })
        })
        .collect();
    for task in tasks {
        open(&encrypted(task.await.expect("done")), &dave, Some(&home.identity()));
    }
    assert_eq!(home.source.asked(), 2, "many messages ask once");
    let listed = home.core.contacts("alice", proof()).await.expect("listed");
    let dave = listed.iter().find(|contact| contact.address == "dave@example.net").expect("noted");
    assert_eq!((dave.keys[0].source, dave.outcome.as_str()), (Source::Wkd, "encrypted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_required_is_never_sent_in_clear() {
    let home = Home::new().await;
    home.core.set_policy("alice", proof(), Some(BOB), Some(Policy::Require)).await.expect("set");
    let why = held(home.send(BOB, MESSAGE).await);
    assert!(why.contains(BOB) && why.contains("contact import"), "{why}");
    home.source.put(BOB, Err(LookupError("no route".to_owned())));
    // Another user's other domain: not asked of yet.
    home.core.set_policy("alice", proof(), None, Some(Policy::Require)).await.expect("set");
    home.source.put("erin@example.com", Err(LookupError("no route".to_owned())));
    let why = held(home.send("erin@example.com", MESSAGE).await);
    assert!(why.contains("no route"), "{why}");
    // Nor by what a client did itself.
    let signed =
        "From: alice@example.org\r\nContent-Type: multipart/signed; boundary=x\r\n\r\n--x\r\n\r\nclear\r\n--x--\r\n";
    let refused = home.prepare(&["erin@example.com"], signed).await.expect_err("refused");
    assert_eq!(refused.kind(), ErrorKind::Forbidden);
    // The policy of one who became strict after the message was submitted counts too.
    home.core.set_policy("alice", proof(), None, None).await.expect("set");
    let outgoing = home.prepare(&["frank@example.com"], signed).await.expect("prepared");
    assert!(is_plain(&home.wrap(&outgoing, "frank@example.com").await));
    home.core.set_policy("alice", proof(), Some("frank@example.com"), Some(Policy::Require)).await.expect("set");
    held(home.wrap(&outgoing, "frank@example.com").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_protected_is_left_as_it_is() {
    let home = Home::new().await;
    let bob = correspondent(BOB);
    home.core.import_contact("alice", proof(), BOB, &public(&bob), false).await.expect("imported");
    for message in [
        "From: alice@example.org\r\nContent-Type: multipart/signed; boundary=x\r\n\r\n--x\r\n\r\nclear \r\n--x--\r\n",
        "From: alice@example.org\r\n\r\n-----BEGIN PGP MESSAGE-----\r\n\r\nx\r\n-----END PGP MESSAGE-----\r\n",
    ] {
        let Wrapped::Plain(sent) = home.send(BOB, message).await else { panic!("wrapped again") };
        assert_eq!(&*sent, message.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_expired_or_was_revoked_holds_the_message_until_a_newer_one_is_found() {
    let home = Home::new().await;
    let old = expired(BOB);
    home.core.import_contact("alice", proof(), BOB, &public(&old), false).await.expect("imported");
    let outgoing = home.prepare(&[BOB], MESSAGE).await.expect("prepared");
    let why = held(home.wrap(&outgoing, BOB).await);
    assert!(why.contains("expired on"), "{why}");
    assert_eq!(home.source.asked(), 1, "its domain was asked for a newer one");
    let lost = revoked(&correspondent("carol@example.com"));
    home.source.put("carol@example.com", Ok(Some(public(&lost))));
    let why = held(home.send("carol@example.com", MESSAGE).await);
    assert!(why.contains("revoked"), "{why}");
    // Another key is not taken for one that the user gave, but told of.
    let other = correspondent(BOB);
    home.source.put(BOB, Ok(Some(public(&other))));
    held(home.wrap(&outgoing, BOB).await);
    home.core.import_contact("alice", proof(), BOB, &public(&other), false).await.expect("imported");
    open(&encrypted(home.wrap(&outgoing, BOB).await), &other, Some(&home.identity()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_fails_later_does_not_undo_what_it_said() {
    let home = Home::with(|pgp| pgp.wkd_fresh = std::time::Duration::ZERO).await;
    let bob = correspondent(BOB);
    home.source.put(BOB, Ok(Some(public(&bob))));
    encrypted(home.send(BOB, MESSAGE).await);
    home.core.forget_contact("alice", proof(), BOB).await.expect("forgotten");
    home.source.put(BOB, Err(LookupError("cut off".to_owned())));
    encrypted(home.send(BOB, MESSAGE).await);
    // One that never said anything: as the operator has it.
    home.source.put("carol@example.com", Err(LookupError("cut off".to_owned())));
    assert!(is_plain(&home.send("carol@example.com", MESSAGE).await));
    let strict = Home::with(|pgp| pgp.lookup_failure = LookupFailure::Hold).await;
    strict.source.put(BOB, Err(LookupError("cut off".to_owned())));
    let why = held(strict.send(BOB, MESSAGE).await);
    assert!(why.contains("cut off"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_believed_for_its_own_addresses_alone() {
    let home = Home::new().await;
    let mallory = correspondent("mallory@example.net");
    home.source.put(BOB, Ok(Some(public(&mallory))));
    assert!(is_plain(&home.send(BOB, MESSAGE).await), "a key for another address is none");
    home.source.put("carol@example.com", Ok(Some(b"no key at all".to_vec())));
    assert!(is_plain(&home.send("carol@example.com", MESSAGE).await));
    let both = [public(&mallory), public(&correspondent("dave@example.com"))].concat();
    home.source.put("dave@example.com", Ok(Some(both)));
    encrypted(home.send("dave@example.com", MESSAGE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_in_messages_are_found_by_the_next_session() {
    let home = Home::new().await;
    let bob = correspondent(BOB);
    home.receive(&from_bob(&bob, "Mon, 23 Nov 2020 01:00:00 +0000"), &["dmarc=pass"]).await;
    open(&encrypted(home.send(BOB, MESSAGE).await), &bob, Some(&home.identity()));
    let seen = home.core.shared.store.records(home.user(), RecordKind::SEEN).await.expect("read");
    assert!(seen.is_empty(), "folded in");
    // A stranger's forgery, which no domain vouches for, changes nothing but says so.
    let mallory = correspondent(BOB);
    home.receive(&from_bob(&mallory, "Mon, 23 Nov 2021 01:00:00 +0000"), &["dmarc=none"]).await;
    open(&encrypted(home.send(BOB, MESSAGE).await), &bob, Some(&home.identity()));
    let subjects = home.subjects().await;
    assert!(
        subjects.iter().any(|subject| subject == "Another key of bob@example.net was found, and is not used"),
        "{subjects:?}"
    );
    // One that its domain disowns is not looked at: what came after it is noted, it is not.
    let disowned = from_bob(&correspondent(BOB), "Mon, 23 Nov 2022 01:00:00 +0000");
    home.receive(&disowned.replace("Autocrypt:", "AUTOCRYPT:"), &["dmarc=fail"]).await;
    let carol = from_bob(&correspondent("carol@example.com"), "Mon, 23 Nov 2022 01:00:00 +0000")
        .replace(BOB, "carol@example.com");
    home.receive(&carol, &["dmarc=pass"]).await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(home.core.shared.store.records(home.user(), RecordKind::SEEN).await.expect("read").len(), 1);
    // Bob's new key, from Bob's domain.
    let new = correspondent(BOB);
    home.receive(&from_bob(&new, "Mon, 23 Nov 2023 01:00:00 +0000"), &["dmarc=pass"]).await;
    open(&encrypted(home.send(BOB, MESSAGE).await), &new, Some(&home.identity()));
    assert!(home.subjects().await.iter().any(|subject| subject == "The key of bob@example.net has changed"));
    // The pin outlasts it.
    let fingerprint = new.fingerprint().to_hex();
    home.core.pin_contact("alice", proof(), BOB, Some(&fingerprint)).await.expect("pinned");
    home.receive(&from_bob(&correspondent(BOB), "Mon, 23 Nov 2024 01:00:00 +0000"), &["dmarc=pass"]).await;
    open(&encrypted(home.send(BOB, MESSAGE).await), &new, Some(&home.identity()));
    let contact = home.core.contact("alice", proof(), BOB).await.expect("a contact");
    assert_eq!(contact.pin, Some(fingerprint));
    assert_eq!(contact.aside.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn attached_keys_are_offered_and_used_once_verified() {
    let home = Home::new().await;
    let bob = correspondent(BOB);
    let encoded = base64::engine::general_purpose::STANDARD.encode(public(&bob));
    let message = format!(
        "From: bob@example.net\r\nTo: alice@example.org\r\nX-Autocrypt: none\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n\
         --x\r\n\r\nmy key\r\n--x\r\nContent-Type: application/pgp-keys; name=k.asc\r\nContent-Transfer-Encoding: base64\r\n\r\n\
         {encoded}\r\n--x--\r\n"
    );
    home.receive(&message.replace("X-Autocrypt: none", "X-Autocrypt: Autocrypt:"), &[]).await;
    assert!(is_plain(&home.send(BOB, MESSAGE).await), "offered, not trusted");
    let contact = home.core.contact("alice", proof(), BOB).await.expect("a contact");
    assert_eq!((contact.keys[0].source, contact.keys[0].in_use), (Source::Seen, false));
    let fingerprint = bob.fingerprint().to_spaced_hex().to_lowercase();
    let contact = home.core.verify_contact("alice", proof(), BOB, &fingerprint).await.expect("verified");
    assert_eq!((contact.keys[0].source, contact.keys[0].in_use), (Source::Verified, true));
    encrypted(home.send(BOB, MESSAGE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_signing_key_messages_are_refused_or_go_unsigned_and_that_is_said() {
    let home = Home::new().await;
    let bob = correspondent(BOB);
    home.core.import_contact("alice", proof(), BOB, &public(&bob), false).await.expect("imported");
    // An identity that can't sign: its secret part is not here.
    let mut outgoing = home.prepare(&[BOB], MESSAGE).await.expect("prepared");
    let form = form(&outgoing.original, None, Some("its secret part is elsewhere".to_owned()));
    outgoing.form = Some(form.expect("a form"));
    let message = encrypted(home.wrap(&outgoing, BOB).await);
    open(&message, &bob, None);
    let subjects = home.subjects().await;
    assert_eq!(subjects, ["Your messages leave encrypted, but not signed"]);
    encrypted(home.wrap(&outgoing, BOB).await);
    assert_eq!(home.subjects().await.len(), 1, "once a day");
    assert!(crypt::signing_key(None).is_err());
    assert!(crypt::signing_key(Some(&home.identity())).is_err(), "a public part signs nothing");
    assert!(crypt::signing_key(Some(&expired(BOB))).is_err());
    assert!(crypt::signing_key(Some(&revoked(&bob))).is_err());
    home.core.set_signing("alice", proof(), Some(Signing::Off)).await.expect("set");
    open(&encrypted(home.send(BOB, MESSAGE).await), &bob, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_sender_has_what_was_known_at_submission() {
    let home = Home::new().await;
    let bob = correspondent(BOB);
    home.core.import_contact("alice", proof(), BOB, &public(&bob), false).await.expect("imported");
    home.core.set_policy("alice", proof(), Some("carol@example.com"), Some(Policy::Require)).await.expect("set");
    let outgoing = home.prepare(&[BOB, "carol@example.com"], MESSAGE).await.expect("prepared");
    home.core.shared.access.end_all(home.user(), "test");
    assert!(home.core.shared.access.open_user(home.user()).is_none());
    open(&encrypted(home.wrap(&outgoing, BOB).await), &bob, Some(&home.identity()));
    held(home.wrap(&outgoing, "carol@example.com").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_change_the_book_and_prove_who_asks() {
    let home = Home::new().await;
    let wrong = Proof::Password(Secret::from("not it".to_owned()));
    assert_eq!(home.core.contacts("alice", wrong).await.expect_err("refused").kind(), ErrorKind::LoginFailed);
    let bob = correspondent(BOB);
    let other = correspondent("other@example.net");
    let refused = home.core.import_contact("alice", proof(), BOB, &public(&other), false).await.expect_err("refused");
    assert!(refused.message().contains("--any-name"), "{refused}");
    home.core.import_contact("alice", proof(), "Bob@Example.NET", &public(&bob), false).await.expect("imported");
    let contact = home.core.contact("alice", proof(), BOB).await.expect("a contact");
    assert_eq!(
        (contact.keys.len(), contact.outcome.as_str(), contact.effective_policy),
        (1, "encrypted", Policy::Prefer)
    );
    assert_eq!(contact.keys[0].user_ids, ["Bob <bob@example.net>"]);
    let missing = home.core.pin_contact("alice", proof(), BOB, Some(&"0".repeat(40))).await.expect_err("refused");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    home.core.pin_contact("alice", proof(), BOB, Some(&contact.keys[0].fingerprint)).await.expect("pinned");
    let second = correspondent(BOB);
    let refused = home.core.import_contact("alice", proof(), BOB, &public(&second), false).await.expect_err("refused");
    assert_eq!(refused.kind(), ErrorKind::Forbidden);
    home.core.pin_contact("alice", proof(), BOB, None).await.expect("unpinned");
    home.core.import_contact("alice", proof(), BOB, &public(&second), false).await.expect("imported");
    home.core.forget_contact("alice", proof(), BOB).await.expect("forgotten");
    assert_eq!(home.core.contact("alice", proof(), BOB).await.expect_err("gone").kind(), ErrorKind::NotFound);
    assert!(home.core.contacts("alice", proof()).await.expect("listed").is_empty());
}
