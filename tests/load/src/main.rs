//! Drives any SMTP and IMAP server by host and port, and says how fast it was.
//!
//! ```text
//! mesyx-load deliver --smtp 127.0.0.1:2525 --imap 127.0.0.1:1143 --user alice --password … \
//!     --to alice@example.org --connections 32 --messages 5000 --size 4096 --pid 1234
//! mesyx-load fetch  --imap … --user … --password …
//! mesyx-load idle   --smtp … --imap … --user … --password … --to …
//! mesyx-load login  --imap … --user … --password … --connections 8 --logins 2000
//! mesyx-load hold   --imap … --user … --password … --connections 1000 --pid 1234
//! mesyx-load send   --submission … --user … --password … --from alice@example.org --to joe@example.net --config DIR/mesyx.toml
//! mesyx-load drain  --config DIR/mesyx.toml
//! mesyx-load irc    --irc 127.0.0.1:6667 --login alice:… --login bob:… --channel '#demo' --senders 4 --readers 32 --lines 20000
//! mesyx-load irc-hold --irc … --login alice:… --connections 1000 --pid 1234
//! ```
//!
//! Bounded in count and time; speaks plain text, so the server must allow login without TLS on loopback.
//! With `--pid` (once for each process of the server) the server's CPU time and resident memory are read from `/proc`.
#![forbid(unsafe_code)]

mod imap;
mod irc;
mod outgoing;
mod process;
mod smtp;
mod stats;

use clap::{Args, Parser, Subcommand};
use process::Processes;
use stats::Samples;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Drive an SMTP and IMAP server, and say how fast it was.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Give up after so many seconds.
    #[arg(long, default_value_t = 300, global = true)]
    timeout: u64,
    /// A process of the server; its CPU time and memory are read. May be given more than once.
    #[arg(long, global = true)]
    pid: Vec<u32>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Messages accepted by SMTP, and visible by IMAP STATUS, per second.
    Deliver(Deliver),
    /// Time to fetch FLAGS and ENVELOPE, then whole bodies, of all messages in INBOX; each twice.
    Fetch(Account),
    /// Time from the last byte of a message to EXISTS at an idling client.
    Idle(Idle),
    /// Logins per second, each on a connection of its own.
    Login(Login),
    /// Many idling connections, and what they cost.
    Hold(Hold),
    /// Messages submitted, and gone from the server's queue, per second.
    Send(outgoing::Send),
    /// How fast the messages leave that wait in the server's queue.
    Drain(outgoing::Drain),
    /// Lines in one IRC channel: stored, and delivered to readers, per second.
    Irc(Irc),
    /// Many idle IRC clients, and what they cost.
    IrcHold(IrcHold),
}

/// A login at an IMAP server.
#[derive(Debug, Clone, Args)]
struct Account {
    /// IMAP server, HOST:PORT.
    #[arg(long)]
    imap: String,
    /// Login name.
    #[arg(long)]
    user: String,
    /// Password.
    #[arg(long)]
    password: String,
}

#[derive(Debug, Args)]
struct Deliver {
    #[command(flatten)]
    account: Account,
    /// SMTP server, HOST:PORT.
    #[arg(long)]
    smtp: String,
    /// Recipient.
    #[arg(long)]
    to: String,
    /// SMTP connections.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Messages in all.
    #[arg(long, default_value_t = 2000)]
    messages: usize,
    /// Size of a message in bytes.
    #[arg(long, default_value_t = 4096)]
    size: usize,
}

#[derive(Debug, Args)]
struct Idle {
    #[command(flatten)]
    account: Account,
    /// SMTP server, HOST:PORT.
    #[arg(long)]
    smtp: String,
    /// Recipient.
    #[arg(long)]
    to: String,
    /// Messages, one after the other.
    #[arg(long, default_value_t = 50)]
    messages: usize,
    /// Milliseconds between them.
    #[arg(long, default_value_t = 50)]
    pause: u64,
}

