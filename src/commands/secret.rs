//! `mesyx secret`.

use super::{MAX_SECRET, parse, print_json, prompt, trim, utf8};
use crate::cli::Secret;
use crate::config::check::Checked;
use crate::control::{Hidden, Request, client};
use crate::exit::{Failure, trying};
use std::io::{IsTerminal, Read};
use zeroize::Zeroizing;

pub(super) fn execute(checked: &Checked, command: Secret) -> Result<(), Failure> {
    match command {
        Secret::Set { name } => {
            let value = Hidden(value()?);
            client::ask(checked, Request::SecretSet { name: name.clone(), value })?;
            say!("The secret {name} is stored.");
            Ok(())
        }
        Secret::List(output) => {
            let names = client::ask(checked, Request::SecretList)?;
            if output.json {
                return print_json(&names);
            }
            for name in parse::<Vec<String>>(names)? {
                say!("{name}");
            }
            Ok(())
        }
        Secret::Remove { name } => {
            client::ask(checked, Request::SecretRemove { name: name.clone() })?;
            say!("The secret {name} is gone.");
            Ok(())
        }
    }
}

/// The secret's value: typed, or all of standard input, since a key has several lines.
fn value() -> Result<mesyx_sdk::Secret, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return prompt("Secret", "standard input");
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(8192));
    stdin.lock().take(MAX_SECRET + 1).read_to_end(&mut bytes).map_err(trying("standard input"))?;
    if bytes.len() as u64 > MAX_SECRET {
        return Err(Failure::new("a secret has at most 64 KiB"));
    }
    trim(&mut bytes);
    if bytes.is_empty() {
        return Err(Failure::new("standard input is empty"));
    }
    utf8(&bytes, "standard input")
}
