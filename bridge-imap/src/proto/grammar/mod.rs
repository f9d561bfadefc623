//! The grammar of commands (RFC 3501, section 9, and the extensions that are announced).
//!
//! Reads one whole frame, with its literals in place. Each rule says what it expects, which becomes the text of `BAD`.

mod base;
mod commands;
mod fetch;
mod list;
mod search;

use super::command::Command;
use base::Input;
use winnow::error::{ContextError, ErrMode, StrContext, StrContextValue};

/// Why a frame is no command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// The command's tag, where it can be told.
    pub(crate) tag: Option<String>,
    /// What was expected, in words fit for the client.
    pub(crate) expected: String,
}

/// Reads a command.
pub(crate) fn parse(frame: &[u8]) -> Result<Command<'_>, Malformed> {
    let mut input: Input<'_> = frame;
    let tag = match base::tag(&mut input) {
        Ok(tag) => tag,
        Err(error) => return Err(Malformed { tag: None, expected: explain(error) }),
    };
    match commands::body(&mut input) {
        Ok(body) if input.is_empty() => Ok(Command { tag, body }),
        Ok(_) => Err(Malformed { tag: Some(tag), expected: "expected the end of the command".into() }),
        Err(error) => Err(Malformed { tag: Some(tag), expected: explain(error) }),
    }
}

/// The innermost thing that was expected.
fn explain(error: ErrMode<ContextError>) -> String {
    let context = error.into_inner().unwrap_or_default();
    let mut texts = context.context().filter_map(|context| match context {
        StrContext::Expected(StrContextValue::Description(what)) => Some(*what),
        _ => None,
    });
    texts.next().map_or_else(|| "the command can't be read".into(), |what| format!("expected {what}"))
}

#[cfg(test)]
mod tests;