#[derive(Debug, Args)]
struct Login {
    #[command(flatten)]
    account: Account,
    /// Connections at a time.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Logins in all.
    #[arg(long, default_value_t = 1000)]
    logins: usize,
}

#[derive(Debug, Args)]
struct Hold {
    #[command(flatten)]
    account: Account,
    /// Connections.
    #[arg(long, default_value_t = 1000)]
    connections: usize,
    /// Log in, select INBOX and idle; otherwise only connect.
    #[arg(long)]
    login: bool,
    /// Seconds to hold them.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

#[derive(Debug, Args)]
struct Irc {
    /// IRC server, HOST:PORT.
    #[arg(long)]
    irc: String,
    /// Logins, NAME:PASSWORD, used in turn; without any, guests.
    #[arg(long)]
    login: Vec<String>,
    /// Channel.
    #[arg(long, default_value = "#demo")]
    channel: String,
    /// Clients that write.
    #[arg(long, default_value_t = 4)]
    senders: usize,
    /// Clients that read.
    #[arg(long, default_value_t = 32)]
    readers: usize,
    /// Lines in all.
    #[arg(long, default_value_t = 20_000)]
    lines: usize,
    /// Lines a second in all; as fast as they are taken unless given.
    #[arg(long)]
    rate: Option<f64>,
}

#[derive(Debug, Args)]
struct IrcHold {
    /// IRC server, HOST:PORT.
    #[arg(long)]
    irc: String,
    /// Logins, NAME:PASSWORD, used in turn; without any, guests.
    #[arg(long)]
    login: Vec<String>,
    /// Connections.
    #[arg(long, default_value_t = 1000)]
    connections: usize,
    /// Seconds to hold them.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let processes = Processes(arguments.pid);
    let work = async {
        match arguments.command {
            Command::Deliver(deliver) => run_deliver(deliver, &processes).await,
            Command::Fetch(account) => run_fetch(account, &processes).await,
            Command::Idle(idle) => run_idle(idle, &processes).await,
            Command::Login(login) => run_login(login, &processes).await,
            Command::Hold(hold) => run_hold(hold, &processes).await,
            Command::Send(send) => outgoing::send(send, &processes).await,
            Command::Drain(drain) => outgoing::drain(drain, &processes).await,
            Command::Irc(options) => irc::lines(&options, &processes).await,
            Command::IrcHold(options) => irc::hold(&options, &processes).await,
        }
    };
    tokio::time::timeout(Duration::from_secs(arguments.timeout), work).await?
}

async fn run_deliver(deliver: Deliver, processes: &Processes) -> Result<()> {
    let Deliver { account, smtp, to, connections, messages, size } = deliver;
    let mut imap = imap::Client::login(&account).await?;
    let before = imap.messages("INBOX").await?;
    let cpu = processes.cpu()?;
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let mut senders = Vec::new();
    for _ in 0..connections {
        let (smtp, to, next) = (smtp.clone(), to.clone(), Arc::clone(&next));
        senders.push(tokio::spawn(async move {
            let mut client = smtp::Client::connect(&smtp).await?;
            let mut latencies = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= messages {
                    client.quit().await?;
                    return Ok::<_, Box<dyn Error + Send + Sync>>(latencies);
                }
                let message = smtp::message(&to, number, size);
                let sent = Instant::now();
                client.send("load@example.net", &to, &message).await?;
                latencies.push(sent.elapsed());
            }
        }));
    }
    let mut latencies = Samples::default();
    for sender in senders {
        latencies.extend(sender.await??);
    }
    let accepted = begun.elapsed();
    while imap.messages("INBOX").await? < before + messages {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let delivered = begun.elapsed();
    println!("connections {connections}, size {size}, messages {messages}");
    println!("accepted   {:>9.0} /s in {:.2} s", rate(messages, accepted), accepted.as_secs_f64());
    println!("delivered  {:>9.0} /s in {:.2} s", rate(messages, delivered), delivered.as_secs_f64());
    println!("latency    {latencies}");
    if let Some(cpu) = processes.cpu_since(cpu)? {
        println!("server CPU {:>9.3} ms a message", cpu.as_secs_f64() * 1000.0 / messages as f64);
    }
    processes.print_memory()
}

async fn run_fetch(account: Account, processes: &Processes) -> Result<()> {
    let mut imap = imap::Client::login(&account).await?;
    let messages = imap.select("INBOX").await?;
    for (what, items) in [("FLAGS ENVELOPE", "(FLAGS ENVELOPE)"), ("BODY.PEEK[]", "BODY.PEEK[]")] {
        for time in ["first", "second"] {
            let cpu = processes.cpu()?;
            let begun = Instant::now();
            let (answers, bytes) = imap.fetch(&format!("1:* {items}")).await?;
            let took = begun.elapsed();
            print!("{what:<14} {time:<6} {answers} of {messages} in {:.3} s, {bytes} bytes", took.as_secs_f64());
            match processes.cpu_since(cpu)? {
                Some(cpu) => println!(", server CPU {:.3} s", cpu.as_secs_f64()),
                None => println!(),
            }
        }
    }
    processes.print_memory()
}

async fn run_idle(idle: Idle, processes: &Processes) -> Result<()> {
    let mut watching = imap::Client::login(&idle.account).await?;
    watching.select("INBOX").await?;
    watching.idle().await?;
    let mut sender = smtp::Client::connect(&idle.smtp).await?;
    let (mut after_data, mut after_answer) = (Samples::default(), Samples::default());
    for number in 0..idle.messages {
        let message = smtp::message(&idle.to, number, 4096);
        let sent = Instant::now();
        let (answered, noticed) = tokio::join!(
            async { sender.send("load@example.net", &idle.to, &message).await.map(|()| Instant::now()) },
            async { watching.wait_exists().await.map(|()| Instant::now()) },
        );
        let (answered, noticed) = (answered?, noticed?);
        after_data.push(noticed - sent);
        after_answer.push(noticed.saturating_duration_since(answered));
        tokio::time::sleep(Duration::from_millis(idle.pause)).await;
    }
    println!("from MAIL FROM to EXISTS  {after_data}");
    println!("from 250 to EXISTS        {after_answer}");
    processes.print_memory()
}

async fn run_login(login: Login, processes: &Processes) -> Result<()> {
    let cpu = processes.cpu()?;
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let mut clients = Vec::new();
    for _ in 0..login.connections {
        let (account, next, logins) = (login.account.clone(), Arc::clone(&next), login.logins);
        clients.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            while next.fetch_add(1, Ordering::Relaxed) < logins {
                let begun = Instant::now();
                imap::Client::login(&account).await?.logout().await?;
                latencies.push(begun.elapsed());
            }
            Ok::<_, Box<dyn Error + Send + Sync>>(latencies)
        }));
    }
    let mut latencies = Samples::default();
    for client in clients {
        latencies.extend(client.await??);
    }
    let took = begun.elapsed();
    println!("logins     {:>9.0} /s in {:.2} s", rate(login.logins, took), took.as_secs_f64());
    println!("latency    {latencies}");
    if let Some(cpu) = processes.cpu_since(cpu)? {
        println!("server CPU {:>9.3} ms a login", cpu.as_secs_f64() * 1000.0 / login.logins as f64);
    }
    processes.print_memory()
}

async fn run_hold(hold: Hold, processes: &Processes) -> Result<()> {
    println!("before");
    processes.print_memory()?;
    let mut held = Vec::new();
    for _ in 0..hold.connections {
        if hold.login {
            let mut client = imap::Client::login(&hold.account).await?;
            client.select("INBOX").await?;
            client.idle().await?;
            held.push(client);
        } else {
            held.push(imap::Client::connect(&hold.account.imap).await?);
        }
    }
    tokio::time::sleep(Duration::from_secs(hold.seconds)).await;
    println!("with {} connections{}", held.len(), if hold.login { ", logged in and idling" } else { "" });
    processes.print_memory()
}

fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(1e-9)
}
