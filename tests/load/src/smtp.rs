//! An SMTP client that only sends, one transaction at a time, pipelined (RFC 2920).

use crate::Result;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

pub struct Client {
    stream: BufStream<TcpStream>,
}

impl Client {
    pub async fn connect(server: &str) -> Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream: BufStream::new(stream) };
        client.expect("220").await?;
        client.stream.write_all(b"EHLO load.example.net\r\n").await?;
        client.stream.flush().await?;
        client.expect("250").await?;
        Ok(client)
    }

    /// Logs in, which the server must allow in clear.
    pub async fn login(&mut self, user: &str, password: &str) -> Result<()> {
        for line in ["AUTH LOGIN".to_owned(), base64(user.as_bytes()), base64(password.as_bytes())] {
            self.stream.write_all(format!("{line}\r\n").as_bytes()).await?;
            self.stream.flush().await?;
            self.expect(if line == base64(password.as_bytes()) { "235" } else { "334" }).await?;
        }
        Ok(())
    }

    /// Sends one message; returns when the server has answered 250 to it.
    pub async fn send(&mut self, from: &str, to: &str, message: &[u8]) -> Result<()> {
        let envelope = format!("MAIL FROM:<{from}>\r\nRCPT TO:<{to}>\r\nDATA\r\n");
        self.stream.write_all(envelope.as_bytes()).await?;
        self.stream.flush().await?;
        for code in ["250", "250", "354"] {
            self.expect(code).await?;
        }
        self.stream.write_all(message).await?;
        self.stream.write_all(b".\r\n").await?;
        self.stream.flush().await?;
        self.expect("250").await
    }

    pub async fn quit(&mut self) -> Result<()> {
        self.stream.write_all(b"QUIT\r\n").await?;
        self.stream.flush().await?;
        self.expect("221").await
    }

    async fn expect(&mut self, code: &str) -> Result<()> {
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).await? == 0 {
                return Err("the SMTP server closed the connection".into());
            }
            if !line.starts_with(code) {
                return Err(format!("expected {code}, got: {}", line.trim_end()).into());
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(());
            }
        }
    }
}

/// A message of `size` bytes (a little more for the smallest), without a line that begins with a dot.
pub fn message(to: &str, number: usize, size: usize) -> Vec<u8> {
    message_from("load@example.net", to, number, size)
}

/// The same, by this author.
pub fn message_from(from: &str, to: &str, number: usize, size: usize) -> Vec<u8> {
    let mut message = format!(
        "From: Load <{from}>\r\nTo: {to}\r\nSubject: Message {number}\r\n\
         Date: Thu, 01 Jan 2026 12:00:00 +0000\r\nMessage-ID: <{number}.{}@load.example.net>\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
        std::process::id()
    )
    .into_bytes();
    while message.len() < size {
        let line =
            format!("{number:08} the quick brown fox jumps over the lazy dog, and again {:06}\r\n", message.len());
        let left = size - message.len();
        message.extend_from_slice(if left < line.len() && left > 2 {
            &line.as_bytes()[line.len() - left..]
        } else {
            line.as_bytes()
        });
    }
    message
}

/// As SMTP's AUTH wants it (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for piece in bytes.chunks(3) {
        let group = piece.iter().fold(0_u32, |group, byte| (group << 8) | u32::from(*byte)) << (8 * (3 - piece.len()));
        for at in 0..4 {
            let digit = DIGITS[(group >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= piece.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_is_as_everywhere() {
        for (clear, encoded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(super::base64(clear.as_bytes()), encoded);
        }
    }
}
