//! Bytes that arrived before the handshake are never acted on after it (CVE-2011-0411, CVE-2021-33515),
//! and nobody logs in in the clear.

use crate::support::Demo;
use crate::tools::python;

/// Sends STARTTLS with a command glued behind it, does the handshake, and prints what comes unasked afterwards.
const INJECT: &str = "
import socket, ssl, sys
port, ca, greeting, glued = sys.argv[1:]
raw = socket.create_connection(('127.0.0.1', int(port)))
raw.settimeout(5)
raw.recv(1000)
if greeting:
    raw.sendall(greeting.encode() + b'\\r\\n')
    raw.recv(4000)
raw.sendall(glued.encode().decode('unicode_escape').encode())
try:
    reply = raw.recv(4000)
    tls = ssl.create_default_context(cafile=ca).wrap_socket(raw, server_hostname='localhost')
    tls.settimeout(2)
    try:
        print('after the handshake:', tls.recv(4000))
    except TimeoutError:
        print('silence')
except OSError as error:
    print('closed')
";

#[test]
fn smtp_never_acts_on_what_came_before_the_handshake() {
    let demo = Demo::start();
    for listener in ["smtp", "submission"] {
        let port = demo.port(listener).to_string();
        let output = python(INJECT, &[&port, demo.text("tls_ca"), "EHLO x", "STARTTLS\\r\\nNOOP\\r\\n"]);
        assert!(!output.contains("250"), "{listener}: {output}");
        let plain = python(INJECT, &[&port, demo.text("tls_ca"), "EHLO x", "STARTTLS\\r\\n"]);
        assert_eq!(plain.trim(), "silence", "{listener}: the handshake itself works");
    }
}

#[test]
fn imap_never_acts_on_what_came_before_the_handshake() {
    let demo = Demo::start();
    let port = demo.port("imap").to_string();
    let output = python(INJECT, &[&port, demo.text("tls_ca"), "", "a STARTTLS\\r\\nb NOOP\\r\\n"]);
    assert!(!output.contains("b OK"), "{output}");
    let plain = python(INJECT, &[&port, demo.text("tls_ca"), "", "a STARTTLS\\r\\n"]);
    assert_eq!(plain.trim(), "silence", "the handshake itself works");
}
