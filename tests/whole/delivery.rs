//! Mail that users send elsewhere leaves, to the host that the demo is told.

use crate::support::{Demo, until};
use crate::tools::succeed;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

/// A mail host that takes everything but mail for `gone@`, without extensions.
pub struct NextHop {
    /// Where it listens.
    pub address: SocketAddr,
    taken: Arc<Mutex<Vec<Taken>>>,
}

#[derive(Debug, Clone, Default)]
pub struct Taken {
    pub from: String,
    pub to: Vec<String>,
    pub content: Vec<u8>,
}

impl NextHop {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let hop = Self { address: listener.local_addr().unwrap(), taken: Arc::default() };
        let taken = Arc::clone(&hop.taken);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let taken = Arc::clone(&taken);
                std::thread::spawn(move || serve(stream, &taken));
            }
        });
        hop
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.taken.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, all: &Mutex<Vec<Taken>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let say = |reader: &mut BufReader<TcpStream>, text: &str| reader.get_mut().write_all(text.as_bytes()).ok();
    say(&mut reader, "220 next hop\r\n")?;
    let mut taken = Taken::default();
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        assert!(line.ends_with(b"\r\n"), "a bare line end: {line:?}");
        let text = String::from_utf8(line).unwrap();
        match text.get(..4).unwrap_or_default() {
            "MAIL" => taken.from = text.trim_end().to_owned(),
            "RCPT" if text.contains("<gone@") => {
                say(&mut reader, "550 5.1.1 there is nobody of that name\r\n")?;
                continue;
            }
            "RCPT" => taken.to.push(text.trim_end().to_owned()),
            "DATA" => {
                say(&mut reader, "354 go on\r\n")?;
                loop {
                    let mut line = Vec::new();
                    reader.read_until(b'\n', &mut line).ok()?;
                    assert!(line.ends_with(b"\r\n"), "a bare line end: {line:?}");
                    if line == b".\r\n" {
                        break;
                    }
                    taken.content.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
                }
                all.lock().unwrap().push(std::mem::take(&mut taken));
            }
            "EHLO" => {
                say(&mut reader, "250-next hop\r\n250 8BITMIME\r\n")?;
                continue;
            }
            "QUIT" => return say(&mut reader, "221 bye\r\n"),
            _ => {}
        }
        say(&mut reader, "250 ok\r\n")?;
    }
}

pub fn demo(hop: &NextHop) -> Demo {
    Demo::start_with(&["--smarthost", &hop.address.to_string()])
}

/// Sends a file's worth of message with swaks, logged in as alice.
fn submit(demo: &Demo, to: &str, message: &str) {
    let alice = demo.user("alice");
    let mut swaks = Command::new("swaks");
    swaks.args(["--server", &format!("127.0.0.1:{}", demo.port("submission"))]);
    swaks.args(["--auth", "PLAIN", "--auth-user", &alice.name, "--auth-password", &alice.password]);
    swaks.args(["--from", &alice.address, "--to", to, "--data", "-", "--silent", "2"]);
    succeed(&mut swaks, message.as_bytes());
}

#[test]
fn what_swaks_submits_reaches_the_next_hop_whole() {
    let hop = NextHop::start();
    let demo = demo(&hop);
    let alice = demo.user("alice");
    let fields = format!("From: Alice <{}>\nTo: bob@example.net\nSubject: an odd   one\nX-Odd:\t tab\n", alice.address);
    let body = ".a dot in front\n..two\nümlaut\n \n\nFrom the end\n.\t\n";
    let date = "Date: Sun, 22 Nov 2026 22:37:44 +0000\nMessage-ID: <odd@example.org>\n";
    submit(&demo, "bob@example.net", &format!("{date}{fields}\n{body}"));
    until("the message is there", || !hop.taken().is_empty());
    let taken = hop.taken().remove(0);
    assert!(taken.from.starts_with(&format!("MAIL FROM:<{}>", alice.address)), "{}", taken.from);
    assert_eq!(taken.to, ["RCPT TO:<bob@example.net>"]);
    let content = String::from_utf8(taken.content).unwrap();
    let crlf = |text: &str| text.replace('\n', "\r\n");
    assert!(
        content.ends_with(&crlf(&format!("\n\n{body}"))) || content.contains(&crlf(&format!("\n\n{body}"))),
        "{content}"
    );
    for field in format!("{date}{fields}").lines() {
        assert!(content.contains(&format!("{field}\r\n")), "{field} is missing in\n{content}");
    }
}

#[test]
fn blind_recipients_are_not_named_to_anybody() {
    let hop = NextHop::start();
    let demo = demo(&hop);
    let alice = demo.user("alice");
    let message = format!(
        "From: {}\nTo: bob@example.net\nBcc: hidden@example.com,\n other@example.com\nResent-Bcc: more@example.com\nSubject: x\n\nx\n",
        alice.address
    );
    submit(&demo, "bob@example.net,hidden@example.com", &message);
    until("both are there", || hop.taken().iter().map(|taken| taken.to.len()).sum::<usize>() == 2);
    for taken in hop.taken() {
        let content = String::from_utf8(taken.content).unwrap();
        for secret in ["hidden", "other@", "more@", "Bcc:"] {
            assert!(!content.contains(secret), "{secret} shows in\n{content}");
        }
    }
}

#[test]
fn local_recipients_are_served_here() {
    let hop = NextHop::start();
    let demo = demo(&hop);
    let (alice, bob) = (demo.user("alice"), demo.user("bob"));
    let message = format!("From: {}\nTo: {}, x@example.net\nSubject: both\n\nx\n", alice.address, bob.address);
    submit(&demo, &format!("{},x@example.net", bob.address), &message);
    until("bob has it", || crate::imap::count(&demo, &bob, "INBOX") == 1);
    until("the other has it", || !hop.taken().is_empty());
    assert_eq!(hop.taken().iter().flat_map(|taken| taken.to.clone()).collect::<Vec<_>>(), ["RCPT TO:<x@example.net>"]);
}
