//! A raw SMTP client for what real clients would never send.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

pub struct Smtp {
    reader: BufReader<TcpStream>,
}

/// A whole reply: its code, and its text with the lines joined by newlines.
#[derive(Debug, Clone)]
pub struct Reply {
    pub code: u16,
    pub text: String,
}

impl Smtp {
    /// Connects, reads the greeting, says EHLO.
    pub fn connect(port: u16) -> Self {
        let mut smtp = Self::connect_silent(port);
        assert_eq!(smtp.reply().code, 220);
        assert_eq!(smtp.command("EHLO client.example.net").code, 250);
        smtp
    }

    pub fn connect_silent(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { reader: BufReader::new(stream) }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap();
    }

    /// Sends bytes to a server that may have closed the connection already.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.reader.get_mut().write_all(bytes).is_ok()
    }

    pub fn command(&mut self, line: &str) -> Reply {
        self.send(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    pub fn reply(&mut self) -> Reply {
        self.try_reply().expect("the server answers")
    }

    /// The next reply; `None` where the server closed the connection instead.
    pub fn try_reply(&mut self) -> Option<Reply> {
        let mut text = String::new();
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end();
            let (code, rest) = line.split_at(3);
            text.push_str(rest.get(1..).unwrap_or_default());
            if !rest.starts_with('-') {
                return Some(Reply { code: code.parse().unwrap(), text });
            }
            text.push('\n');
        }
    }

    /// Begins a transaction up to the answer to DATA, all of which must be taken.
    pub fn begin_data(&mut self, from: &str, to: &str) {
        assert_eq!(self.command(&format!("MAIL FROM:<{from}>")).code, 250);
        assert_eq!(self.command(&format!("RCPT TO:<{to}>")).code, 250);
        assert_eq!(self.command("DATA").code, 354);
    }

    /// Sends a message as it is, with leading dots doubled; the answer to it.
    pub fn message(&mut self, from: &str, to: &str, message: &[u8]) -> Reply {
        self.begin_data(from, to);
        let mut wire = Vec::with_capacity(message.len() + 5);
        for line in message.split_inclusive(|&byte| byte == b'\n') {
            if line.starts_with(b".") {
                wire.push(b'.');
            }
            wire.extend_from_slice(line);
        }
        if !wire.ends_with(b"\r\n") {
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b".\r\n");
        self.send(&wire);
        self.reply()
    }
}
