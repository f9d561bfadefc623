//! `mesyx demo`: a throw-away instance to try things with.

use crate::cli::Demo;
use crate::config::check;
use crate::control::Hidden;
use crate::exit::{Failure, trying};
use crate::init;
use crate::serve::run::{self, Running};
use crate::serve::{admin, logging, registry};
use crate::tls;
use mesyx_bridges::State;
use mesyx_core::admin::NewAccount;
use mesyx_sdk::Grant;
use serde::Serialize;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

/// The demo's domain, which RFC 2606 keeps free for examples.
const DOMAIN: &str = "example.org";
const HOSTNAME: &str = "mail.example.org";
/// The group that both users belong to from the start.
const GROUP: &str = "#demo";
/// The authority that signed the demo's certificate.
const AUTHORITY: &str = "tls/ca.pem";

/// What `--json` prints, on one line.
#[derive(Serialize)]
struct Announcement {
    dir: PathBuf,
    domain: &'static str,
    users: Vec<DemoUser>,
    smtp: At,
    submission: At,
    submissions: At,
    imap: At,
    imaps: At,
    irc: At,
    ircs: At,
    admin: At,
    http: At,
    https: At,
    tls_ca: PathBuf,
}

#[derive(Serialize)]
struct DemoUser {
    name: String,
    address: String,
    password: Hidden,
}

#[derive(Clone, Copy, Serialize)]
struct At {
    host: std::net::IpAddr,
    port: u16,
}

impl From<SocketAddr> for At {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip(), port: address.port() }
    }
}

/// The demo's directory; it goes with all in it, however the demo ends.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("mesyx: {} could not be removed: {error}", self.0.display());
        }
    }
}

/// Serves the demo until it is told to stop.
pub(crate) fn demo(demo: &Demo) -> Result<(), Failure> {
    if let Err(error) = logging::filter(&demo.log) {
        return Err(Failure::with(crate::exit::USAGE, error));
    }
    let place = place(demo.dir.as_deref())?;
    write(&place.0, demo)?;
    let checked = check::read(&place.0.join(init::FILE), &registry())?;
    let log = logging::start(&checked.log);
    let bound = run::bind(checked)?;
    let metrics = admin::record()?;
    run::runtime()?.block_on(async {
        let stop = run::stop_signal()?;
        let running = run::start(bound, log, metrics).await?;
        let result = serve(demo, &place.0, &running, stop).await;
        running.stop().await;
        result
    })
}

async fn serve(demo: &Demo, dir: &Path, running: &Running, stop: impl Future<Output = ()>) -> Result<(), Failure> {
    let announcement = announcement(dir, running).await?;
    if demo.json {
        eprintln!("mesyx demo: the plain ports take passwords without TLS; never do that on a network");
        let line = Zeroizing::new(serde_json::to_string(&announcement).map_err(trying("the announcement"))?);
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", *line).and_then(|()| out.flush()).map_err(trying("standard output"))?;
    } else {
        print(&announcement);
    }
    let closed = async { if demo.json { input_closed().await } else { std::future::pending().await } };
    tokio::select! {
        () = stop => {}
        () = closed => {}
    }
    Ok(())
}

/// Makes the directory.
fn place(given: Option<&Path>) -> Result<Place, Failure> {
    let Some(given) = given else {
        let made = tempfile::Builder::new().prefix("mesyx-demo-").tempdir().map_err(trying("a temporary directory"))?;
        return Ok(Place(made.keep()));
    };
    let path = std::path::absolute(given).map_err(trying(given.display()))?;
    fs::DirBuilder::new().mode(0o700).create(&path).map_err(|error| {
        Failure::new(format!("{}: {error}; name a directory that does not exist yet", path.display()))
    })?;
    Ok(Place(path))
}

/// Writes the instance.
fn write(dir: &Path, demo: &Demo) -> Result<(), Failure> {
    let mut names = ["localhost", "127.0.0.1", "::1", HOSTNAME, DOMAIN].map(str::to_owned).to_vec();
    names.extend(crate::http::LABELS.map(|label| format!("{label}.{DOMAIN}")));
    let (authority, made) = tls::with_authority(&names).map_err(trying("the TLS certificate"))?;
    init::write(dir, &configuration(demo), &made)?;
    init::new_file(&dir.join(AUTHORITY), 0o644, authority.as_bytes())
}

