//! Errors as gRPC says them: a status, its text, and two trailers.

use super::v1;
use crate::{Error, ErrorKind};
use std::time::Duration;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Code, Status};

/// The trailer that names the [`ErrorKind`].
pub const KIND: &str = "mesyx-error";
/// The trailer that says after how many milliseconds to try again.
pub const RETRY_AFTER: &str = "mesyx-retry-after-ms";

/// Longest text that is sent or believed, in bytes: it stands in HTTP/2 headers, three bytes for one that is not ASCII.
const MAX_TEXT: usize = 2048;
/// Longest time to wait that is believed.
const MAX_WAIT: Duration = Duration::from_secs(7 * 86_400);

const KINDS: [(ErrorKind, &str, Code); 12] = [
    (ErrorKind::NotFound, "not-found", Code::NotFound),
    (ErrorKind::Exists, "exists", Code::AlreadyExists),
    (ErrorKind::LoginFailed, "login-failed", Code::Unauthenticated),
    (ErrorKind::Forbidden, "forbidden", Code::PermissionDenied),
    (ErrorKind::NotGranted, "not-granted", Code::PermissionDenied),
    (ErrorKind::Invalid, "invalid", Code::InvalidArgument),
    (ErrorKind::TooLarge, "too-large", Code::OutOfRange),
    (ErrorKind::OverQuota, "over-quota", Code::ResourceExhausted),
    (ErrorKind::Full, "full", Code::ResourceExhausted),
    (ErrorKind::TooMany, "too-many", Code::ResourceExhausted),
    (ErrorKind::Unavailable, "unavailable", Code::Unavailable),
    (ErrorKind::Unreadable, "unreadable", Code::DataLoss),
];

/// The word for a kind of error.
#[must_use]
pub fn word(kind: ErrorKind) -> &'static str {
    KINDS.iter().find(|(of, _, _)| *of == kind).map_or("unavailable", |(_, word, _)| word)
}

/// The kind that a word stands for; `None` for one that a newer version may know.
#[must_use]
pub fn kind(word: &str) -> Option<ErrorKind> {
    KINDS.iter().find(|(_, of, _)| *of == word).map(|(kind, _, _)| *kind)
}

/// The kind that is nearest to a code, for a status without a kind that is known.
fn nearest(code: Code) -> ErrorKind {
    match code {
        Code::PermissionDenied => ErrorKind::Forbidden,
        Code::ResourceExhausted => ErrorKind::Full,
        other => KINDS.iter().find(|(_, _, of)| *of == other).map_or(ErrorKind::Unavailable, |(kind, _, _)| *kind),
    }
}

/// An error as a status.
#[must_use]
pub fn to_status(error: &Error) -> Status {
    let code = KINDS.iter().find(|(kind, _, _)| *kind == error.kind()).map_or(Code::Unavailable, |(_, _, code)| *code);
    let mut trailers = MetadataMap::new();
    trailers.insert(KIND, AsciiMetadataValue::from_static(word(error.kind())));
    if let Some(after) = error.wait() {
        trailers.insert(RETRY_AFTER, millis(after).into());
    }
    Status::with_metadata(code, cut(error.message()), trailers)
}

/// What a status says.
#[must_use]
pub fn from_status(status: &Status) -> Error {
    let trailer = |name| status.metadata().get(name).and_then(|value| value.to_str().ok());
    let told = trailer(KIND).and_then(kind);
    let text = match (told, status.code()) {
        (Some(_), _) => cut(status.message()).to_owned(),
        (None, Code::Unimplemented) => "the host does not know this call; it is older than this bridge".to_owned(),
        (None, Code::DeadlineExceeded | Code::Cancelled) => "the call did not end in time".to_owned(),
        (None, Code::Unavailable | Code::Unknown | Code::Internal) => {
            format!("the connection between bridge and host failed: {}", cut(status.message()))
        }
        (None, _) => cut(status.message()).to_owned(),
    };
    let error = Error::new(told.unwrap_or_else(|| nearest(status.code())), text);
    match trailer(RETRY_AFTER).and_then(|text| text.parse().ok()) {
        Some(after) => error.retry_after(Duration::from_millis(after).min(MAX_WAIT)),
        None => error,
    }
}

/// An error where it stands beside results.
impl From<&Error> for v1::Error {
    fn from(error: &Error) -> Self {
        Self {
            kind: word(error.kind()).to_owned(),
            message: cut(error.message()).to_owned(),
            retry_after_ms: error.wait().map(millis),
        }
    }
}

/// What an error beside results says. A function, for another `From` would make `?` ambiguous for who uses the SDK.
#[must_use]
pub fn told(error: &v1::Error) -> Error {
    let told = Error::new(kind(&error.kind).unwrap_or(ErrorKind::Unavailable), cut(&error.message));
    match error.retry_after_ms {
        Some(after) => told.retry_after(Duration::from_millis(after).min(MAX_WAIT)),
        None => told,
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The beginning of a text that is not too long to be sent.
pub(super) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}
