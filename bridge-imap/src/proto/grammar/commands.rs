//! Commands and their arguments.

use super::base::{
    Input, Parsed, astring, atom, close, eat, expected, fail, flag_list, literal_string, mailbox, nstring, number64,
    nz_number, open, pattern, sequence_set, sp, store_flags, string, text, word,
};
use super::{fetch, list, search};
use crate::proto::command::{Action, Body, Message, Resync, Select, Store, Transfer};
use crate::proto::date;
use mesyx_sdk::Secret;
use winnow::combinator::{cut_err, opt, separated};
use winnow::prelude::*;

pub(super) fn body<'a>(input: &mut Input<'a>) -> Parsed<Body<'a>> {
    let name = word.context(expected("a command")).parse_next(input)?;
    Ok(match name.as_str() {
        "CAPABILITY" => Body::Capability,
        "NOOP" => Body::Noop,
        "LOGOUT" => Body::Logout,
        "STARTTLS" => Body::StartTls,
        "NAMESPACE" => Body::Namespace,
        "IDLE" => Body::Idle,
        "CHECK" => Body::Check,
        "CLOSE" => Body::Close,
        "UNSELECT" => Body::Unselect,
        "EXPUNGE" => Body::Expunge(None),
        _ => {
            // Said before an argument is missed: the name may be unknown.
            if !TAKES_ARGUMENTS.contains(&name.as_str()) {
                return fail("a command that this server knows");
            }
            sp(input)?;
            arguments(&name, input)?
        }
    })
}

const TAKES_ARGUMENTS: [&str; 21] = [
    "AUTHENTICATE",
    "LOGIN",
    "ENABLE",
    "SELECT",
    "EXAMINE",
    "CREATE",
    "DELETE",
    "RENAME",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "LIST",
    "LSUB",
    "STATUS",
    "APPEND",
    "ID",
    "SEARCH",
    "FETCH",
    "STORE",
    "COPY",
    "MOVE",
    "UID",
];

fn arguments<'a>(name: &str, input: &mut Input<'a>) -> Parsed<Body<'a>> {
    Ok(match name {
        "AUTHENTICATE" => authenticate(input)?,
        "LOGIN" => login(input)?,
        "ENABLE" => Body::Enable(separated(1.., word, b' ').context(expected("capabilities")).parse_next(input)?),
        "SELECT" => Body::Select(select(false, input)?),
        "EXAMINE" => Body::Select(select(true, input)?),
        "CREATE" => create(input)?,
        "DELETE" => Body::Delete(mailbox(input)?),
        "RENAME" => {
            let from = mailbox(input)?;
            sp(input)?;
            Body::Rename { from, to: mailbox(input)? }
        }
        "SUBSCRIBE" => Body::Subscribe(mailbox(input)?),
        "UNSUBSCRIBE" => Body::Unsubscribe(mailbox(input)?),
        "LIST" => Body::List(list::list(input)?),
        "LSUB" => {
            let reference = mailbox(input)?;
            sp(input)?;
            Body::Lsub { reference, pattern: pattern(input)? }
        }
        "STATUS" => {
            let mailbox = mailbox(input)?;
            sp(input)?;
            Body::Status { mailbox, items: list::status_items(input)? }
        }
        "APPEND" => append(input)?,
        "ID" => id(input)?,
        "UID" => {
            let name = word.context(expected("FETCH, STORE, SEARCH, COPY, MOVE or EXPUNGE")).parse_next(input)?;
            sp(input)?;
            by_number(true, &name, input)?
        }
        name => by_number(false, name, input)?,
    })
}

fn by_number<'a>(uid: bool, name: &str, input: &mut Input<'a>) -> Parsed<Body<'a>> {
    Ok(match name {
        "SEARCH" => Body::Search(search::search(uid, input)?),
        "FETCH" => Body::Fetch(fetch::fetch(uid, input)?),
        "STORE" => Body::Store(store(uid, input)?),
        "COPY" => Body::Copy(transfer(uid, input)?),
        "MOVE" => Body::Move(transfer(uid, input)?),
        "EXPUNGE" if uid => Body::Expunge(Some(sequence_set(input)?)),
        _ => return fail("FETCH, STORE, SEARCH, COPY, MOVE or EXPUNGE after UID"),
    })
}

fn authenticate<'a>(input: &mut Input<'a>) -> Parsed<Body<'a>> {
    let mechanism = word.context(expected("a SASL mechanism")).parse_next(input)?;
    let initial = if input.is_empty() {
        None
    } else {
        sp(input)?;
        let rest = std::mem::take(input);
        Some(Secret::new(rest.to_vec()))
    };
    Ok(Body::Authenticate { mechanism, initial })
}

fn login<'a>(input: &mut Input<'a>) -> Parsed<Body<'a>> {
    let name = astring.context(expected("a user name")).parse_next(input)?.into_owned();
    sp(input)?;
    let password = astring.context(expected("a password")).parse_next(input)?;
    Ok(Body::Login { name, password: Secret::new(password.into_owned()) })
}

