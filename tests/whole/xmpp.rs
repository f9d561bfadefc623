//! A mail user and somebody on XMPP, through the whole program: swaks and IMAP on one side, slixmpp at Prosody on the other, and between them
//! the example bridge as a process, once in Rust and once in Python.

#[path = "../../bridges/examples/prosody/server.rs"]
mod prosody;
#[path = "../../bridges/examples/prosody/python.rs"]
mod python;

use crate::beside::{Beside, ready, user};
use crate::support::run;
use crate::tools::succeed;
use prosody::Prosody;
use std::process::Command;

const ROMEO: &str = "romeo=40localhost@xmpp.x.example.org";

/// `process` is what `run` has of the bridge's program.
fn they_talk(process: impl FnOnce(&Beside) -> String) {
    let network = Prosody::start();
    let romeo = network.person("romeo");
    let mut beside = Beside::new("");
    let settings = network.config();
    let own = format!("server = {}\ncomponent = {}", settings["server"], settings["component"]);
    let grants = "grants = [\"accept\", \"deliver\", \"directory\", \"secret:xmpp\"]";
    beside.configure("xmpp", &format!("run = {{ {}{} }}\n{grants}\n{own}", process(&beside), user()));
    run(0, &["--config", beside.config().to_str().unwrap(), "secret", "set", "xmpp"], "shared\n");
    beside.start();
    ready(&beside);

    // A mail from alice, whatever mail program she has.
    let alice = beside.alice.clone();
    let mail = format!("From: Alice <{}>\nTo: {ROMEO}\nSubject: x\n\nWherefore art thou, <Romeo>?\n", alice.address);
    let submission = beside.address("submission", "submission").to_string();
    let mut swaks = Command::new("swaks");
    swaks.args(["--server", &submission, "--auth", "PLAIN", "--auth-user", &alice.name]);
    swaks.args(["--auth-password", &alice.password, "--from", &alice.address, "--to", ROMEO, "--data", "-"]);
    succeed(swaks.args(["--silent", "2"]), mail.as_bytes());
    let heard = romeo.hears("what alice writes", |event| event["event"] == "message");
    assert_eq!(heard["body"], "Wherefore art thou, <Romeo>?");
    assert_eq!(heard["sender"], "alice@mesyx.localhost");

    // His answer, read with IMAP, and an answer to that, to the address which stands there.
    assert_eq!(romeo.says("alice@mesyx.localhost", "Call me but love & \u{e9}"), None);
    let answered = "
import email, email.policy, email.utils
box = imap()
folders = [line.decode().split(' \"/\" ')[1].strip('\"') for line in box.list()[1]]
found = []
for folder in folders:
    if box.select('\"' + folder + '\"', readonly=True)[0] != 'OK':
        continue
    for number in box.search(None, 'ALL')[1][0].split():
        mail = email.message_from_bytes(box.fetch(number, '(BODY.PEEK[])')[1][0][1], policy=email.policy.default)
        if 'Call me but love' in mail.get_content():
            found.append((folder, mail))
assert len(found) == 1, found
folder, mail = found[0]
assert mail.get_content().strip() == 'Call me but love & \\u00e9', mail.get_content()
sender = email.utils.parseaddr(mail['From'])[1]
assert sender == sys.argv[1], mail['From']
print(folder)
submit([email.utils.parseaddr(mail['Reply-To'] or mail['From'])[1]], 'By a name I know not how')
";
    let folder = beside.python(&alice, answered, &[ROMEO]);
    romeo.hears("alice's answer", |event| event["body"] == "By a name I know not how");

    // One that is not there is told to the sender, and the message does not wait.
    let nobody = ROMEO.replace("romeo", "nobody");
    let returned = "
submit([sys.argv[1]], 'anybody?')
box = imap()
for _ in range(300):
    box.select('INBOX', readonly=True)
    for number in box.search(None, 'ALL')[1][0].split():
        mail = box.fetch(number, '(BODY.PEEK[])')[1][0][1].decode()
        if 'Final-Recipient: rfc822; ' + sys.argv[1] in mail:
            assert f'To: <{address}>' in mail and 'service-unavailable' in mail, mail
            sys.exit()
    time.sleep(0.1)
sys.exit('nothing was returned')
";
    beside.python(&alice, returned, &[&nobody]);
    assert_eq!(romeo.says("nobody@mesyx.localhost", "hello?").as_deref(), Some("cancel item-not-found"));
    assert_eq!(beside.json(&["queue", "status"])["jobs"], 0);
    assert_eq!(beside.listed("xmpp")["faults"], 0, "{}", beside.listed("xmpp"));
    assert!(folder.trim().contains("romeo"), "the conversation's folder is {folder}");
    assert!(beside.stop(), "{}", beside.log());
}

#[test]
fn alice_and_romeo_talk_through_the_bridge_in_rust() {
    they_talk(|beside| format!("process = {:?}", beside.program("xmpp-bridge")));
}

#[test]
fn alice_and_romeo_talk_through_the_bridge_in_python() {
    let python = python::python();
    they_talk(|_| {
        let (interpreter, stubs, script) = (&python.interpreter, &python.stubs, &python.script);
        let venv = interpreter.ancestors().nth(2).unwrap();
        format!(
            "process = {interpreter:?}, args = [{script:?}], readable = [{venv:?}, {script:?}], environment = {{ PYTHONPATH = {stubs:?} }}"
        )
    });
}
