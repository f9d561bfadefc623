//! Signing and encrypting alone, for benchmarks.

// A benchmark that fails panics: that is what it is for.
#![allow(clippy::expect_used, clippy::panic)]

use super::contact::{Choice, Contact, Known, Source};
use super::{Policy, compose, crypt, form, outgoing::Form};
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