/// What the bridge smtp is told of mail for other hosts: where to hand it, or no grant to bring it anywhere.
fn sending(demo: &Demo, smtp: &mut Value) {
    if let Some(host) = &demo.smarthost {
        smtp["delivery"] = json!({ "routes": [{ "domains": ["*"], "hosts": [host], "tls": "none" }] });
        return;
    }
    let asked = registry().manifest("smtp").map(|manifest| manifest.grants.clone()).unwrap_or_default();
    let granted = asked.into_iter().filter(|grant| *grant != Grant::Deliver).chain([Grant::Listen(0)]);
    smtp["grants"] = granted.map(|grant| grant.to_string()).collect();
}

/// Loopback ports chosen by the kernel, passwords without TLS, and room for load tests from one address.
fn configuration(demo: &Demo) -> Value {
    let listener = |name: &str, tls: &str| {
        let plain = tls == "starttls" && name != "smtp";
        json!({ "name": name, "address": "127.0.0.1:0", "tls": tls, "plain_auth_without_tls": plain })
    };
    let mut smtp = json!({ "listeners": [listener("smtp", "starttls")], "limits": { "connections_per_ip": 10_000 } });
    sending(demo, &mut smtp);
    json!({
        "hostname": HOSTNAME,
        "domains": [DOMAIN],
        "tls": [{ "chain": "tls/chain.pem", "key": "tls/key.pem" }],
        "admin": { "listen": "127.0.0.1:0" },
        "http": {
            "listeners": [
                { "name": "http", "address": "127.0.0.1:0", "tls": false },
                { "name": "https", "address": "127.0.0.1:0" },
            ],
        },
        "log": { "level": demo.log },
        // What is in it is thrown away.
        "memory": { "lock": "off" },
        "login": { "sessions_per_user": 10_000 },
        // A demo asks nobody on the Internet.
        "pgp": { "wkd": false },
        "bridge": {
            "smtp": smtp,
            "submission": {
                "listeners": [listener("submission", "starttls"), listener("submissions", "implicit")],
                "limits": { "connections_per_ip": 10_000 },
            },
            "imap": {
                "listeners": [listener("imap", "starttls"), listener("imaps", "implicit")],
                "limits": { "connections_per_ip": 10_000 },
            },
            "irc-client": {
                "listeners": [
                    { "name": "irc", "address": "127.0.0.1:0", "tls": "none" },
                    { "name": "ircs", "address": "127.0.0.1:0", "tls": "implicit" },
                ],
                "motd": "A throw-away instance to try things with.",
                "guests": if demo.guests { "on" } else { "off" },
                "limits": {
                    "connections_per_ip": 10_000,
                    "guest_burst": 10_000, "guest_lines_per_second": 10_000,
                    "user_burst": 100_000, "user_lines_per_second": 100_000,
                },
            },
        },
    })
}

