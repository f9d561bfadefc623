//! What a call to the host can answer instead of a result.

use std::fmt;
use std::time::Duration;

/// Why a call failed, in the terms a bridge must tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no such user, mailbox or message. (IMAP `[NONEXISTENT]`, SMTP 550 5.1.1.)
    NotFound,
    /// Something of that name is there already. (IMAP `[ALREADYEXISTS]`.)
    Exists,
    /// Wrong name or password; which of the two is not said. (IMAP `[AUTHENTICATIONFAILED]`, SMTP 535 5.7.8.)
    LoginFailed,
    /// The logged-in user, or this sender, may not do that. (IMAP `[NOPERM]`, SMTP 550 5.7.1.)
    Forbidden,
    /// The operator did not grant this bridge the call.
    NotGranted,
    /// The request itself is wrong: a bad name, a malformed message. Repeating it will not help.
    Invalid,
    /// Larger than the configured limit. (IMAP `[TOOBIG]`, SMTP 552 5.3.4.)
    TooLarge,
    /// The user's quota is spent. (IMAP `[OVERQUOTA]`, SMTP 452 4.2.2.)
    OverQuota,
    /// The disk is full, or the byte budget is spent: try again later. (IMAP `[LIMIT]`, SMTP 452 4.3.1.)
    Full,
    /// Too many attempts: try again after [`Error::retry_after`]. (SMTP 421 or 454 4.7.0.)
    TooMany,
    /// The part that answers is not there now (starting, stopping, broken): try again later. (SMTP 451 4.3.0, IMAP `[UNAVAILABLE]`.)
    Unavailable,
    /// A stored message can't be opened: damaged, swapped, or its secret key is not here.
    Unreadable,
}

impl ErrorKind {
    /// Whether the same request may succeed later without anybody changing it.
    #[must_use]
    pub const fn is_temporary(self) -> bool {
        matches!(self, Self::OverQuota | Self::Full | Self::TooMany | Self::Unavailable)
    }
}

/// A failed call: its kind, and a text that says what failed and what to do.
///
/// The text is one line, free of control characters and of secrets, fit to be shown to a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    retry_after: Option<Duration>,
}

impl Error {
    /// An error with its text. Control characters in the text become spaces, so that it fits on a protocol line.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let message = message.into().replace(|c: char| c.is_control(), " ");
        Self { kind, message, retry_after: None }
    }

    /// The same error with the time after which to try again.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Which kind of failure.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What failed and what to do, in one line.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// After which time to try again, where that is known.
    #[must_use]
    pub const fn wait(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Text that is no address: [`ErrorKind::Invalid`].
impl From<crate::AddressError> for Error {
    fn from(error: crate::AddressError) -> Self {
        Self::new(ErrorKind::Invalid, error.to_string())
    }
}
