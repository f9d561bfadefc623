//! Finding the parts (RFC 2045, RFC 2046): one pass over the lines, with a stack of open parts.

use super::budget::Budget;
use super::header::{Line, line};
use super::parameter::{self, MediaType};
use super::{
    HeadersTooLarge, MAX_BOUNDARY, MAX_DEPTH, MAX_HEADER_BYTES, MAX_HEADER_LINES, MAX_PARTS, fields, mail_fields,
    unfold,
};
use crate::{
    Content, Part,
    summary::{Parameters, PartKind},
};
use std::collections::HashMap;
use std::ops::Range;

/// The parts of a message in the order in which they begin, each after the one that holds it.
pub(super) struct Nodes(Vec<Node>);

struct Node {
    /// What holds it: an index, smaller than its own.
    parent: Option<usize>,
    depth: usize,
    header: Range<usize>,
    body: Range<usize>,
    lines: u32,
    look: Look,
    /// It stands in a `multipart/digest`, so its type is `message/rfc822` where none is given.
    in_digest: bool,
}

/// How a part is looked into, once its headers are known.
enum Look {
    /// Not at all. Its type must be shown as another where it promises parts.
    Leaf,
    Multipart {
        boundary: Vec<u8>,
        digest: bool,
    },
    Message,
    /// Not even its headers: they are over a limit.
    Opaque,
}

/// Finds the parts.
pub(super) fn scan(content: &[u8]) -> Result<Nodes, HeadersTooLarge> {
    let mut scanner = Scanner {
        content,
        nodes: Vec::new(),
        open: Vec::new(),
        boundaries: HashMap::new(),
        header_lines: Some(0),
        line_number: 0,
        body_began: Vec::new(),
    };
    scanner.begin(0, false);
    let mut at = 0;
    while let Some(line) = line(content, at) {
        if let Some(delimiter) = scanner.delimiter(&line) {
            if !delimiter.closes && scanner.is_full() {
                scanner.rest_is_body(&line);
                break;
            }
            scanner.part_ends(&delimiter, &line);
        } else if scanner.header_lines.is_some() {
            scanner.header_line(&line)?;
        }
        scanner.line_number = scanner.line_number.saturating_add(1);
        at = line.next;
    }
    scanner.message_ends(at);
    Ok(Nodes(scanner.nodes))
}

struct Scanner<'a> {
    content: &'a [u8],
    nodes: Vec<Node>,
    /// The parts that the current line lies in, outermost first.
    open: Vec<usize>,
    /// Which open multiparts a boundary delimits: places in `open`, the innermost last. A look-up by the whole line
    /// costs the same however many boundaries nearly match.
    boundaries: HashMap<Vec<u8>, Vec<usize>>,
    /// In the headers of the innermost open part: how many lines of them were read.
    header_lines: Option<usize>,
    line_number: u32,
    /// For each open part, the number of its body's first line.
    body_began: Vec<u32>,
}

/// A line that ends a part.
struct Delimiter {
    /// The multipart that it belongs to: a place in `open`.
    place: usize,
    /// It is the last one of that multipart.
    closes: bool,
}

