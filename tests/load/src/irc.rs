//! Lines in one channel, and idle clients.

use crate::process::Processes;
use crate::stats::Samples;
use crate::{Irc, IrcHold, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

struct Client {
    reading: BufReader<OwnedReadHalf>,
    writing: OwnedWriteHalf,
}

impl Client {
    /// Logs in as `NAME:PASSWORD`, or comes as a guest where there is no login.
    async fn connect(server: &str, number: usize, login: Option<&str>, channel: Option<&str>) -> Result<Self> {
        let (reading, writing) = TcpStream::connect(server).await?.into_split();
        let mut client = Self { reading: BufReader::with_capacity(65_536, reading), writing };
        let pass = login.map_or_else(String::new, |login| {
            let (name, password) = login.split_once(':').unwrap_or((login, ""));
            format!("PASS {name}@load{number}:{password}\r\n")
        });
        let lines = format!(
            "CAP REQ :echo-message draft/chathistory\r\n{pass}NICK load{number}\r\nUSER load 0 * :load\r\nCAP END\r\n"
        );
        client.writing.write_all(lines.as_bytes()).await?;
        client.until(&[" 422 ", " 376 "]).await?;
        if let Some(channel) = channel {
            client.writing.write_all(format!("JOIN {channel}\r\nPING :joined\r\n").as_bytes()).await?;
            client.until(&["joined"]).await?;
        }
        Ok(client)
    }

    async fn until(&mut self, any: &[&str]) -> Result<String> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.reading.read_line(&mut line).await? == 0 || line.starts_with("ERROR") {
                return Err(format!("the server closed the connection: {line}").into());
            }
            if any.iter().any(|text| line.contains(text)) {
                return Ok(line);
            }
        }
    }
}

/// Every line has the time at which it was sent, in microseconds since `began`, as its first word.
pub(crate) async fn lines(options: &Irc, processes: &Processes) -> Result<()> {
    let login = |number: usize| options.login.get(number % options.login.len().max(1)).cloned();
    let channel = Some(options.channel.as_str());
    let mut readers = Vec::new();
    for number in 0..options.readers {
        readers.push(Client::connect(&options.irc, number, login(number).as_deref(), channel).await?);
    }
    let mut senders = Vec::new();
    for number in 0..options.senders {
        let number = options.readers + number;
        senders.push(Client::connect(&options.irc, number, login(number).as_deref(), channel).await?);
    }
    let each = options.lines / options.senders.max(1);
    let all = each * options.senders;
    let cpu = processes.cpu()?;
    let began = Instant::now();
    let delivered = Arc::new(AtomicUsize::new(0));
    let mut reading = tokio::task::JoinSet::new();
    for mut reader in readers {
        let delivered = Arc::clone(&delivered);
        reading.spawn(async move {
            let mut samples = Vec::new();
            for _ in 0..all {
                let line = reader.until(&[" PRIVMSG #"]).await?;
                let now = began.elapsed();
                let sent = line.rsplit_once(" :t").and_then(|(_, text)| text.split(' ').next()?.parse::<u64>().ok());
                if let Some(sent) = sent {
                    samples.push(now.saturating_sub(Duration::from_micros(sent)));
                }
                delivered.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(samples)
        });
    }
    let mut sending = tokio::task::JoinSet::new();
    for sender in senders {
        let (channel, pause) =
            (options.channel.clone(), options.rate.map(|rate| Duration::from_secs_f64(options.senders as f64 / rate)));
        sending.spawn(async move {
            let Client { mut reading, mut writing } = sender;
            // Own lines come back once they are stored.
            let echoes = tokio::spawn(async move {
                let mut line = String::new();
                let mut seen = 0;
                while seen < all {
                    line.clear();
                    if reading.read_line(&mut line).await? == 0 {
                        return Err("the server closed the connection".into());
                    }
                    seen += usize::from(line.contains(" PRIVMSG #"));
                }
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(began.elapsed())
            });
            for number in 0..each {
                if let Some(pause) = pause {
                    tokio::time::sleep_until((began + pause * u32::try_from(number)?).into()).await;
                }
                let line = format!(
                    "PRIVMSG {channel} :t{} line {number} of the load, as long as people write\r\n",
                    began.elapsed().as_micros()
                );
                writing.write_all(line.as_bytes()).await?;
            }
            let stored = echoes.await??;
            drop(writing);
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(stored)
        });
    }
    let mut stored = Duration::ZERO;
    while let Some(done) = sending.join_next().await {
        stored = stored.max(done??);
    }
    let mut samples = Samples::default();
    while let Some(done) = reading.join_next().await {
        samples.extend(done??);
    }
    let took = began.elapsed().as_secs_f64();
    let count = delivered.load(Ordering::Relaxed);
    println!(
        "{all} lines from {} senders stored and echoed in {:.2} s: {:.0} a second",
        options.senders,
        stored.as_secs_f64(),
        all as f64 / stored.as_secs_f64()
    );
    println!("{count} deliveries to {} readers in {took:.2} s: {:.0} a second", options.readers, count as f64 / took);
    println!("from sending to reading: {samples}");
    if let Some(cpu) = processes.cpu_since(cpu)? {
        println!("server CPU {:.3} ms a line", cpu.as_secs_f64() * 1000.0 / all as f64);
    }
    processes.print_memory()
}

/// Idle clients, and what they cost.
pub(crate) async fn hold(options: &IrcHold, processes: &Processes) -> Result<()> {
    let mut clients = Vec::new();
    for number in 0..options.connections {
        let login = options.login.get(number % options.login.len().max(1));
        clients.push(Client::connect(&options.irc, number, login.map(String::as_str), None).await?);
    }
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    println!("{} connections held for {} s", clients.len(), options.seconds);
    processes.print_memory()
}
