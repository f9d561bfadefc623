//! Mail that goes out: many users' programs submit, and the server's own word on its queue tells when all has left.

use crate::Result;
use crate::process::Processes;
use crate::smtp;
use crate::stats::Samples;
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::process::Command;

/// The commands of the server that is measured.
#[derive(Debug, Clone, Args)]
pub struct Server {
    /// The program.
    #[arg(long, default_value = "target/release/mesyx")]
    mesyx: PathBuf,
    /// Its configuration.
    #[arg(long)]
    config: PathBuf,
}

impl Server {
    async fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(&self.mesyx).arg("--config").arg(&self.config).args(arguments).output().await?;
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout)?);
        }
        Err(format!("mesyx {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
    }

    /// How many jobs wait or are being sent.
    async fn jobs(&self) -> Result<u64> {
        let status = self.run(&["queue", "status", "--json"]).await?;
        let number = status.split("\"jobs\":").nth(1).map(|rest| rest.trim_start());
        let digits: String = number.unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
        Ok(digits.parse().map_err(|_| format!("no number of jobs in {status}"))?)
    }

    async fn until_empty(&self) -> Result<()> {
        while self.jobs().await? > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

/// Submits messages, and waits until all have left.
#[derive(Debug, Args)]
pub struct Send {
    #[command(flatten)]
    server: Server,
    /// Submission server, HOST:PORT.
    #[arg(long)]
    submission: String,
    /// Login name.
    #[arg(long)]
    user: String,
    /// Password.
    #[arg(long)]
    password: String,
    /// The user's address.
    #[arg(long)]
    from: String,
    /// Recipient.
    #[arg(long)]
    to: String,
    /// Submitting connections.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Messages in all.
    #[arg(long, default_value_t = 10_000)]
    messages: usize,
    /// Size of a message in bytes.
    #[arg(long, default_value_t = 4096)]
    size: usize,
    /// Only submit: the next hop is not there, and the messages are to wait.
    #[arg(long)]
    queue_only: bool,
}

/// Has everything that waits tried now, and waits until all has left.
#[derive(Debug, Args)]
pub struct Drain {
    #[command(flatten)]
    server: Server,
}

pub async fn send(send: Send, processes: &Processes) -> Result<()> {
    let cpu = processes.cpu()?;
    let send = Arc::new(send);
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let mut senders = Vec::new();
    for _ in 0..send.connections {
        let (send, next) = (Arc::clone(&send), Arc::clone(&next));
        senders.push(tokio::spawn(async move { submit(&send, &next).await }));
    }
    let mut latencies = Samples::default();
    for sender in senders {
        latencies.extend(sender.await??);
    }
    let submitted = begun.elapsed();
    let (messages, size, connections) = (send.messages, send.size, send.connections);
    println!("connections {connections}, size {size}, messages {messages}");
    println!("submitted  {:>9.0} /s in {:.2} s", crate::rate(messages, submitted), submitted.as_secs_f64());
    println!("latency    {latencies}");
    if send.queue_only {
        println!("waiting    {:>9} jobs", send.server.jobs().await?);
    } else {
        send.server.until_empty().await?;
        let sent = begun.elapsed();
        println!("sent       {:>9.0} /s in {:.2} s", crate::rate(messages, sent), sent.as_secs_f64());
    }
    if let Some(cpu) = processes.cpu_since(cpu)? {
        println!("server CPU {:>9.3} ms a message", cpu.as_secs_f64() * 1000.0 / messages as f64);
    }
    processes.print_memory()
}

async fn submit(send: &Send, next: &AtomicUsize) -> Result<Vec<Duration>> {
    let mut client = smtp::Client::connect(&send.submission).await?;
    client.login(&send.user, &send.password).await?;
    let mut latencies = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= send.messages {
            client.quit().await?;
            return Ok(latencies);
        }
        let message = smtp::message_from(&send.from, &send.to, number, send.size);
        let sent = Instant::now();
        client.send(&send.from, &send.to, &message).await?;
        latencies.push(sent.elapsed());
    }
}

pub async fn drain(drain: Drain, processes: &Processes) -> Result<()> {
    let cpu = processes.cpu()?;
    let jobs = drain.server.jobs().await?;
    let begun = Instant::now();
    drain.server.run(&["queue", "retry", "--all"]).await?;
    drain.server.until_empty().await?;
    let took = begun.elapsed();
    let count = usize::try_from(jobs)?;
    println!("sent       {:>9.0} /s: {jobs} in {:.2} s", crate::rate(count, took), took.as_secs_f64());
    if let Some(cpu) = processes.cpu_since(cpu)? {
        println!("server CPU {:>9.3} ms a message", cpu.as_secs_f64() * 1000.0 / jobs.max(1) as f64);
    }
    processes.print_memory()
}
