//! A session against a made-up host, for tests and fuzzing: no socket, no clock.
//!
//! The host knows `alice`, `bob` and `postmaster` at `example.org`; `bob` is over quota, whether a user may write as `away` can't be told,
//! and nothing is ever stored.
//! Alice's password is `secret`.

use super::session::Session;
use super::terms::{Answer, Limits, Role, Settings, Step, TlsInfo};
use mesyx_sdk::{
    Accepted, Address, ByteBudget, Domain, Envelope, Error, ErrorKind, MailAddress, RecipientStatus, Timestamp, UserId,
};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// What came of a conversation.
#[derive(Debug, Default)]
pub struct Transcript {
    /// All that was said to the peer.
    pub output: Vec<u8>,
    /// The messages that were taken, each with the length of our own headers at its front.
    pub taken: Vec<(Envelope, usize)>,
    /// The connection was ended by us.
    pub closed: bool,
}

impl Transcript {
    /// The codes of all replies, without continuation lines.
    #[must_use]
    pub fn codes(&self) -> Vec<u16> {
        let lines = self.output.split(|byte| *byte == b'\n');
        let last = lines.filter(|line| line.get(3) == Some(&b' '));
        last.filter_map(|line| std::str::from_utf8(&line[..3]).ok()?.parse().ok()).collect()
    }

    /// The peer's bytes of each message taken.
    #[must_use]
    pub fn bodies(&self) -> Vec<Vec<u8>> {
        self.taken.iter().map(|(envelope, trace)| envelope.content[*trace..].to_vec()).collect()
    }
}

/// Small limits, so that tests and fuzzing reach them.
#[must_use]
pub fn limits() -> Limits {
    Limits { message_size: 10_000, recipients: 5, errors: 20, idle_commands: 50, command_bytes: 100_000, received: 50 }
}

/// Settings with [`limits`].
#[must_use]
pub fn settings(role: Role) -> Arc<Settings> {
    let hostname = "mail.example.org".to_owned();
    Arc::new(Settings { role, hostname, limits: limits(), budget: ByteBudget::new(1 << 20), shares: Arc::default() })
}

/// Talks in the clear, with login allowed where the role has one, and no STARTTLS; `pieces` are what each read gives.
#[must_use]
pub fn converse(settings: &Arc<Settings>, pieces: &[&[u8]]) -> Transcript {
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    run(Session::new(Arc::clone(settings), ip, None, false, true), pieces)
}

/// Gives the pieces to a session and answers for the made-up host. A STARTTLS is answered as if the handshake was done.
#[must_use]
pub fn run(mut session: Session, pieces: &[&[u8]]) -> Transcript {
    let mut transcript = Transcript::default();
    let now = Timestamp::from_seconds(1_795_387_064);
    transcript.output.append(session.output());
    for piece in pieces {
        let mut input = *piece;
        loop {
            let step = session.advance(&mut input, now);
            transcript.output.append(session.output());
            match step {
                Step::Read => break,
                Step::Close => {
                    transcript.closed = true;
                    return transcript;
                }
                other => {
                    let answer = answer(other, &mut transcript);
                    session.answer(answer);
                    transcript.output.append(session.output());
                }
            }
        }
    }
    transcript
}

fn answer(step: Step, transcript: &mut Transcript) -> Answer {
    match step {
        Step::Recipient(address) => Answer::Recipient(Ok(status(&address))),
        Step::Sender(address) if is(&address, "away") => {
            Answer::Sender(Err(Error::new(ErrorKind::Unavailable, "nobody can tell now")))
        }
        Step::Sender(address) => Answer::Sender(Ok(is(&address, "alice"))),
        Step::Login { name, password } if name == "alice" && password.expose() == b"secret" => {
            Answer::Login(Ok(UserId([1; 16])))
        }
        Step::Login { .. } => Answer::Login(Err(Error::new(ErrorKind::LoginFailed, "wrong name or password"))),
        Step::Take(incoming) => {
            let id = incoming.envelope.id;
            let bob = |address: &Address| address.as_mail().is_some_and(|mail| is(mail, "bob"));
            if incoming.envelope.to.iter().any(|recipient| bob(&recipient.address)) {
                return Answer::Taken(Err(Error::new(ErrorKind::OverQuota, "the mailbox is full")));
            }
            transcript.taken.push((incoming.envelope, incoming.trace));
            Answer::Taken(Ok(Accepted { id, duplicate: false }))
        }
        Step::StartTls | Step::Read | Step::Close => {
            Answer::Tls(TlsInfo { version: "TLSv1.3".to_owned(), cipher: "none".to_owned() })
        }
    }
}

fn status(address: &Address) -> RecipientStatus {
    let Some(mail) = address.as_mail() else { return RecipientStatus::Foreign };
    if !matches!(mail.domain(), Domain::Name(name) if name == "example.org" || name == "mail.example.org") {
        return RecipientStatus::Foreign;
    }
    match mail.local() {
        "alice" | "bob" | "postmaster" | "δ" => RecipientStatus::Local,
        _ => RecipientStatus::Unknown,
    }
}

fn is(address: &MailAddress, local: &str) -> bool {
    address.local() == local && address.domain().as_name() == Some("example.org")
}

/// The fuzz target: any bytes, cut anyhow, give the same conversation as in one piece, replies are well formed,
/// and no message that was taken has a bare line end or NUL, or more than the limit.
///
/// The first byte chooses the role, the second how the rest is cut.
///
/// # Panics
/// Where one of these does not hold.
#[allow(clippy::panic)]
pub fn fuzz(data: &[u8]) {
    let [role, cut, text @ ..] = data else { return };
    let settings = settings(if role & 1 == 0 { Role::Mx } else { Role::Submission });
    let cut = usize::from(*cut) + 1;
    let pieces: Vec<&[u8]> = text.chunks(cut).collect();
    let cut = converse(&settings, &pieces);
    let whole = converse(&settings, &[text]);
    assert_eq!(cut.codes(), whole.codes(), "cutting changed the replies");
    assert_eq!(cut.closed, whole.closed, "cutting changed the end");
    let (cut_bodies, bodies) = (cut.bodies(), whole.bodies());
    assert_eq!(cut_bodies.len(), bodies.len(), "cutting changed what was taken");
    for (index, body) in bodies.iter().enumerate() {
        if settings.role == Role::Mx {
            assert_eq!(cut_bodies[index], *body, "cutting changed a message");
        }
        assert!(!body.contains(&0), "a NUL was taken");
        assert!(!has_bare_line_end(body), "a bare CR or LF was taken");
        assert!(body.len() <= limits().message_size + 200, "a message over the limit was taken");
    }
    for line in whole.output.split_inclusive(|byte| *byte == b'\n') {
        assert!(line.ends_with(b"\r\n") && line.len() <= 512 && line.is_ascii(), "a reply is malformed");
        assert!(line[..3].iter().all(u8::is_ascii_digit), "a reply has no code");
    }
    assert_eq!(settings.budget.available(), settings.budget.total(), "memory was lost");
}

/// Whether a CR or LF stands outside of CRLF.
#[must_use]
pub fn has_bare_line_end(bytes: &[u8]) -> bool {
    bytes.iter().enumerate().any(|(at, byte)| match byte {
        b'\r' => bytes.get(at + 1) != Some(&b'\n'),
        b'\n' => at == 0 || bytes[at - 1] != b'\r',
        _ => false,
    })
}
