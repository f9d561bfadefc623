//! What was answered with 250 is there afterwards, once, whenever the server was killed.

use crate::instance::Instance;
use crate::smtp::Smtp;
use crate::support::ways::expect;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const KILLS: usize = 50;
const SENDERS: usize = 6;
/// Messages that are answered in each round at least.
const EACH_ROUND: usize = 5;

/// Sends messages until the line breaks; notes each one that was answered with 250.
fn send_until_broken(
    port: u16,
    next: &AtomicUsize,
    answered: &Mutex<Vec<String>>,
    stop: &AtomicBool,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(TcpStream::connect(("127.0.0.1", port))?);
    reader.get_ref().set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut talk = |line: &[u8]| -> std::io::Result<String> {
        reader.get_mut().write_all(line)?;
        loop {
            let mut reply = String::new();
            if reader.read_line(&mut reply)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if reply.as_bytes().get(3) == Some(&b' ') {
                return Ok(reply);
            }
        }
    };
    talk(b"")?;
    talk(b"EHLO client.example.net\r\n")?;
    while !stop.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        // Every fifth is large enough for a file of its own.
        let filler = "filler filler filler filler filler\r\n".repeat(if number.is_multiple_of(5) { 8_000 } else { 20 });
        expect(&talk(b"MAIL FROM:<a@example.net>\r\n")?, "250")?;
        expect(&talk(b"RCPT TO:<alice@example.org>\r\n")?, "250")?;
        expect(&talk(b"DATA\r\n")?, "354")?;
        let reply = talk(format!("Subject: number {number}\r\n\r\n{filler}the end\r\n.\r\n").as_bytes())?;
        expect(&reply, "250")?;
        answered.lock().unwrap().push(format!("number {number}"));
    }
    Ok(())
}

/// Lets senders run while `rounds` times the server is started, served from for a while, and ended by `end`.
pub fn under_load(
    instance: &mut Instance,
    rounds: usize,
    mut start: impl FnMut(&mut Instance),
    mut end: impl FnMut(&mut Instance),
) -> Vec<String> {
    let next = Arc::new(AtomicUsize::new(0));
    let answered = Arc::new(Mutex::new(Vec::new()));
    let mut random = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(std::process::id());
    for _ in 0..rounds {
        start(instance);
        let stop = Arc::new(AtomicBool::new(false));
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let (next, answered, stop, port) =
                    (Arc::clone(&next), Arc::clone(&answered), Arc::clone(&stop), instance.smtp);
                std::thread::spawn(move || {
                    // The line breaks when the server is killed; that is what this is about.
                    let _ = send_until_broken(port, &next, &answered, &stop);
                })
            })
            .collect();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let before = answered.lock().unwrap().len();
        std::thread::sleep(Duration::from_millis(20 + (random >> 33) % 250));
        // A busy machine may not have come to anything by then.
        let patience = std::time::Instant::now() + Duration::from_secs(20);
        while answered.lock().unwrap().len() < before + EACH_ROUND && std::time::Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(5));
        }
        end(instance);
        stop.store(true, Ordering::Relaxed);
        for sender in senders {
            sender.join().unwrap();
        }
    }
    Arc::try_unwrap(answered).unwrap().into_inner().unwrap()
}

/// Everything answered is there, nothing is there twice, every message is whole.
pub fn check(instance: &Instance, answered: &[String]) {
    let mut stored: HashMap<String, usize> = HashMap::new();
    for subject in instance.subjects() {
        *stored.entry(subject).or_default() += 1;
    }
    let twice: Vec<_> = stored.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "stored more than once: {twice:?}");
    let lost: Vec<_> = answered.iter().filter(|subject| !stored.contains_key(*subject)).collect();
    assert!(lost.is_empty(), "answered with 250 and lost: {lost:?}");
}

#[path = "../../core/tests/unsynced/mod.rs"]
mod unsynced;

/// SIGKILL leaves what the kernel holds. Here everything goes that was never synced, as when the power is cut.
#[test]
fn nothing_that_was_answered_is_lost_when_the_power_is_cut() {
    let mut instance = Instance::new();
    let place = tempfile::tempdir().unwrap();
    let library = unsynced::library(place.path());
    let journal = place.path().join("journal");
    let data = instance.data();
    let mut undone = 0;
    let start = |instance: &mut Instance| {
        instance.start_with(|command| {
            command.env("LD_PRELOAD", &library).env("UNSYNCED_DIR", &data).env("UNSYNCED_JOURNAL", &journal);
        });
    };
    let end = |instance: &mut Instance| {
        instance.kill();
        undone += unsynced::replay(&data, &journal);
    };
    let answered = under_load(&mut instance, 10, start, end);
    assert!(answered.len() >= 50, "only {} messages were answered", answered.len());
    assert!(undone > 0, "every cut came when all was synced: nothing was tested");
    instance.start();
    check(&instance, &answered);
}

/// While every write below the data directory fails with ENOSPC, messages are put off with 452; where only syncs fail,
/// SQLite does not tell that the disk is full, and the answer is 451. Then all goes on.
#[test]
fn a_full_disk_puts_messages_off() {
    let mut instance = Instance::new();
    let place = tempfile::tempdir().unwrap();
    let library = unsynced::library(place.path());
    let full = place.path().join("full");
    let data = instance.data();
    instance.start_with(|command| {
        command.env("LD_PRELOAD", &library).env("UNSYNCED_DIR", &data);
        command.env("UNSYNCED_JOURNAL", place.path().join("journal")).env("UNSYNCED_FAIL_FILE", &full);
    });
    let mut smtp = Smtp::connect(instance.smtp);
    let large = "filler filler filler filler filler\r\n".repeat(8_000);
    let mut send = |subject: &str, body: &str| {
        let message = format!("Subject: {subject}\r\n\r\n{body}the end\r\n");
        smtp.message("a@example.net", "alice@example.org", message.as_bytes())
    };
    assert_eq!(send("before", "").code, 250);
    // ENOSPC is 28 (errno(3)).
    for (kind, codes) in [("write", &[(452, "4.3.1")][..]), ("sync", &[(452, "4.3.1"), (451, "4.3.0")])] {
        std::fs::write(&full, format!("{kind}:1:1000000:28")).unwrap();
        for body in ["", &large] {
            let reply = send("while full", body);
            assert!(codes.contains(&(reply.code, &reply.text[..5])), "{kind}: {reply:?}");
        }
        std::fs::remove_file(&full).unwrap();
        let reply = send(&format!("after {kind}"), &large);
        assert_eq!(reply.code, 250, "{kind}: {reply:?}");
    }
    assert_eq!(instance.subjects(), ["before", "after write", "after sync"]);
}

#[test]
fn nothing_that_was_answered_is_lost_when_the_server_is_killed() {
    let mut instance = Instance::new();
    let answered = under_load(&mut instance, KILLS, Instance::start, Instance::kill);
    assert!(answered.len() >= KILLS * EACH_ROUND, "only {} messages were answered in {KILLS} rounds", answered.len());
    instance.start();
    check(&instance, &answered);
}
