//! Commands and their grammar (RFC 5321, section 4.1, with RFC 1870, 3030, 3207, 3461, 4954, 6152 and 6531).

use super::path::{self, Path};
use super::reply::Reply;
use super::xtext;
use mesyx_sdk::{Dsn, Notify, ReturnPart};
use std::fmt;

/// A command, read from one line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Command<'a> {
    /// The name that the client gave itself; may be malformed.
    Helo(&'a str),
    /// As `Helo`, and the client knows extensions.
    Ehlo(&'a str),
    Mail(Box<Mail>),
    Rcpt(Box<Rcpt>),
    Data,
    /// `size` bytes follow.
    Bdat {
        size: u64,
        last: bool,
    },
    Rset,
    Noop,
    Quit,
    Vrfy,
    Expn,
    Help,
    StartTls,
    /// `initial` is still encoded; `=` is an empty one.
    Auth {
        mechanism: &'a str,
        initial: Option<&'a str>,
    },
}

/// `MAIL FROM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The reverse-path; never [`Path::Postmaster`].
    pub from: Path,
    /// `SIZE`: what the client says that the message has, in bytes.
    pub size: Option<u64>,
    /// `SMTPUTF8` was given.
    pub utf8: bool,
    /// `BODY=8BITMIME` was given.
    pub eight_bit: bool,
    /// `RET` and `ENVID`.
    pub dsn: Dsn,
}

/// `RCPT TO`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rcpt {
    /// The forward-path; never [`Path::Null`].
    pub to: Path,
    /// `NOTIFY`
    pub notify: Option<Notify>,
    /// `ORCPT`: `addr-type;address`, decoded.
    pub original: Option<String>,
}

/// Reads a line without its CRLF.
///
/// # Errors
/// The reply that refuses the line.
pub fn parse(line: &[u8]) -> Result<Command<'_>, Reply> {
    let line = std::str::from_utf8(line).map_err(|_| Reply::new(500, "5.5.2", "the command is not UTF-8"))?;
    if line.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err(Reply::new(500, "5.5.2", "the command has a control character"));
    }
    // White space at the end of a line means nothing (RFC 5321, section 4.1.1).
    let line = line.trim_end_matches([' ', '\t']);
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let is = |name: &str| verb.eq_ignore_ascii_case(name);
    let alone = |command| if rest.is_empty() { Ok(command) } else { Err(arguments("this command takes no argument")) };
    if is("MAIL") {
        mail(after_keyword(rest, "FROM:").ok_or_else(|| arguments("write MAIL FROM:<address>"))?)
    } else if is("RCPT") {
        rcpt(after_keyword(rest, "TO:").ok_or_else(|| arguments("write RCPT TO:<address>"))?)
    } else if is("DATA") {
        alone(Command::Data)
    } else if is("BDAT") {
        bdat(rest)
    } else if is("EHLO") {
        Ok(Command::Ehlo(rest.trim_start()))
    } else if is("HELO") {
        Ok(Command::Helo(rest.trim_start()))
    } else if is("RSET") {
        alone(Command::Rset)
    } else if is("QUIT") {
        alone(Command::Quit)
    } else if is("NOOP") {
        Ok(Command::Noop)
    } else if is("AUTH") {
        auth(rest)
    } else if is("STARTTLS") {
        alone(Command::StartTls)
    } else if is("VRFY") {
        if rest.is_empty() { Err(arguments("write VRFY name")) } else { Ok(Command::Vrfy) }
    } else if is("EXPN") {
        Ok(Command::Expn)
    } else if is("HELP") {
        Ok(Command::Help)
    } else {
        Err(Reply::new(500, "5.5.1", "there is no such command"))
    }
}

fn arguments(what: &'static str) -> Reply {
    Reply::new(501, "5.5.4", what)
}

/// What follows the keyword. Spaces behind it are no part of the grammar, but common.
fn after_keyword<'a>(text: &'a str, keyword: &str) -> Option<&'a str> {
    let start = text.get(..keyword.len())?;
    start.eq_ignore_ascii_case(keyword).then(|| text[keyword.len()..].trim_start_matches(' '))
}