impl Scanner<'_> {
    /// What the line delimits: `--boundary` or `--boundary--`, then nothing but blanks.
    fn delimiter(&self, line: &Line) -> Option<Delimiter> {
        let text = self.content[line.start..line.end].strip_prefix(b"--")?;
        if self.boundaries.is_empty() {
            return None;
        }
        let text = text.trim_ascii_end();
        let innermost = |boundary: &[u8]| self.boundaries.get(boundary).and_then(|places| places.last()).copied();
        let short = text.len() <= MAX_BOUNDARY + 2;
        let next = innermost(text).filter(|_| short).map(|place| Delimiter { place, closes: false });
        next.or_else(|| {
            let boundary = text.strip_suffix(b"--").filter(|_| short)?;
            innermost(boundary).map(|place| Delimiter { place, closes: true })
        })
    }

    fn is_full(&self) -> bool {
        self.nodes.len() >= MAX_PARTS
    }

    /// A part begins with its headers at `start`.
    fn begin(&mut self, start: usize, in_digest: bool) {
        let parent = self.open.last().copied();
        let depth = self.open.len();
        self.open.push(self.nodes.len());
        self.body_began.push(self.line_number.saturating_add(1));
        self.header_lines = Some(0);
        let (header, body) = (start..start, start..start);
        self.nodes.push(Node { parent, depth, header, body, lines: 0, look: Look::Leaf, in_digest });
    }

    fn header_line(&mut self, line: &Line) -> Result<(), HeadersTooLarge> {
        if line.is_empty() {
            self.headers_end(line.next, self.line_number.saturating_add(1));
            return Ok(());
        }
        let lines = self.header_lines.map_or(1, |lines| lines + 1);
        self.header_lines = Some(lines);
        let Some(node) = self.open.last().and_then(|&index| self.nodes.get_mut(index)) else { return Ok(()) };
        if lines > MAX_HEADER_LINES || line.next - node.header.start > MAX_HEADER_BYTES {
            if node.parent.is_none() {
                return Err(HeadersTooLarge);
            }
            node.look = Look::Opaque;
        }
        Ok(())
    }

    /// The innermost part's headers end at `end`, and its body begins there with line `first_line`.
    fn headers_end(&mut self, end: usize, first_line: u32) {
        self.header_lines = None;
        if let Some(began) = self.body_began.last_mut() {
            *began = first_line;
        }
        let full = self.is_full();
        let place = self.open.len().saturating_sub(1);
        let Some(node) = self.open.last().and_then(|&index| self.nodes.get_mut(index)) else { return };
        node.header.end = end;
        node.body = end..end;
        if matches!(node.look, Look::Opaque) {
            return;
        }
        node.look = match look(&self.content[node.header.clone()], node.in_digest) {
            // It can't hold a part any more.
            _ if full || node.depth >= MAX_DEPTH => Look::Leaf,
            look => look,
        };
        match &node.look {
            Look::Leaf | Look::Opaque => {}
            Look::Message => self.begin(end, false),
            Look::Multipart { boundary, .. } => self.boundaries.entry(boundary.clone()).or_default().push(place),
        }
    }

    /// There are too many parts to begin one more at `line`.
    fn rest_is_body(&mut self, line: &Line) {
        if self.header_lines.is_some() {
            self.headers_end(line.start, self.line_number);
        }
    }

    /// Ends what lies inside of the delimiter's multipart, and begins its next part.
    fn part_ends(&mut self, delimiter: &Delimiter, line: &Line) {
        // The line end before a delimiter belongs to the delimiter (RFC 2046, section 5.1.1).
        let before = &self.content[..line.start];
        let mut end = before.strip_suffix(b"\r\n").or_else(|| before.strip_suffix(b"\n")).unwrap_or(before).len();
        while self.open.len() > delimiter.place + 1 {
            end = self.end_innermost(end, true);
        }
        self.header_lines = None;
        let Some(&index) = self.open.get(delimiter.place) else { return };
        let Some(Node { look: Look::Multipart { boundary, digest }, .. }) = self.nodes.get(index) else { return };
        let digest = *digest;
        if delimiter.closes {
            let boundary = boundary.clone();
            self.forget(&boundary);
        } else {
            self.begin(line.next, digest);
        }
    }

    fn message_ends(&mut self, read: usize) {
        // Reading stops early where there are too many parts: the rest belongs to the last one.
        let rest = &self.content[read.min(self.content.len())..];
        let unread = rest.iter().filter(|&&byte| byte == b'\n').count();
        let partial = usize::from(rest.last().is_some_and(|&byte| byte != b'\n'));
        let unread = u32::try_from(unread + partial).unwrap_or(u32::MAX);
        self.line_number = self.line_number.saturating_add(unread);
        while !self.open.is_empty() {
            self.end_innermost(self.content.len(), false);
        }
    }

    /// Ends the innermost part at `end`; `at_delimiter`: before a line end that is not its own.
    ///
    /// Tells where it really ends: a part that began behind `end` is empty, and what holds it reaches as far.
    fn end_innermost(&mut self, end: usize, at_delimiter: bool) -> usize {
        if self.header_lines.is_some() {
            let start = self.open.last().and_then(|&index| self.nodes.get(index)).map_or(0, |node| node.header.start);
            let end = end.max(start);
            self.headers_end(end, self.line_number);
            // A message's headers began where nothing is left: it ends with what held it.
            self.header_lines = None;
        }
        let (Some(index), Some(began)) = (self.open.pop(), self.body_began.pop()) else { return end };
        let Some(node) = self.nodes.get_mut(index) else { return end };
        node.body.end = end.max(node.body.start);
        let end = node.body.end;
        let body = &self.content[node.body.clone()];
        // Where the line end went to the delimiter, an empty last line went with it.
        let empty_last = at_delimiter && (body.is_empty() || body.ends_with(b"\n"));
        node.lines = self.line_number.saturating_sub(began).saturating_sub(u32::from(empty_last));
        if let Look::Multipart { boundary, .. } = &node.look {
            let boundary = boundary.clone();
            self.forget_place(&boundary, self.open.len());
        }
        end
    }

    fn forget(&mut self, boundary: &[u8]) {
        if let Some(places) = self.boundaries.get_mut(boundary) {
            places.pop();
            if places.is_empty() {
                self.boundaries.remove(boundary);
            }
        }
    }

    /// Forgets a boundary unless it was closed before.
    fn forget_place(&mut self, boundary: &[u8], place: usize) {
        if self.boundaries.get(boundary).and_then(|places| places.last()) == Some(&place) {
            self.forget(boundary);
        }
    }
}

