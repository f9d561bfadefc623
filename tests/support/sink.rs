//! A next hop that takes every message and remembers it, or breaks the line, refuses or defers as it is told.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A message that was answered with 250.
#[derive(Debug, Clone)]
pub struct Taken {
    /// Its `Subject`.
    pub subject: String,
    /// The envelope sender, with what followed it.
    pub from: String,
    /// The recipients of the transaction.
    pub to: Vec<String>,
    /// All of it, dots undone.
    pub bytes: Vec<u8>,
    /// The generation that was set when it came.
    pub generation: usize,
}

#[derive(Default)]
struct State {
    taken: Mutex<Vec<Taken>>,
    /// Recipients and the answers that they get, one after the other, before they are taken.
    answers: Mutex<HashMap<String, Vec<String>>>,
    /// How many messages more have their line broken after the last dot, before an answer.
    breaks: AtomicUsize,
    broken: AtomicUsize,
    generation: AtomicUsize,
    stop: AtomicBool,
}

/// The sink; it stops with its value.
pub struct Sink {
    state: Arc<State>,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
}

impl Sink {
    /// Starts one.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(State::default());
        let serving = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let state = Arc::clone(&serving);
                std::thread::spawn(move || {
                    // The other side may go away at any time.
                    let _ = converse(stream, &state);
                });
            }
        });
        Self { state, port }
    }

    /// What was taken so far.
    pub fn taken(&self) -> Vec<Taken> {
        self.state.taken.lock().unwrap().clone()
    }

    /// How many lines were broken.
    pub fn broken(&self) -> usize {
        self.state.broken.load(Ordering::SeqCst)
    }

    /// Breaks the line of the next `count` messages, after their last dot.
    pub fn break_next(&self, count: usize) {
        self.state.breaks.store(count, Ordering::SeqCst);
    }

    /// Answers the next RCPT TO of `address` so; several are given one after the other.
    pub fn answer(&self, address: &str, reply: &str) {
        self.state.answers.lock().unwrap().entry(address.to_owned()).or_default().push(reply.to_owned());
    }

    /// A number that is noted with what comes from now on.
    pub fn set_generation(&self, generation: usize) {
        self.state.generation.store(generation, Ordering::SeqCst);
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn converse(stream: TcpStream, state: &State) -> std::io::Result<()> {
    let mut writing = stream.try_clone()?;
    let mut reading = BufReader::new(stream);
    let mut say = |text: &str| writing.write_all(format!("{text}\r\n").as_bytes());
    let (mut from, mut to) = (String::new(), Vec::new());
    say("220 sink.example.net ESMTP")?;
    loop {
        let mut line = String::new();
        if reading.by_ref().take(4096).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        let upper = line.to_ascii_uppercase();
        if upper.starts_with("EHLO") {
            say("250-sink.example.net\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 100000000")?;
        } else if let Some(rest) = strip(line, "MAIL FROM:") {
            rest.clone_into(&mut from);
            to.clear();
            say("250 2.1.0 ok")?;
        } else if let Some(rest) = strip(line, "RCPT TO:") {
            let address = rest.trim_start_matches('<').split('>').next().unwrap_or_default().to_owned();
            let answer =
                state.answers.lock().unwrap().get_mut(&address).filter(|all| !all.is_empty()).map(|all| all.remove(0));
            match answer {
                Some(answer) => say(&answer)?,
                None => {
                    to.push(address);
                    say("250 2.1.5 ok")?;
                }
            }
        } else if upper == "DATA" {
            if to.is_empty() {
                say("554 5.5.1 no recipients")?;
                continue;
            }
            say("354 go on")?;
            let bytes = data(&mut reading)?;
            if state.breaks.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
                state.broken.fetch_add(1, Ordering::SeqCst);
                return Ok(());
            }
            let text = String::from_utf8_lossy(&bytes);
            let subject = text.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap_or_default().to_owned();
            let generation = state.generation.load(Ordering::SeqCst);
            let taken = Taken { subject, from: from.clone(), to: std::mem::take(&mut to), bytes, generation };
            state.taken.lock().unwrap().push(taken);
            say("250 2.0.0 taken")?;
        } else if upper == "QUIT" {
            say("221 2.0.0 bye")?;
            return Ok(());
        } else {
            say("250 2.0.0 ok")?;
        }
    }
}

fn strip<'a>(line: &'a str, command: &str) -> Option<&'a str> {
    let (start, rest) = line.split_at_checked(command.len())?;
    start.eq_ignore_ascii_case(command).then_some(rest)
}

/// Reads up to the line with a dot alone.
fn data(reading: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let mut line = Vec::new();
        if reading.read_until(b'\n', &mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == b".\r\n" {
            return Ok(bytes);
        }
        bytes.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}