fn bdat<'a>(rest: &str) -> Result<Command<'a>, Reply> {
    let bad = || arguments("write BDAT size, or BDAT size LAST");
    let (size, last) = match rest.split_once(' ') {
        Some((size, last)) if last.eq_ignore_ascii_case("LAST") => (size, true),
        Some(_) => return Err(bad()),
        None => (rest, false),
    };
    Ok(Command::Bdat { size: number(size).ok_or_else(bad)?, last })
}

fn auth(rest: &str) -> Result<Command<'_>, Reply> {
    let (mechanism, initial) = match rest.split_once(' ') {
        Some((mechanism, initial)) => (mechanism, Some(initial.trim_start_matches(' '))),
        None => (rest, None),
    };
    if mechanism.is_empty() || initial.is_some_and(|initial| initial.contains(' ')) {
        return Err(arguments("write AUTH mechanism, or AUTH mechanism initial-response"));
    }
    Ok(Command::Auth { mechanism, initial })
}

/// Digits only, at most 20 of them (RFC 1870, section 3).
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || text.len() > 20 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Twenty digits may be too much for 64 bits, which is too much for us as well.
    Some(text.parse().unwrap_or(u64::MAX))
}

fn mail<'a>(text: &str) -> Result<Command<'a>, Reply> {
    let (from, rest) = path::parse(text)?;
    if from == Path::Postmaster {
        return Err(Reply::new(501, "5.1.7", "a sender must have a domain"));
    }
    let mut mail = Mail { from, size: None, utf8: false, eight_bit: false, dsn: Dsn::default() };
    let mut seen = Seen::default();
    for parameter in parameters(rest)? {
        let (name, value) = parameter;
        match (seen.note(name)?.as_str(), value) {
            ("SIZE", Some(size)) => {
                mail.size = Some(number(size).ok_or_else(|| arguments("SIZE must be a number"))?);
            }
            ("BODY", Some(body)) if body.eq_ignore_ascii_case("7BIT") => {}
            ("BODY", Some(body)) if body.eq_ignore_ascii_case("8BITMIME") => mail.eight_bit = true,
            ("BODY", _) => return Err(arguments("BODY must be 7BIT or 8BITMIME")),
            ("SMTPUTF8", None) => mail.utf8 = true,
            ("RET", Some(ret)) if ret.eq_ignore_ascii_case("FULL") => mail.dsn.ret = Some(ReturnPart::Full),
            ("RET", Some(ret)) if ret.eq_ignore_ascii_case("HDRS") => mail.dsn.ret = Some(ReturnPart::Headers),
            ("RET", _) => return Err(arguments("RET must be FULL or HDRS")),
            ("ENVID", Some(id)) => {
                let id = xtext::decode(id).filter(|id| !id.is_empty() && id.is_ascii() && id.len() <= 100);
                mail.dsn.envid = Some(id.ok_or_else(|| arguments("ENVID must be up to 100 characters of xtext"))?);
            }
            // Who first submitted it (RFC 4954, section 5): we trust no peer's word on that, and pass it on to nobody.
            ("AUTH", Some(identity)) if xtext::decode(identity).is_some() => {}
            _ => return Err(unknown_parameter()),
        }
    }
    if matches!(mail.from, Path::Mailbox { utf8: true, .. }) && !mail.utf8 {
        return Err(needs_utf8());
    }
    Ok(Command::Mail(Box::new(mail)))
}

fn rcpt<'a>(text: &str) -> Result<Command<'a>, Reply> {
    let (to, rest) = path::parse(text)?;
    if to == Path::Null {
        return Err(Reply::new(501, "5.1.3", "a recipient can't be empty"));
    }
    let mut rcpt = Rcpt { to, notify: None, original: None };
    let mut seen = Seen::default();
    for (name, value) in parameters(rest)? {
        match (seen.note(name)?.as_str(), value) {
            ("NOTIFY", Some(value)) => {
                rcpt.notify = Some(
                    notify(value).ok_or_else(|| arguments("NOTIFY must be NEVER, or some of SUCCESS,FAILURE,DELAY"))?,
                );
            }
            ("ORCPT", Some(value)) => {
                rcpt.original = Some(
                    original(value)
                        .ok_or_else(|| arguments("ORCPT must be addr-type;xtext of up to 500 characters"))?,
                );
            }
            _ => return Err(unknown_parameter()),
        }
    }
    Ok(Command::Rcpt(Box::new(rcpt)))
}

