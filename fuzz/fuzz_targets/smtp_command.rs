//! SMTP commands: MAIL and RCPT that are read print as what reads the same, on one line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesyx_bridge_smtp::proto::{Command, parse};

fuzz_target!(|data: &[u8]| {
    let printed = match parse(data) {
        Ok(Command::Mail(mail)) => mail.to_string(),
        Ok(Command::Rcpt(rcpt)) => rcpt.to_string(),
        _ => return,
    };
    assert!(!printed.chars().any(char::is_control));
    let again = match parse(printed.as_bytes()) {
        Ok(Command::Mail(mail)) => mail.to_string(),
        Ok(Command::Rcpt(rcpt)) => rcpt.to_string(),
        other => panic!("{printed:?} reads as {other:?}"),
    };
    assert_eq!(printed, again);
});
