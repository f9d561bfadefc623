//! Memory that a stranger can make us hold.

use crate::smtp::Smtp;
use crate::support::Demo;
use crate::support::ways::Way;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// KiB of memory: of the largest process, and of all together, whichever of them has the connections.
#[derive(Clone, Copy)]
struct Resident {
    largest: u64,
    together: u64,
}

fn resident(demo: &Demo) -> Resident {
    // Each library brings a copy of the code that all of them use, which is not optimised here and large: it is not counted.
    let field = if Way::wanted() == Way::Library { "RssAnon:" } else { "VmRSS:" };
    let of = |pid: u32| -> u64 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let each: Vec<u64> = demo.processes().into_iter().map(of).collect();
    Resident { largest: each.iter().copied().max().unwrap(), together: each.iter().sum() }
}

/// Waits until memory has stopped growing.
fn settled(demo: &Demo) -> Resident {
    let mut last = resident(demo);
    loop {
        std::thread::sleep(Duration::from_millis(300));
        let now = resident(demo);
        if now.together <= last.together + 64 {
            return now;
        }
        last = now;
    }
}

#[test]
fn a_thousand_strangers_stay_under_their_limit() {
    let demo = Demo::start();
    for (listener, half) in [
        ("smtp", &b"EHLO client.example.net\r\nMAIL FROM:<a@exam"[..]),
        ("imap", b"a LOGIN \"someone\" \"half a pass"),
        ("irc", b"CAP LS 302\r\nNICK someone\r\nAUTHENTI"),
    ] {
        let before = settled(&demo);
        let mut held = Vec::new();
        for _ in 0..1000 {
            let mut stream = TcpStream::connect(("127.0.0.1", demo.port(listener))).unwrap();
            stream.write_all(half).unwrap();
            held.push(stream);
        }
        let after = settled(&demo);
        for stream in &mut held {
            let mut first = [0];
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            stream.read_exact(&mut first).unwrap();
        }
        assert!(after.largest < 128 * 1024, "{listener}: {} KiB with 1000 connections", after.largest);
        let each = after.together.saturating_sub(before.together) / 1000;
        assert!(each <= 64, "{listener}: {each} KiB a connection");
    }
}

#[test]
fn endless_input_before_login_is_cut_off() {
    let demo = Demo::start();
    for (listener, unit) in [
        ("smtp", &b"NOOP 0123456789 0123456789 0123456789\r\n"[..]),
        ("smtp", b"no line end "),
        ("submission", b"RSET\r\n"),
        ("imap", b"a NOOP\r\n"),
        ("imap", b"no line end "),
        ("imap", b"a LOGIN {60+}\r\n"),
        ("irc", b"CAP LS 302\r\n"),
        ("irc", b"no line end "),
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", demo.port(listener))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut reader = stream.try_clone().unwrap();
        std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
        let block = unit.repeat(1 + 20_000 / unit.len());
        // A hundred kilobytes may pass, and what socket buffers hold; ten megabytes may not.
        let cut = (0..500).any(|_| stream.write_all(&block).is_err());
        assert!(cut, "{listener} took ten megabytes of {:?}", String::from_utf8_lossy(unit));
    }
}

#[test]
fn what_is_too_large_is_refused_before_it_is_held() {
    let demo = Demo::start();
    let alice = demo.user("alice");
    let mut smtp = Smtp::connect(demo.port("smtp"));
    let declared = smtp.command("MAIL FROM:<a@example.net> SIZE=999999999999");
    assert_eq!((declared.code, &declared.text[..5]), (552, "5.3.4"));
    assert_eq!(smtp.command("MAIL FROM:<a@example.net>").code, 250);
    assert_eq!(smtp.command(&format!("RCPT TO:<{}>", alice.address)).code, 250);
    smtp.send(b"BDAT 999999999999 LAST\r\n");
    let refused = smtp.reply();
    assert!((500..600).contains(&refused.code), "{refused:?}");

    let mut imap = TcpStream::connect(("127.0.0.1", demo.port("imap"))).unwrap();
    imap.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let login = format!("a LOGIN {} {}\r\nb APPEND Drafts {{999999999}}\r\n", alice.name, alice.password);
    imap.write_all(login.as_bytes()).unwrap();
    let mut answer = String::new();
    let mut block = [0; 4096];
    while !answer.contains("\r\nb ") {
        let read = imap.read(&mut block).unwrap();
        assert!(read > 0, "closed after {answer}");
        answer.push_str(&String::from_utf8_lossy(&block[..read]));
        assert!(!answer.contains("\r\n+ "), "invited to send: {answer}");
    }
    assert!(answer.contains("b NO [TOOBIG]"), "{answer}");
    assert!(resident(&demo).largest < 128 * 1024);
}
