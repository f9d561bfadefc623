//! An encrypted answer comes back and is read by IMAP.

use crate::support::Demo;
use crate::tools::python;

#[test]
fn an_answer_that_gnupg_encrypted_is_read_by_imap() {
    let demo = Demo::start();
    let alice = demo.user("alice");
    let port = |listener: &str| demo.port(listener).to_string();
    let (http, smtp, imap) = (port("http"), port("smtp"), port("imap"));
    let said =
        python(include_str!("pgp_reply.py"), &[&http, &smtp, &imap, &alice.name, &alice.address, &alice.password]);
    assert_eq!(said.trim().lines().last(), Some("all done"), "{said}");
}
