//! Each call that needs a grant.

use crate::message;
use mesyx_sdk::*;

/// The grants that a bridge has to make calls, as a configuration has them. The one other is `deliver`: without it nothing is brought
/// to the bridge.
pub const CALLS: [&str; 10] = [
    "accept",
    "access",
    "directory",
    "secret:kit.one",
    "listen:0",
    "certificates",
    "checkpoint",
    "signal",
    "query",
    "guests",
];

/// Makes each call once: under which grant, and whether it was refused for want of that. A signal has no answer.
pub async fn ask(host: &dyn Host) -> Vec<(&'static str, bool)> {
    let refused = |error: &Error| error.kind() == ErrorKind::NotGranted;
    let mut all = Vec::new();
    let mut note = |grant, error: Option<Error>| all.push((grant, error.is_some_and(|error| refused(&error))));
    note("accept", host.accept(vec![message("a call")]).await.remove(0).err());
    let client = ClientInfo { ip: [127, 0, 0, 1].into(), protocol: "x".into(), tls: true };
    let password = Secret::from("wrong".to_owned());
    note("access", host.login(Credentials { name: "ann".into(), password, client }).await.err());
    if let Ok(address) = "ann@example.org".parse() {
        note("directory", host.recipient(&address, &Sender::Stranger).await.err());
    }
    note("directory", host.is_user("ann").await.err());
    note("secret:kit.one", host.secret("kit.one").await.err());
    let spec = ListenSpec { name: "asked".into(), address: ([127, 0, 0, 1], 0).into() };
    note("listen:0", host.listen(&spec).await.err());
    note("certificates", host.certificates().err());
    note("checkpoint", host.set_checkpoint("a key", None).await.err());
    note("checkpoint", host.checkpoint("a key").await.err());
    note("checkpoint", host.checkpoints("a").await.err());
    host.signal(Signal {
        to: SignalTo::User(UserId([1; 16])),
        bridge: String::new(),
        conversation: None,
        from: None,
        name: "asked".into(),
        args: Vec::new(),
    });
    let (bridge, asker) = ("nobody".to_owned(), String::new());
    note("query", host.query(Question { bridge, asker, user: None, name: "x".into(), args: Vec::new() }).await.err());
    note("guests", host.guests().await.err());
    note("guests", host.groups().await.err());
    all
}