fn select(read_only: bool, input: &mut Input<'_>) -> Parsed<Select> {
    let mut select = Select { mailbox: mailbox(input)?, read_only, condstore: false, qresync: None };
    if input.is_empty() {
        return Ok(select);
    }
    sp(input)?;
    open(input)?;
    loop {
        match word.context(expected("CONDSTORE or QRESYNC")).parse_next(input)?.as_str() {
            "CONDSTORE" => select.condstore = true,
            "QRESYNC" => {
                sp(input)?;
                select.qresync = Some(resync(input)?);
            }
            _ => return fail("CONDSTORE or QRESYNC"),
        }
        if !eat(" ", input) {
            close(input)?;
            return Ok(select);
        }
    }
}

fn resync(input: &mut Input<'_>) -> Parsed<Resync> {
    open(input)?;
    let uid_validity = nz_number(input)?;
    sp(input)?;
    let mut resync = Resync { uid_validity, modseq: number64(input)?, known: None };
    if eat(" ", input) && input.first() != Some(&b'(') {
        resync.known = Some(sequence_set(input)?);
        let _ = eat(" ", input);
    }
    // Sequence numbers matched with UIDs: an aid for servers that forget what was expunged; this one does not.
    if eat("(", input) {
        sequence_set(input)?;
        sp(input)?;
        sequence_set(input)?;
        close(input)?;
    }
    close(input)?;
    Ok(resync)
}

fn create<'a>(input: &mut Input<'a>) -> Parsed<Body<'a>> {
    let mailbox = mailbox(input)?;
    let mut uses = Vec::new();
    if !input.is_empty() {
        sp(input)?;
        open(input)?;
        if !eat("USE", input) {
            return fail("USE and a list of special uses");
        }
        sp(input)?;
        open(input)?;
        let attribute = (b'\\', atom).take().map(text);
        uses = separated(0.., attribute, b' ').context(expected("special uses")).parse_next(input)?;
        close(input)?;
        close(input)?;
    }
    Ok(Body::Create { mailbox, uses })
}

/// Most messages that one APPEND may bring.
const MAX_MESSAGES: usize = 1000;

fn append<'a>(input: &mut Input<'a>) -> Parsed<Body<'a>> {
    let mailbox = mailbox(input)?;
    let mut messages = Vec::new();
    while !input.is_empty() || messages.is_empty() {
        if messages.len() == MAX_MESSAGES {
            return fail("at most 1000 messages");
        }
        sp(input)?;
        messages.push(message(input)?);
    }
    Ok(Body::Append { mailbox, messages })
}

fn message<'a>(input: &mut Input<'a>) -> Parsed<Message<'a>> {
    let mut flags = Vec::new();
    if input.first() == Some(&b'(') {
        flags = flag_list(input)?;
        sp(input)?;
    }
    let mut date = None;
    if input.first() == Some(&b'"') {
        let text = string(input)?;
        date = std::str::from_utf8(&text).ok().and_then(date::date_time);
        if date.is_none() {
            return fail("a date such as \"17-Jul-1996 02:44:25 -0700\"");
        }
        sp(input)?;
    }
    let utf8 = eat("UTF8", input);
    if utf8 {
        sp(input)?;
        open(input)?;
        if !eat("~", input) {
            return fail("a literal8");
        }
    }
    let bytes = cut_err(literal_string).context(expected("the message as a literal")).parse_next(input)?;
    if utf8 {
        close(input)?;
    }
    Ok(Message { flags, date, bytes, utf8 })
}

fn id<'a>(input: &mut Input<'a>) -> Parsed<Body<'a>> {
    if eat("NIL", input) {
        return Ok(Body::Id(Vec::new()));
    }
    open(input)?;
    let field = |input: &mut Input<'a>| {
        let name = string(input)?.into_owned();
        sp(input)?;
        Ok((name, nstring(input)?))
    };
    let fields = separated(0..=30, field, b' ').context(expected("fields and values")).parse_next(input)?;
    close(input)?;
    Ok(Body::Id(fields))
}

fn store(uid: bool, input: &mut Input<'_>) -> Parsed<Store> {
    let set = sequence_set(input)?;
    sp(input)?;
    let mut unchanged_since = None;
    if eat("(", input) {
        if !eat("UNCHANGEDSINCE", input) {
            return fail("UNCHANGEDSINCE");
        }
        sp(input)?;
        unchanged_since = Some(number64(input)?);
        close(input)?;
        sp(input)?;
    }
    let action = match opt(winnow::token::one_of((b'+', b'-'))).parse_next(input)? {
        Some(b'+') => Action::Add,
        Some(_) => Action::Remove,
        None => Action::Set,
    };
    if !eat("FLAGS", input) {
        return fail("FLAGS, +FLAGS or -FLAGS, with or without .SILENT");
    }
    let silent = eat(".SILENT", input);
    sp(input)?;
    Ok(Store { uid, set, unchanged_since, action, silent, flags: store_flags(input)? })
}

fn transfer(uid: bool, input: &mut Input<'_>) -> Parsed<Transfer> {
    let set = sequence_set(input)?;
    sp(input)?;
    Ok(Transfer { uid, set, mailbox: mailbox(input)? })
}
