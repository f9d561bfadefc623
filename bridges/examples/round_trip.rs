//! How long a call takes from a bridge's process to the host and back: `cargo run --release -p mesyx-bridges --example round_trip`.
//!
//! The program starts itself as the bridge's process. The call asks for an address that the host in memory knows at once, so what is measured
//! is the way there and back. It says the median and the 99th percentile of 20,000 calls, one after the other.

use mesyx_sdk::wire::host::{Admission, Limits, RemoteBridge};
use mesyx_sdk::{
    Address, Bridge, Config, ConfigErrors, Delivery, Fatal, Grant, Health, Host, Manifest, MemoryHost, Outcome, Sender,
    async_trait,
};
use std::error::Error;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Instant;
use tokio::net::UnixListener;

/// Calls before those that are measured.
const WARM: usize = 2000;
/// Calls that are measured.
const CALLS: usize = 20_000;

/// A bridge that does nothing but measure.
struct Caller;

#[async_trait]
impl Bridge for Caller {
    fn manifest() -> Manifest {
        Manifest {
            name: "caller".into(),
            version: "1.0.0".into(),
            summary: "Measures how long a call takes".into(),
            grants: vec![Grant::Directory],
            delivers: vec![],
            config_schema: serde_json::Value::Bool(true),
        }
    }

    fn build(_config: Config) -> Result<Self, ConfigErrors> {
        Ok(Self)
    }

    async fn run(&self, host: Arc<dyn Host>) -> Result<(), Fatal> {
        let fatal = |error: &dyn std::fmt::Display| Fatal::new(error.to_string());
        let address: Address = "ann@example.org".parse().map_err(|error| fatal(&error))?;
        host.health(Health::Ready);
        let mut times = Vec::with_capacity(CALLS);
        for call in 0..WARM + CALLS {
            let began = Instant::now();
            host.recipient(&address, &Sender::Stranger).await.map_err(|error| fatal(&error))?;
            if call >= WARM {
                times.push(began.elapsed());
            }
        }
        times.sort();
        let at = |part: usize| times.get(times.len() * part / 100).map_or(0, std::time::Duration::as_micros);
        println!("a call by a process: median {} µs, 99 % within {} µs", at(50), at(99));
        Ok(())
    }

    async fn deliver(&self, _host: Arc<dyn Host>, job: Delivery) -> Vec<Outcome> {
        vec![Outcome::Failed { why: "it only measures".into() }; job.recipients.len()]
    }
}

fn main() -> ExitCode {
    if std::env::var_os("MESYX_BRIDGE").is_some() {
        return mesyx_sdk::main::<Caller>();
    }
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn measure() -> Result<(), Box<dyn Error>> {
    let path = std::env::temp_dir().join(format!("round-trip-{}", std::process::id()));
    let listener = UnixListener::bind(&path)?;
    let mut child =
        Command::new(std::env::current_exe()?).env("MESYX_BRIDGE", format!("unix:{}", path.display())).spawn()?;
    let (stream, _) = listener.accept().await?;
    std::fs::remove_file(&path)?;
    let bridge = RemoteBridge::connect_unix(stream, Admission::default(), Limits::default()).await?;
    bridge.build(&Config::new(serde_json::json!({}))).await.map_err(|_| "the bridge refused its configuration")?;
    let host = MemoryHost::new("example.org".parse()?);
    host.add_user("ann", "secret")?;
    bridge.run(Arc::new(host), &[Grant::Directory]).await?;
    child.wait()?;
    Ok(())
}
