//! What is said between us and a server, and what follows from it: the words of [`super::client`].

use super::reply::{Malformed, Reply};
use mesyx_sdk::Secret;

/// What is wanted of TLS before a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartTls {
    /// It is not asked for: there is none, or the connection began with it.
    Never,
    /// Where the server offers it.
    IfOffered,
    /// Nothing is sent without.
    Always,
}

/// Who we are to a server that wants to know.
#[derive(Debug, Clone)]
pub struct Login {
    /// The name.
    pub name: String,
    /// The password.
    pub password: Secret,
}

/// What a server offers (RFC 5321, section 2.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offers {
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// 8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// SMTPUTF8 (RFC 6531).
    pub utf8: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// SIZE (RFC 1870), with the largest message that is taken; 0 where it does not say.
    pub size: Option<u64>,
    /// AUTH PLAIN (RFC 4616).
    pub auth_plain: bool,
    /// AUTH LOGIN.
    pub auth_login: bool,
}

impl Offers {
    /// What an answer to EHLO offers.
    pub(super) fn read(reply: &Reply) -> Self {
        let mut offers = Self::default();
        for line in reply.lines.iter().skip(1) {
            let line = line.to_ascii_uppercase();
            let mut words = line.split([' ', '=']).filter(|word| !word.is_empty());
            match words.next().unwrap_or_default() {
                "STARTTLS" => offers.starttls = true,
                "PIPELINING" => offers.pipelining = true,
                "CHUNKING" => offers.chunking = true,
                "8BITMIME" => offers.eight_bit = true,
                "SMTPUTF8" => offers.utf8 = true,
                "DSN" => offers.dsn = true,
                "SIZE" => offers.size = Some(words.next().and_then(|size| size.parse().ok()).unwrap_or(0)),
                "AUTH" => {
                    for word in words {
                        offers.auth_plain |= word == "PLAIN";
                        offers.auth_login |= word == "LOGIN";
                    }
                }
                _ => {}
            }
        }
        offers
    }
}

/// Which command an answer is to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// None: it is the greeting.
    Greeting,
    /// EHLO.
    Ehlo,
    /// HELO.
    Helo,
    /// STARTTLS.
    StartTls,
    /// AUTH, or a line of it.
    Auth(u8),
    /// MAIL.
    Mail,
    /// RCPT of this recipient.
    Rcpt(usize),
    /// DATA.
    Data,
    /// The content.
    End,
    /// RSET.
    Reset,
    /// QUIT.
    Quit,
}

impl Stage {
    /// The command's name, for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Greeting => "the connection",
            Self::Ehlo => "EHLO",
            Self::Helo => "HELO",
            Self::StartTls => "STARTTLS",
            Self::Auth(_) => "AUTH",
            Self::Mail => "MAIL",
            Self::Rcpt(_) => "RCPT",
            Self::Data => "DATA",
            Self::End => "the message",
            Self::Reset => "RSET",
            Self::Quit => "QUIT",
        }
    }
}

/// What the machine waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// [`super::client::Client::output`] has something.
    Write,
    /// An answer to this.
    Read(Stage),
    /// A TLS handshake; then [`super::client::Client::secured`].
    Handshake,
    /// A message, or the end.
    Nothing,
    /// The connection is over: see [`super::client::Client::end`].
    Close,
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// We ended it.
    Quit,
    /// The server refused it, or ended it with 421.
    Refused(Stage, Reply),
    /// TLS is needed, and the server does not offer it.
    NoTls,
    /// TLS is needed, and the server refused to begin.
    TlsRefused(Reply),
    /// Something came between the server's yes to STARTTLS and the handshake.
    Injected,
    /// The server does not offer a way to log in that we know.
    NoLogin,
    /// The server does not know name and password.
    LoginRefused(Reply),
    /// What came is not SMTP.
    Malformed(Malformed),
    /// The connection broke, or the server was silent for too long.
    Lost(String),
    /// All recipients were refused, and the server waited for a message all the same.
    Abandoned,
}

/// How it went for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Taken.
    Taken(Reply),
    /// Refused, at this command.
    Refused(Stage, Reply),
    /// The server lacks what the message or address needs; in RFC 3463's codes and words.
    Unable(&'static str),
    /// The session ended before the server said; `maybe_sent` where it had all of the message.
    Unheard {
        /// The server may have taken the message.
        maybe_sent: bool,
    },
}

/// How a message went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// One for each recipient, in their order.
    pub said: Vec<Said>,
    /// The wishes on notices were passed on.
    pub dsn: bool,
}