/// How a part with these headers is to be looked into.
fn look(header: &[u8], in_digest: bool) -> Look {
    let mut budget = Budget::new();
    let (kind, parameters) = content_type(header, in_digest, &mut budget);
    if kind.0.eq_ignore_ascii_case(b"multipart") {
        let boundary = parameters.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(b"boundary"));
        let boundary = boundary.map(|(_, boundary)| boundary.trim_ascii_end().to_vec());
        return match boundary.filter(|boundary| (1..=MAX_BOUNDARY).contains(&boundary.len())) {
            Some(boundary) => Look::Multipart { boundary, digest: kind.1.eq_ignore_ascii_case(b"digest") },
            None => Look::Leaf,
        };
    }
    if is_message(&kind) && is_identity(&encoding(header)) { Look::Message } else { Look::Leaf }
}

fn is_message((main, sub): &MediaType) -> bool {
    main.eq_ignore_ascii_case(b"message") && [&b"rfc822"[..], b"global"].iter().any(|one| sub.eq_ignore_ascii_case(one))
}

fn is_identity(encoding: &[u8]) -> bool {
    [&b"7bit"[..], b"8bit", b"binary"].iter().any(|one| encoding.eq_ignore_ascii_case(one))
}

fn first<'a>(header: &'a [u8], name: &str) -> Option<&'a [u8]> {
    fields(header).find(|field| field.is(name)).map(|field| field.value)
}

fn content_type(header: &[u8], in_digest: bool, budget: &mut Budget) -> (MediaType, Parameters) {
    let default = || {
        let (main, sub): (&[u8], &[u8]) = if in_digest { (b"message", b"rfc822") } else { (b"text", b"plain") };
        ((main.to_vec(), sub.to_vec()), Vec::new())
    };
    match first(header, "Content-Type") {
        Some(value) => parameter::content_type(value, budget)
            .unwrap_or_else(|| ((b"text".to_vec(), b"plain".to_vec()), Vec::new())),
        None => default(),
    }
}

fn encoding(header: &[u8]) -> Vec<u8> {
    let written = first(header, "Content-Transfer-Encoding").map(parameter::token);
    written.filter(|token| !token.is_empty() && token.len() <= 100).unwrap_or_else(|| b"7bit".to_vec())
}

impl Nodes {
    /// The message's own headers, sharing the memory.
    pub(super) fn top_headers(&self, content: &Content) -> Content {
        let header = self.0.first().map_or(0..0, |top| top.header.clone());
        content.slice(header.start as u64, header.end as u64)
    }