fn unknown_parameter() -> Reply {
    Reply::new(555, "5.5.4", "a parameter is not known here, or its value is malformed")
}

/// The refusal of an address that only SMTPUTF8 allows (RFC 6531, section 3.5).
pub(crate) fn needs_utf8() -> Reply {
    Reply::new(553, "5.6.7", "an address beyond ASCII needs MAIL FROM with SMTPUTF8")
}

fn notify(value: &str) -> Option<Notify> {
    let mut notify = Notify::default();
    if value.eq_ignore_ascii_case("NEVER") {
        return Some(notify);
    }
    for word in value.split(',') {
        let wish = match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => &mut notify.success,
            "FAILURE" => &mut notify.failure,
            "DELAY" => &mut notify.delay,
            _ => return None,
        };
        *wish = true;
    }
    Some(notify)
}

fn original(value: &str) -> Option<String> {
    let (kind, address) = value.split_once(';')?;
    let atom = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if value.len() > 500 || kind.is_empty() || !kind.bytes().all(atom) {
        return None;
    }
    Some(format!("{kind};{}", xtext::decode(address)?))
}

/// `name` or `name=value`, split by spaces.
type Parameter<'a> = (&'a str, Option<&'a str>);

fn parameters(text: &str) -> Result<Vec<Parameter<'_>>, Reply> {
    if !text.is_empty() && !text.starts_with(' ') {
        return Err(Reply::new(501, "5.5.2", "a space must stand between the address and the parameters"));
    }
    let name_char = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    text.split(' ')
        .filter(|word| !word.is_empty())
        .map(|word| {
            let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
            if name.is_empty() || !name.bytes().all(name_char) || value == Some("") {
                return Err(arguments("a parameter is malformed"));
            }
            Ok((name, value))
        })
        .collect()
}

/// Parameter names met so far: each may stand once.
#[derive(Default)]
struct Seen(Vec<String>);

impl Seen {
    fn note(&mut self, name: &str) -> Result<String, Reply> {
        let name = name.to_ascii_uppercase();
        if self.0.contains(&name) {
            return Err(arguments("a parameter is given twice"));
        }
        self.0.push(name.clone());
        Ok(name)
    }
}

impl fmt::Display for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MAIL FROM:{}", self.from)?;
        if let Some(size) = self.size {
            write!(f, " SIZE={size}")?;
        }
        if self.eight_bit {
            f.write_str(" BODY=8BITMIME")?;
        }
        if self.utf8 {
            f.write_str(" SMTPUTF8")?;
        }
        match self.dsn.ret {
            Some(ReturnPart::Full) => f.write_str(" RET=FULL")?,
            Some(ReturnPart::Headers) => f.write_str(" RET=HDRS")?,
            None => {}
        }
        if let Some(id) = &self.dsn.envid {
            write!(f, " ENVID={}", xtext::encode(id))?;
        }
        Ok(())
    }
}

impl fmt::Display for Rcpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RCPT TO:{}", self.to)?;
        if let Some(notify) = self.notify {
            let words = [(notify.success, "SUCCESS"), (notify.failure, "FAILURE"), (notify.delay, "DELAY")];
            let wanted: Vec<_> = words.iter().filter(|(wanted, _)| *wanted).map(|(_, word)| *word).collect();
            write!(f, " NOTIFY={}", if wanted.is_empty() { "NEVER".to_owned() } else { wanted.join(",") })?;
        }
        if let Some((kind, address)) = self.original.as_ref().and_then(|original| original.split_once(';')) {
            write!(f, " ORCPT={kind};{}", xtext::encode(address))?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
