//! As much of an IMAP client as measuring needs.

use crate::{Account, Result};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

pub struct Client {
    stream: BufStream<TcpStream>,
    line: Vec<u8>,
}

impl Client {
    pub async fn connect(server: &str) -> Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream: BufStream::with_capacity(16 * 1024, 1024, stream), line: Vec::new() };
        client.read_line().await?;
        Ok(client)
    }

    pub async fn login(account: &Account) -> Result<Self> {
        let mut client = Self::connect(&account.imap).await?;
        client.command(&format!("LOGIN \"{}\" \"{}\"", account.user, account.password), |_| ()).await?;
        Ok(client)
    }

    pub async fn logout(&mut self) -> Result<()> {
        self.command("LOGOUT", |_| ()).await
    }

    /// The number of messages, by STATUS.
    pub async fn messages(&mut self, mailbox: &str) -> Result<usize> {
        let mut messages = None;
        self.command(&format!("STATUS {mailbox} (MESSAGES)"), |line| {
            let text = String::from_utf8_lossy(line);
            let count = text.split_once("(MESSAGES ").and_then(|(_, rest)| rest.split([' ', ')']).next());
            messages = messages.or(count.and_then(|count| count.parse().ok()));
        })
        .await?;
        messages.ok_or_else(|| "STATUS answered without MESSAGES".into())
    }

    /// Selects a mailbox; the number of its messages.
    pub async fn select(&mut self, mailbox: &str) -> Result<usize> {
        let mut messages = 0;
        self.command(&format!("SELECT {mailbox}"), |line| {
            if let Some(count) = exists(line) {
                messages = count;
            }
        })
        .await?;
        Ok(messages)
    }

    /// Fetches; the number of FETCH answers, and of bytes read.
    pub async fn fetch(&mut self, what: &str) -> Result<(usize, usize)> {
        let (mut answers, mut bytes) = (0, 0);
        self.command(&format!("FETCH {what}"), |line| {
            bytes += line.len();
            answers += usize::from(line.starts_with(b"* ") && line.windows(8).take(16).any(|at| at == b" FETCH ("));
        })
        .await?;
        Ok((answers, bytes))
    }

    pub async fn idle(&mut self) -> Result<()> {
        self.stream.write_all(b"i IDLE\r\n").await?;
        self.stream.flush().await?;
        while !self.read_line().await?.starts_with(b"+") {}
        Ok(())
    }

    /// Waits, idling, for the next EXISTS.
    pub async fn wait_exists(&mut self) -> Result<()> {
        while exists(self.read_line().await?).is_none() {}
        Ok(())
    }

    /// Sends a command and shows every line up to its completion, with literals as lines of their own.
    async fn command(&mut self, command: &str, mut each: impl FnMut(&[u8])) -> Result<()> {
        self.stream.write_all(format!("a {command}\r\n").as_bytes()).await?;
        self.stream.flush().await?;
        loop {
            let line = self.read_line().await?;
            if line.starts_with(b"a ") {
                if line.starts_with(b"a OK") {
                    return Ok(());
                }
                return Err(format!(
                    "{}: {}",
                    command.split(' ').next().unwrap_or_default(),
                    String::from_utf8_lossy(line).trim_end()
                )
                .into());
            }
            each(line);
            if let Some(length) = literal(line) {
                self.line.resize(length, 0);
                self.stream.read_exact(&mut self.line).await?;
                each(&self.line);
            }
        }
    }

    async fn read_line(&mut self) -> Result<&[u8]> {
        self.line.clear();
        if self.stream.read_until(b'\n', &mut self.line).await? == 0 {
            return Err("the IMAP server closed the connection".into());
        }
        Ok(&self.line)
    }
}

fn exists(line: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(line).ok()?;
    text.strip_prefix("* ")?.trim_end().strip_suffix(" EXISTS")?.parse().ok()
}

/// The length of the literal that the line announces at its end.
fn literal(line: &[u8]) -> Option<usize> {
    let line = line.strip_suffix(b"}\r\n")?;
    let at = line.iter().rposition(|&byte| byte == b'{')?;
    std::str::from_utf8(&line[at + 1..]).ok()?.parse().ok()
}
