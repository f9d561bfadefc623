//! The same bridge in Python, by the protocol: against Prosody, with people who speak through slixmpp.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../../prosody/mod.rs"]
mod prosody;
#[path = "../../prosody/python.rs"]
mod python;

use mesyx_sdk::wire::host::{Admission, Limits, RemoteBridge};
use mesyx_sdk::*;
use prosody::{Prosody, Xmpp};
use python::python;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::time::timeout;

fn command() -> Command {
    let python = python();
    let mut command = Command::new(&python.interpreter);
    command.arg(&python.script).env("PYTHONPATH", &python.stubs);
    command
}

fn manifest() -> Manifest {
    let said = command().arg("--manifest").output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    Manifest::from_json(&String::from_utf8(said.stdout).unwrap()).unwrap()
}

/// Stands for the program, as the host's own stand-in does, without what confines it.
struct Program {
    config: Config,
    life: Mutex<Option<RemoteBridge>>,
}

#[async_trait]
impl Bridge for Program {
    fn manifest() -> Manifest {
        manifest()
    }

    fn build(config: Config) -> Result<Self, ConfigErrors> {
        static SCHEMA: OnceLock<serde_json::Value> = OnceLock::new();
        let errors = config::validate::check(SCHEMA.get_or_init(|| manifest().config_schema), config.value());
        ConfigErrors(errors).or(Self { config, life: Mutex::default() })
    }

    async fn run(&self, host: Arc<dyn Host>) -> Result<(), Fatal> {
        let fatal = |error: &dyn std::fmt::Display| Fatal::new(error.to_string());
        let dir = tempfile::tempdir().map_err(|error| fatal(&error))?;
        let listener = UnixListener::bind(dir.path().join("socket")).map_err(|error| fatal(&error))?;
        let mut child = command()
            .env("MESYX_BRIDGE", format!("unix:{}", dir.path().join("socket").display()))
            .env("MESYX_BRIDGE_TOKEN", "once")
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| fatal(&error))?;
        let accepted = timeout(Duration::from_secs(20), listener.accept()).await.map_err(|error| fatal(&error))?;
        let admission = Admission { token: Some(Secret::from("once".to_owned())), name: Some("xmpp".into()) };
        let (stream, _) = accepted.map_err(|error| fatal(&error))?;
        let life = RemoteBridge::connect_unix(stream, admission, Limits::default()).await?;
        let built = life.build(&self.config).await.map_err(|error| Fatal::new(format!("{error:?}")))?;
        assert_eq!(built.secrets, ["xmpp"]);
        *self.life.lock().unwrap() = Some(life.clone());
        let ended = life.run(host, &manifest_grants()).await;
        // It ends by itself when its life is over.
        let waited = tokio::task::spawn_blocking(move || {
            for _ in 0..500 {
                if child.try_wait().unwrap().is_some() {
                    return true;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            child.kill().unwrap();
            child.wait().unwrap();
            false
        });
        assert!(waited.await.unwrap(), "the program did not end with its life");
        ended
    }

    async fn deliver(&self, _: Arc<dyn Host>, job: Delivery) -> Vec<Outcome> {
        let life = self.life.lock().unwrap().clone();
        match life {
            Some(life) => life.deliver(job).await,
            None => vec![Outcome::Failed { why: "it does not run".into() }; job.recipients.len()],
        }
    }
}

fn manifest_grants() -> Vec<Grant> {
    vec![Grant::Accept, Grant::Deliver, Grant::Directory, Grant::Secret("xmpp".into())]
}

#[test]
fn the_contract() {
    testkit::check::<Program>(&Xmpp::new()).assert();
}

#[test]
fn presence_and_errors() {
    let server = Prosody::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let host = MemoryHost::new("example.org".parse().unwrap());
    host.add_user("ann", "secret").unwrap();
    host.set_secret("xmpp", Secret::from("shared".to_owned()));
    let bridge = Program::build(Config::new(server.config())).unwrap();
    let shared: Arc<dyn Host> = Arc::new(host.clone());
    let running = runtime.spawn(async move { bridge.run(shared).await });
    while !host.health_reports().contains(&Health::Ready) {
        assert!(!running.is_finished(), "it ended");
        std::thread::sleep(Duration::from_millis(10));
    }
    prosody::presence(&server);
    let accepted = host.accepted();
    let (headers, line) = Line::from_content(&accepted[0].content, host.domain()).unwrap();
    assert_eq!((line.text.as_str(), headers.nick.as_str()), ("hello <&> \u{e9}", "romeo"));
    assert_eq!(headers.from, "xmpp:romeo@localhost".parse().unwrap());
    assert_eq!(accepted.len(), 1);
    host.stop();
    runtime.block_on(running).unwrap().unwrap();
}

#[test]
fn it_stays_an_example() {
    let code = std::fs::read_to_string(&python().script).unwrap();
    let lines = code.lines().count();
    assert!(lines < 200, "{lines} lines");
}
