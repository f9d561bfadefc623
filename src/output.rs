//! What commands write to standard output.

use crate::exit::Failure;
use std::fmt::Arguments;
use std::io::{ErrorKind, Write};
use std::sync::OnceLock;

/// The first error that was met, told when the program ends.
static FAILED: OnceLock<std::io::Error> = OnceLock::new();

/// Writes a line to standard output. A reader that went away, as `head` does, is no error: the rest is not wanted.
macro_rules! say {
    ($($text:tt)*) => { $crate::output::line(format_args!($($text)*)) };
}

/// Writes a line; [`finish`] tells whether that failed.
pub(crate) fn line(text: Arguments<'_>) {
    if let Err(error) = writeln!(std::io::stdout().lock(), "{text}")
        && error.kind() != ErrorKind::BrokenPipe
    {
        // Only the first is kept.
        let _ = FAILED.set(error);
    }
}

/// Whether all that was said was written.
pub(crate) fn finish() -> Result<(), Failure> {
    match FAILED.get() {
        Some(error) => Err(Failure::new(format!("standard output: {error}"))),
        None => Ok(()),
    }
}
