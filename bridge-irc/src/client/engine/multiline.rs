//! `draft/multiline`: a message of several lines, sent and shown as a batch; and how a text of any length reaches a client.

use super::ask::Asks;
use super::caps::{self, Caps};
use super::commands::Command;
use super::msg::Msg;
use super::names::fold;
use super::{Capture, ClientId, Server};
use mesyx_irc_codec::split;

/// Most bytes of one message, line feeds between its lines included. A stored line has room for twice as much.
pub(super) const MOST_BYTES: usize = 32_768;
/// Most lines of one message.
pub(super) const MOST_LINES: usize = 200;
/// What `CAP LS 302` says of it.
pub(super) const VALUE: &str = "max-bytes=32768,max-lines=200";
/// The batch's type.
pub(super) const TYPE: &str = "draft/multiline";
/// The tag of a line that goes on where the one before it ended.
pub(super) const CONCAT: &str = "draft/multiline-concat";

/// The lines of a message as its sender cut them, and whether each goes on where the one before it ended.
pub(super) type Pieces = Vec<(String, bool)>;

/// A message that a client is sending.
#[derive(Debug)]
pub(super) struct Open {
    reference: String,
    target: String,
    /// Client-only tags and label of the line that opened it.
    tags: Vec<(String, String)>,
    label: Option<String>,
    /// PRIVMSG or NOTICE, as its first line has it.
    command: Option<String>,
    pieces: Pieces,
    bytes: usize,
    /// Refused: what comes until its end is dropped.
    refused: bool,
}

impl Server {
    /// BATCH from a client.
    pub(super) fn batch(&mut self, id: ClientId, command: Command) -> Asks {
        if !self.caps(id).has(caps::MULTILINE.with(caps::BATCH)) {
            self.numeric(id, "421", ["BATCH", "Unknown command"]);
            return Vec::new();
        }
        let word = command.get(0).unwrap_or_default().to_owned();
        let Some(client) = self.clients.get_mut(&id) else { return Vec::new() };
        if let Some(reference) = word.strip_prefix('+').filter(|reference| (1..=64).contains(&reference.len())) {
            if let Some(open) = &mut client.sending {
                // What comes belongs to neither.
                reference.clone_into(&mut open.reference);
                self.refuse(id, "MULTILINE_INVALID", &[], "Another batch is open");
                return Vec::new();
            }
            let kind = command.get(1).unwrap_or_default();
            let Some(target) = command.get(2).filter(|_| kind == TYPE) else {
                self.refuse(
                    id,
                    "MULTILINE_INVALID",
                    &[],
                    "Clients send batches of the type draft/multiline, to a target",
                );
                return Vec::new();
            };
            // The label is for the whole of it.
            let label = client.capture.take().map(|capture| capture.label);
            client.sending = Some(Open {
                reference: reference.to_owned(),
                target: target.to_owned(),
                tags: command.tags,
                label,
                command: None,
                pieces: Vec::new(),
                bytes: 0,
                refused: false,
            });
            return Vec::new();
        }
        let ends = |open: &Open| word.strip_prefix('-') == Some(open.reference.as_str());
        if !client.sending.as_ref().is_some_and(ends) {
            self.refuse(id, "MULTILINE_INVALID", &[], "There is no such batch");
            return Vec::new();
        }
        let Some(open) = client.sending.take() else { return Vec::new() };
        if open.refused {
            return Vec::new();
        }
        if let Some(label) = open.label {
            client.capture = Some(Capture { label, msgs: Vec::new() });
        }
        let Some(name) = open.command.filter(|_| open.pieces.iter().any(|(text, _)| !text.is_empty())) else {
            self.refuse(id, "MULTILINE_INVALID", &[], "There is no text in it");
            return Vec::new();
        };
        let params = vec![open.target, joined(&open.pieces)];
        let whole = Command {
            word: name.clone(),
            name,
            params,
            tags: open.tags,
            batch: None,
            concat: false,
            pieces: open.pieces,
        };
        self.message(id, &whole)
    }

    /// Whether a line belongs to the batch that its sender opened.
    fn in_batch(&self, id: ClientId, command: &Command) -> bool {
        let open = self.clients.get(&id).and_then(|client| client.sending.as_ref());
        open.is_some_and(|open| command.batch.as_ref() == Some(&open.reference))
    }