/// Adds the users and gathers where everything is.
async fn announcement(dir: &Path, running: &Running) -> Result<Announcement, Failure> {
    let bridges = running.instance.supervisor().status();
    if let Some(down) = bridges.iter().find(|bridge| bridge.state != State::Ready) {
        return Err(Failure::new(format!("the bridge {} did not come up: {:?}", down.name, down.state)));
    }
    let at = |name: &str| {
        let found = bridges.iter().flat_map(|bridge| &bridge.listening).find(|(of, _)| of == name);
        found.map(|(_, address)| At::from(*address)).ok_or_else(|| Failure::new(format!("there is no listener {name}")))
    };
    let mut users = Vec::new();
    for name in ["alice", "bob"] {
        let account =
            NewAccount { name: name.into(), addresses: Vec::new(), password: None, app_password: Some("demo".into()) };
        let added = running.instance.core().add_user(account).await?;
        let password = added.app_password.ok_or_else(|| Failure::new("no app password was made"))?;
        users.push(DemoUser {
            name: added.account.name,
            address: added.account.addresses.first().cloned().unwrap_or_default(),
            password: Hidden(password),
        });
    }
    for user in &users {
        running.instance.core().join_group(&user.name, GROUP).await?;
    }
    let admin = running.instance.listening().admin.ok_or_else(|| Failure::new("there is no admin listener"))?;
    let web = |tls: bool| {
        let found = running.instance.listening().http.iter().find(|(_, with)| *with == tls);
        found.map(|(address, _)| At::from(*address)).ok_or_else(|| Failure::new("the pages for others are not served"))
    };
    Ok(Announcement {
        dir: dir.to_owned(),
        domain: DOMAIN,
        users,
        smtp: at("smtp")?,
        submission: at("submission")?,
        submissions: at("submissions")?,
        imap: at("imap")?,
        imaps: at("imaps")?,
        irc: at("irc")?,
        ircs: at("ircs")?,
        admin: admin.into(),
        http: web(false)?,
        https: web(true)?,
        tls_ca: dir.join(AUTHORITY),
    })
}

/// Says what to try.
fn print(demo: &Announcement) {
    let ca = demo.tls_ca.display();
    say!("Mesyx demo in {} (removed at the end). Stop it with Ctrl-C.", demo.dir.display());
    say!("The plain ports take passwords without TLS here; never do that on a network.\n");
    for user in &demo.users {
        say!("  user {:<6} address {:<20} password {}", user.name, user.address, user.password.text());
    }
    let port = |at: At| format!("{}:{}", at.host, at.port);
    say!("\n  SMTP        {} (STARTTLS)", port(demo.smtp));
    say!("  submission  {} (STARTTLS), {} (TLS)", port(demo.submission), port(demo.submissions));
    say!("  IMAP        {} (STARTTLS), {} (TLS)", port(demo.imap), port(demo.imaps));
    say!("  IRC         {} (no TLS), {} (TLS)", port(demo.irc), port(demo.ircs));
    say!("  admin       http://{}/metrics, /health, /ready", port(demo.admin));
    say!("  pages       https://{} (users' certificates, settings for mail programs)", port(demo.https));
    say!("  TLS authority: {ca}\n");
    let [alice, bob] = &demo.users[..] else { return };
    say!("Send alice a mail, as another host would:");
    say!("  swaks --server {} --from joe@example.net --to {}\n", port(demo.smtp), alice.address);
    say!("Send alice a mail as bob, with TLS and a password:");
    say!(
        "  swaks --server {} --tls --from {} --to {} --auth-user {} --auth-password {}\n",
        port(demo.submission),
        bob.address,
        alice.address,
        bob.name,
        bob.password.text()
    );
    say!("Read alice's newest mail:");
    say!(
        "  curl --cacert {ca} --user {}:{} 'imaps://localhost:{}/INBOX;MAILINDEX=*'\n",
        alice.name,
        alice.password.text(),
        demo.imaps.port
    );
    say!("Talk to bob in #demo as alice, and as bob from another terminal:");
    say!(
        "  irssi --connect={} --port={} --nick={} --password={}:{}\n",
        demo.irc.host,
        demo.irc.port,
        alice.name,
        alice.name,
        alice.password.text()
    );
    say!("Get alice's OpenPGP certificate, as others find it:");
    say!(
        "  curl --cacert {ca} --connect-to {DOMAIN}:443:{} https://{DOMAIN}/.well-known/openpgpkey/hu/{} | gpg --show-keys\n",
        port(demo.https),
        mesyx_core::published::wkd_hash(&alice.name)
    );
    say!("See how the server does:");
    say!("  mesyx --config {} status", demo.dir.join(init::FILE).display());
}

/// Resolves when standard input is closed. Reads on a thread of its own, which nobody waits for at the end.
async fn input_closed() {
    let (closed, wait) = oneshot::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        let mut input = std::io::stdin().lock();
        while matches!(input.read(&mut buffer), Ok(read) if read > 0) {}
        let _ = closed.send(());
    });
    let _ = wait.await;
}