    /// Builds the parts from the last to the first, so that each finds its own parts built.
    pub(super) fn into_tree(mut self, content: &[u8], budget: &mut Budget) -> Part {
        let mut inside: Vec<Vec<Part>> = self.0.iter().map(|_| Vec::new()).collect();
        while let (Some(node), Some(mut parts)) = (self.0.pop(), inside.pop()) {
            parts.reverse();
            let Some(parent) = node.parent else { return part(node, parts, content, budget) };
            // A message whose headers are over a limit is not looked into at all.
            let unseen = matches!((&self.0[parent].look, &node.look), (Look::Message, Look::Opaque));
            if !unseen {
                inside[parent].push(part(node, parts, content, budget));
            }
        }
        leaf(0..content.len())
    }
}

/// A part without headers.
fn leaf(body: Range<usize>) -> Part {
    Part {
        content_type: (b"text".to_vec(), b"plain".to_vec()),
        parameters: Vec::new(),
        id: None,
        description: None,
        encoding: b"7bit".to_vec(),
        md5: None,
        disposition: None,
        language: Vec::new(),
        location: None,
        header: range(&(body.start..body.start)),
        body: range(&body),
        lines: 0,
        kind: PartKind::Leaf,
    }
}

const fn range(range: &Range<usize>) -> Range<u64> {
    range.start as u64..range.end as u64
}

fn part(node: Node, parts: Vec<Part>, content: &[u8], budget: &mut Budget) -> Part {
    let header = &content[node.header.clone()];
    let mut part = Part { header: range(&node.header), lines: node.lines, ..leaf(node.body.clone()) };
    if matches!(node.look, Look::Opaque) {
        return part;
    }
    part.encoding = encoding(header);
    (part.content_type, part.parameters) = content_type(header, node.in_digest, budget);
    describe(&mut part, header, budget);
    part.kind = match node.look {
        Look::Multipart { .. } if !parts.is_empty() => {
            // The type may be missing where the budget was spent.
            if !part.content_type.0.eq_ignore_ascii_case(b"multipart") {
                part.content_type = (b"multipart".to_vec(), b"mixed".to_vec());
            }
            PartKind::Multipart(parts)
        }
        Look::Message => match parts.into_iter().next() {
            Some(inner) => {
                if !is_message(&part.content_type) {
                    part.content_type = (b"message".to_vec(), b"rfc822".to_vec());
                }
                let fields = mail_fields(&content[inner.header.start as usize..inner.header.end as usize], budget);
                PartKind::Message(Box::new(fields), Box::new(inner))
            }
            None => PartKind::Leaf,
        },
        _ => PartKind::Leaf,
    };
    if matches!(part.kind, PartKind::Leaf) {
        show_as_leaf(&mut part);
    }
    part
}

/// Reads the other headers of RFC 2045 and its companions into the part.
fn describe(part: &mut Part, header: &[u8], budget: &mut Budget) {
    for field in fields(header) {
        let text = if field.is("Content-ID") {
            &mut part.id
        } else if field.is("Content-Description") {
            &mut part.description
        } else if field.is("Content-MD5") {
            &mut part.md5
        } else if field.is("Content-Location") {
            &mut part.location
        } else {
            if field.is("Content-Disposition") && part.disposition.is_none() {
                part.disposition = parameter::disposition(field.value, budget);
            } else if field.is("Content-Language") && part.language.is_empty() {
                part.language = parameter::language(field.value, budget);
            }
            continue;
        };
        if text.is_none() && budget.take(0, field.value.len()) {
            *text = Some(unfold(field.value));
        }
    }
}

/// A leaf must not promise what it does not hold.
fn show_as_leaf(part: &mut Part) {
    if part.content_type.0.eq_ignore_ascii_case(b"multipart") {
        part.content_type = (b"text".to_vec(), b"plain".to_vec());
        part.parameters.clear();
    } else if is_message(&part.content_type) {
        part.content_type = (b"application".to_vec(), b"octet-stream".to_vec());
        part.parameters.clear();
    }
}