    /// One line of a batch. A line of no batch that is open is not delivered either.
    pub(super) fn batch_line(&mut self, id: ClientId, command: Command) {
        if !self.in_batch(id, &command) {
            return self.refuse(id, "MULTILINE_INVALID", &[], "There is no such batch");
        }
        let Some(client) = self.clients.get_mut(&id) else { return };
        let Some(open) = client.sending.as_mut().filter(|open| !open.refused) else { return };
        let [target, text] = &command.params[..] else {
            return self.refuse(id, "MULTILINE_INVALID", &[], "A line of it has a target and a text");
        };
        let first = open.command.get_or_insert_with(|| command.name.clone());
        if !matches!(command.name.as_str(), "PRIVMSG" | "NOTICE") || *first != command.name {
            return self.refuse(id, "MULTILINE_INVALID", &[], "It holds lines of one command, PRIVMSG or NOTICE");
        }
        if fold(target) != fold(&open.target) {
            let (meant, given) = (open.target.clone(), target.clone());
            return self.refuse(id, "MULTILINE_INVALID_TARGET", &[&meant, &given], "Another target than the batch's");
        }
        if command.concat && text.is_empty() {
            return self.refuse(id, "MULTILINE_INVALID", &[], "An empty line goes on from nothing");
        }
        let concat = command.concat && !open.pieces.is_empty();
        open.bytes += text.len() + usize::from(!concat && !open.pieces.is_empty());
        if open.bytes > MOST_BYTES {
            let most = MOST_BYTES.to_string();
            return self.refuse(id, "MULTILINE_MAX_BYTES", &[&most], "The message has too many bytes");
        }
        if open.pieces.len() >= MOST_LINES {
            let most = MOST_LINES.to_string();
            return self.refuse(id, "MULTILINE_MAX_LINES", &[&most], "The message has too many lines");
        }
        open.pieces.push((text.clone(), concat));
    }

    /// Nothing of the message is delivered; the error answers to the label of the whole.
    fn refuse(&mut self, id: ClientId, code: &str, context: &[&str], text: &str) {
        if let Some(client) = self.clients.get_mut(&id)
            && let Some(open) = &mut client.sending
        {
            open.refused = true;
            open.pieces = Vec::new();
            if let Some(label) = open.label.take() {
                client.capture = Some(Capture { label, msgs: Vec::new() });
            }
        }
        self.fail(id, "BATCH", code, context, text);
    }
}

fn joined(pieces: &Pieces) -> String {
    let mut text = String::new();
    for (at, (piece, concat)) in pieces.iter().enumerate() {
        if at > 0 && !concat {
            text.push('\n');
        }
        text.push_str(piece);
    }
    text
}

/// What a text is to be shown as.
#[derive(Clone, Copy, Default)]
pub(super) struct Text<'a> {
    pub text: &'a str,
    /// How its sender cut it, where that is known.
    pub pieces: &'a [(String, bool)],
    /// `/me`.
    pub action: bool,
}

/// The lines that carry a text of any length to a client of these capabilities: nothing of it is lost. Several lines are one batch where the
/// client knows `draft/multiline`; else the id stands on the first of them, and empty ones are left out.
pub(super) fn with_text(msg: &Msg, text: &Text<'_>, caps: Caps) -> Vec<Msg> {
    let head = msg.source.len() + msg.command.len() + msg.params.iter().map(|param| param.len() + 1).sum::<usize>();
    // ":" source " " command " " target " :" text, and the frame of an action.
    let frame = if text.action { 9 } else { 0 };
    let room = 510_usize.saturating_sub(head + 4 + frame).max(64);
    let mut pieces: Vec<(String, bool)> = Vec::new();
    let own: Pieces;
    let given = if text.pieces.is_empty() {
        own = text.text.split('\n').map(|line| (line.to_owned(), false)).collect();
        &own[..]
    } else {
        text.pieces
    };
    for (line, concat) in given {
        if line.is_empty() {
            pieces.push((String::new(), false));
        }
        for (at, piece) in split::pieces(line.as_bytes(), room).enumerate() {
            pieces.push((String::from_utf8_lossy(piece).into_owned(), *concat || at > 0));
        }
    }
    if pieces.len() > 1 && !text.action && caps.has(caps::MULTILINE.with(caps::BATCH)) {
        return batch(msg, pieces);
    }
    pieces.retain(|(piece, _)| !piece.is_empty());
    if pieces.is_empty() {
        pieces.push((if text.action { String::new() } else { " ".to_owned() }, false));
    }
    let mut lines: Vec<Msg> = pieces
        .into_iter()
        .map(|(piece, _)| msg.clone().arg(if text.action { format!("\x01ACTION {piece}\x01") } else { piece }))
        .collect();
    for later in lines.iter_mut().skip(1) {
        later.msgid = None;
        later.tags.clear();
    }
    lines
}

fn batch(msg: &Msg, pieces: Pieces) -> Vec<Msg> {
    // One client hears a message once at a time, so that its id names the batch.
    let name: String =
        msg.msgid.as_deref().unwrap_or("0").chars().filter(char::is_ascii_alphanumeric).take(16).collect();
    let name = format!("m{name}");
    let target = msg.params.first().cloned().unwrap_or_default();
    let mut open = msg.clone();
    open.command = "BATCH".into();
    open.params = vec![format!("+{name}"), TYPE.to_owned(), target];
    let mut lines = vec![open];
    for (piece, concat) in pieces {
        let mut line = msg.clone().arg(piece);
        line.msgid = None;
        line.account = None;
        line.bot = false;
        line.tags = if concat { vec![(CONCAT.to_owned(), String::new())] } else { Vec::new() };
        line.batch = Some(name.clone());
        lines.push(line);
    }
    let mut close = Msg::new(msg.source.clone(), "BATCH").arg(format!("-{name}"));
    close.time = msg.time;
    lines.push(close);
    lines
}
