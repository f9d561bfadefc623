//! Signing and encrypting alone, for benchmarks; reading alone, for fuzzing.

// A benchmark or a check that fails panics: that is what it is for.
#![allow(clippy::expect_used, clippy::panic)]

use super::contact::{Choice, Contact, Known, Source};
use super::{Policy, autocrypt, certificate, compose, crypt, form, harvest, outgoing::Form};
use mesyx_sdk::{Content, Timestamp};
use sequoia_openpgp::Cert;

/// A message as the queue has it, with what it needs for one recipient.
#[derive(Debug)]
pub struct Measured {
    form: Form,
    contact: Contact,
}

/// What submission does with a message.
///
/// # Panics
/// Where the certificates can't sign or encrypt.
#[must_use]
pub fn prepare(message: &[u8], sender: &Cert, to: &str, recipient: &Cert) -> Measured {
    let key = crypt::signing_key(Some(sender)).expect("the sender can sign");
    let form = form(&Content::from(message.to_vec()), Some(key), None).expect("a form");
    let mut contact = Contact::new(to);
    contact.learn(&Known::new(recipient, Source::User, 0).expect("a certificate"));
    Measured { form, contact }
}

impl Measured {
    /// What an attempt does with it, from the stored certificate on; the length of what goes out.
    ///
    /// # Panics
    /// Where the certificate can't be used.
    #[must_use]
    pub fn wrap(&self) -> usize {
        let now = Timestamp::now().0 / 1000;
        let Choice::Encrypt(usable) = self.contact.choose(Policy::Require, now) else { panic!("a usable key") };
        let armored = crypt::encrypt(&self.form.packets, &[usable]).expect("encrypted");
        compose::encrypted(&self.form.outer, &armored).len()
    }
}

/// Reads a message as intake and submission do, and checks what must hold for any. For fuzzing.
///
/// # Panics
/// Where something does not hold.
pub fn look_at(message: &[u8]) {
    let content = Content::from(message.to_vec());
    let header = &content[..compose::header_length(&content)];
    if let Some(found) = autocrypt::find(header) {
        let author = autocrypt::author(header).map(|author| certificate::canonical(&author));
        assert_eq!(Some(found.address), author, "a header counts for the message's author alone");
    }
    assert!(harvest::sightings(&content, false, Timestamp(0)).len() <= 4, "few keys of one message are noted");
    compose::protection(&content);
    let kept = compose::without_blind(&content).map_or_else(|| content.clone(), Content::from);
    assert!(compose::without_blind(&kept).is_none(), "no blind recipient is left");
    let compose::Parted { payload, outer } = compose::part(&kept);
    for field in mesyx_sdk::mime::fields(&outer) {
        let hidden = field.is("Subject") && mesyx_sdk::mime::unfold(field.value) != b"[...]";
        assert!(!hidden && !field.is("Bcc") && !field.is("Content-Type"), "what stands outside");
    }
    let body = &kept[compose::header_length(&kept)..];
    assert!(payload.ends_with(body), "the body is kept");
    let inner = &payload[..payload.len() - body.len()];
    assert!(inner.ends_with(b"\r\n\r\n"), "the header block inside ends before the body");
    assert_eq!(mesyx_sdk::mime::fields(inner).filter(|field| field.is("Content-Type")).count(), types(header).max(1));
    let _ = super::Outgoing::decode(&content);
}

/// How often a header block says what the body is.
fn types(header: &[u8]) -> usize {
    mesyx_sdk::mime::fields(header).filter(|field| field.is("Content-Type")).count()
}
