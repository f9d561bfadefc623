//! Questions of one bridge to another, and the limits of what bridges hand each other.

use async_trait::async_trait;
use mesyx_sdk::{Answer, Error, ErrorKind, Question, Secret, Signal};
use std::time::Duration;

/// How long an answer may take.
pub(crate) const TIME: Duration = Duration::from_secs(10);
/// Most bytes of a question's details together.
const QUESTION_BYTES: usize = 64 << 10;
/// Most bytes of an answer's rows together.
const ANSWER_BYTES: usize = 1 << 20;
/// What one row or field counts beside its bytes, so that a million empty ones are no small answer.
const EACH: usize = 16;
/// A signal's details: how many, and bytes of each.
const SIGNAL_ARGS: (usize, usize) = (16, 1024);
/// A checkpoint: bytes of its key and of its value.
const CHECKPOINT_BYTES: (usize, usize) = (200, 65_536);

/// The way from one bridge to the others.
#[async_trait]
pub(crate) trait Questions: Send + Sync {
    /// Has a question answered by the bridge that it names; its form and its user were checked.
    async fn ask(&self, question: Question) -> Result<Answer, Error>;
}

pub(crate) fn check_question(question: &Question) -> Result<(), Error> {
    let bytes: usize = question.args.iter().map(|arg| arg.len() + EACH).sum();
    if bytes > QUESTION_BYTES || question.name.is_empty() || question.name.len() > 64 {
        return Err(Error::new(ErrorKind::TooLarge, "a question has a name of 1 to 64 bytes and at most 64 KiB"));
    }
    Ok(())
}

pub(crate) fn check_answer(bridge: &str, answer: Answer) -> Result<Answer, Error> {
    let fields = |row: &Vec<String>| row.iter().map(|field| field.len() + EACH).sum::<usize>() + EACH;
    if answer.rows.iter().map(fields).sum::<usize>() > ANSWER_BYTES {
        let what = format!("the bridge {bridge} answered with more than 1 MiB; ask for less at once");
        return Err(Error::new(ErrorKind::TooLarge, what));
    }
    Ok(answer)
}

/// # Errors
/// What is wrong with the signal.
pub(crate) fn check_signal(signal: &Signal) -> Result<(), &'static str> {
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if !(1..=32).contains(&signal.name.len()) || !signal.name.chars().all(letter) {
        return Err("a signal's name has 1 to 32 letters, digits or -");
    }
    if signal.args.len() > SIGNAL_ARGS.0 || signal.args.iter().any(|arg| arg.len() > SIGNAL_ARGS.1) {
        return Err("a signal has at most 16 details of 1,024 bytes");
    }
    Ok(())
}

pub(crate) fn check_checkpoint(key: &str, value: Option<&Secret>) -> Result<(), Error> {
    if !(1..=CHECKPOINT_BYTES.0).contains(&key.len()) {
        return Err(Error::new(ErrorKind::TooLarge, "a checkpoint's key has 1 to 200 bytes"));
    }
    if value.is_some_and(|value| value.expose().len() > CHECKPOINT_BYTES.1) {
        return Err(Error::new(ErrorKind::TooLarge, "a checkpoint's value has at most 65,536 bytes"));
    }
    Ok(())
}
