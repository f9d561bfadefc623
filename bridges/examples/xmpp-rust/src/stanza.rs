//! Stanzas out of a stream of XML.

use quick_xml::Reader;
use quick_xml::escape::unescape;
use quick_xml::events::{BytesStart, Event};
use std::collections::HashMap;
use std::io::{Error, ErrorKind, Result};
use tokio::io::{AsyncRead, AsyncReadExt, BufReader, Take};

/// Largest stanza, in bytes: four of the largest that Prosody takes from a client.
const LARGEST: u64 = 1 << 20;

/// An element, its attributes, its own text, and the elements directly in it; nothing is kept from further down but names.
#[derive(Debug, Default)]
pub(crate) struct Element {
    pub(crate) name: String,
    pub(crate) text: String,
    attributes: HashMap<String, String>,
    children: Vec<Element>,
}

impl Element {
    /// An attribute; empty where it is not there.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The name of the first element in it: of an error, its condition.
    pub(crate) fn first(&self) -> String {
        self.children.first().map_or("refused", |child| &child.name).replace('-', " ")
    }
}

pub(crate) struct Stanzas<R>(Reader<Take<BufReader<R>>>);

impl<R: AsyncRead + Unpin> Stanzas<R> {
    pub(crate) fn new(read: R) -> Self {
        Self(Reader::from_reader(BufReader::new(read).take(LARGEST)))
    }

    /// The stream's header; its id.
    pub(crate) async fn header(&mut self) -> Result<String> {
        loop {
            match self.0.read_event_into_async(&mut Vec::new()).await.map_err(broken)? {
                Event::Start(start) => return Ok(begun(&start)?.get("id").to_owned()),
                Event::Eof | Event::End(_) => return Err(ErrorKind::UnexpectedEof.into()),
                _ => {}
            }
        }
    }

    /// The next stanza. When its future is dropped, the stream can't be read on.
    pub(crate) async fn next(&mut self) -> Result<Element> {
        self.0.get_mut().set_limit(LARGEST);
        let mut open: Vec<Element> = Vec::new();
        loop {
            let mut buffer = Vec::new();
            let text = match self.0.read_event_into_async(&mut buffer).await.map_err(broken)? {
                Event::Start(start) if open.len() < 32 => {
                    open.push(begun(&start)?);
                    continue;
                }
                event @ (Event::Empty(_) | Event::End(_)) => {
                    let done = match &event {
                        Event::Empty(empty) => Some(begun(empty)?),
                        _ => open.pop(),
                    };
                    match (done, open.last_mut()) {
                        (Some(done), Some(parent)) => parent.children.push(done),
                        (Some(done), None) => return Ok(done),
                        (None, _) => return Err(ErrorKind::UnexpectedEof.into()),
                    }
                    continue;
                }
                Event::Text(text) => text.xml10_content().into_owned(),
                Event::GeneralRef(name) => {
                    unescape(&format!("&{};", name.xml10_content())).map_err(broken)?.into_owned()
                }
                Event::Eof | Event::Start(_) => return Err(ErrorKind::UnexpectedEof.into()),
                _ => continue,
            };
            open.last_mut().into_iter().for_each(|element| element.text.push_str(&text));
        }
    }
}

fn begun(start: &BytesStart<'_>) -> Result<Element> {
    let mut element = Element { name: start.local_name().as_ref().to_owned(), ..Element::default() };
    for attribute in start.attributes() {
        let attribute = attribute.map_err(broken)?;
        let value = unescape(&attribute.value).map_err(broken)?.into_owned();
        element.attributes.insert(attribute.key.as_ref().to_owned(), value);
    }
    Ok(element)
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidData, error.to_string())
}

/// Text as it may stand in XML, also between quotes.
pub(crate) fn escape(text: &str) -> String {
    let allowed: String = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
    quick_xml::escape::escape(allowed).into_owned()
}
