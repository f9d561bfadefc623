//! Sending against a server that says anything: the fuzz target, and what a test needs for it.

use super::client::{Client, Login, Need, Said, StartTls};
use super::message::{Envelope, Message};
use crate::proto::simulate::has_bare_line_end;
use bytes::Bytes;
use mesyx_sdk::{Address, Dsn, Recipient, Secret};
use std::sync::Arc;

/// The password that must not be seen before TLS, and how AUTH writes it.
const PASSWORD: &str = "correct horse";

/// A message to two recipients, whose content has dots to stuff.
///
/// # Panics
/// Never: the addresses are right.
#[must_use]
#[allow(clippy::expect_used)]
pub fn message() -> (Envelope, Arc<Message>) {
    let address = |text: &str| text.parse::<Address>().expect("an address");
    let to = ["bob@example.net", "eve@example.net"].map(|text| Recipient::new(address(text)));
    let from = address("alice@example.org").as_mail().cloned();
    let content = Bytes::from_static(b"Subject: x\r\n\r\n.\r\n..\r\nMAIL FROM:<>\r\n");
    let message = Message::new(Vec::new(), content).expect("a message");
    (Envelope { from, dsn: Dsn::default(), to: to.to_vec() }, Arc::new(message))
}

/// Any bytes from the server, cut anyhow: nothing that is written has a bare line end, no login before TLS where that is
/// wanted, no more message ends than messages, one answer for each recipient, and nothing taken that was not sent.
///
/// The first byte chooses what is wanted, the second how the rest is cut.
///
/// # Panics
/// Where one of these does not hold.
#[allow(clippy::panic)]
pub fn fuzz(data: &[u8]) {
    let [wish, cut, text @ ..] = data else { return };
    let starttls = [StartTls::Never, StartTls::IfOffered, StartTls::Always][usize::from(wish % 3)];
    let login =
        (wish & 8 != 0).then(|| Login { name: "alice".to_owned(), password: Secret::from(PASSWORD.to_owned()) });
    let mut client = Client::new("mail.example.org", starttls, login);
    let mut written = Vec::new();
    let mut secured = starttls != StartTls::Always;
    let mut sent = 0;
    let mut pieces = text.chunks(usize::from(*cut) + 1);
    loop {
        match client.need() {
            Need::Write => {
                let mut out = Vec::new();
                client.output(&mut out);
                assert!(!out.is_empty(), "there was nothing to write");
                written.extend_from_slice(&out);
                assert!(secured || !contains(&written, b"AUTH "), "a login before TLS");
            }
            Need::Read(_) => match pieces.next() {
                Some(piece) => client.input(piece),
                None => client.lost("the end"),
            },
            Need::Handshake => {
                secured = true;
                client.secured();
            }
            Need::Nothing if sent < 3 => {
                let (envelope, message) = message();
                sent += 1;
                client.send(envelope, message);
            }
            Need::Nothing => client.quit(),
            Need::Close => break,
        }
        if let Some(report) = client.report() {
            assert_eq!(report.said.len(), 2, "one answer for each recipient");
            let ends = |said: &Said| matches!(said, Said::Taken(_) | Said::Unheard { maybe_sent: true });
            let whole = contains(&written, b"\r\nMAIL FROM:<>\r\n");
            assert!(whole || !report.said.iter().any(ends), "taken, but never sent");
        }
    }
    assert!(!has_bare_line_end(&written), "a bare line end was written");
    let ends = written.windows(5).filter(|window| *window == b"\r\n.\r\n").count();
    assert!(ends <= sent, "more message ends than messages");
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
