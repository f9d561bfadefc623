//! One child process: started, watched, logged, ended.

use crate::run::Process;
use mesyx_sdk::wire::host::{Allowance, escaped, log_line};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, SysconfVar, sysconf};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child as StdChild, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Longest line of a child's output that is logged whole.
const MAX_LINE: u64 = 4096;
/// So much of the last line is told with the reason of its end, in characters.
const MAX_LAST: usize = 300;
/// How often a child's use of memory and processor is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Processor time that a child may save up, in seconds of its share.
const SAVED: f64 = 2.0;

/// A running child process, killed with all that it started when this is dropped.
#[derive(Debug)]
pub(crate) struct Child {
    shared: Arc<Shared>,
    ended: watch::Receiver<Option<ExitStatus>>,
}

#[derive(Debug)]
struct Shared {
    /// The child's id, which is its process group's too; `None` once it was waited for, since the number may be another's then.
    pid: Mutex<Option<Pid>>,
    /// Why we killed it.
    why: Mutex<Option<String>>,
    /// The last line that it wrote to its standard error, for whoever asks why it ended.
    last: Mutex<String>,
}

/// The process groups of all children that run.
static GROUPS: Mutex<Vec<i32>> = Mutex::new(Vec::new());

/// Whether a process is a bridge's, or was started by one. One that is gone is taken for such.
#[must_use]
pub fn is_of_bridge(pid: i32) -> bool {
    let groups = GROUPS.lock().unwrap_or_else(PoisonError::into_inner);
    !groups.is_empty()
        && nix::unistd::getpgid(Some(Pid::from_raw(pid))).map_or(true, |group| groups.contains(&group.as_raw()))
}

impl Child {
    /// Starts a command in a process group of its own. The command's output must be pipes.
    ///
    /// The child asks to be killed with the thread that started it (prctl(2), `PR_SET_PDEATHSIG`), so that thread stays until it ends.
    pub(crate) fn start(name: &str, mut command: Command, limits: &Process) -> io::Result<Self> {
        let (told, started) = std::sync::mpsc::sync_channel(1);
        let (ends, ended) = watch::channel(None);
        let shared = Arc::new(Shared { pid: Mutex::new(None), why: Mutex::default(), last: Mutex::default() });
        let (keeps, limits, bridge) = (Arc::clone(&shared), limits.clone(), name.to_owned());
        let keeper = move || {
            use std::os::unix::process::CommandExt;
            let child = match command.process_group(0).spawn() {
                Ok(child) => child,
                Err(error) => {
                    let _ = told.send(Err(error));
                    return;
                }
            };
            let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
            *lock(&keeps.pid) = Some(pid);
            lock(&GROUPS).push(pid.as_raw());
            let _ = told.send(Ok(()));
            let status = keep(&bridge, child, pid, &limits, &keeps);
            lock(&GROUPS).retain(|group| *group != pid.as_raw());
            ends.send_replace(status);
        };
        std::thread::Builder::new().name(format!("bridge {name}")).spawn(keeper)?;
        started.recv().map_err(io::Error::other)??;
        Ok(Self { shared, ended })
    }

    /// The child's process id; `None` once it ended.
    pub(crate) fn pid(&self) -> Option<i32> {
        lock(&self.shared.pid).map(Pid::as_raw)
    }

    /// Resolves when it has ended, with the way in which it did.
    pub(crate) async fn ended(&self) -> String {
        let mut ended = self.ended.clone();
        let how = match ended.wait_for(Option::is_some).await {
            Ok(status) => status.map_or_else(String::new, describe),
            Err(_) => "it could not be waited for".to_owned(),
        };
        if let Some(why) = lock(&self.shared.why).clone() {
            return why;
        }
        let last = lock(&self.shared.last).clone();
        if last.is_empty() { how } else { format!("{how}; it said last: {last}") }
    }

    /// Ends it and all that it started, at once.
    pub(crate) fn kill(&self) {
        self.shared.kill(None);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Shared {
    fn kill(&self, why: Option<String>) {
        // Held while the signal is sent, so that the child is not waited for meanwhile and its number given to another.
        let pid = lock(&self.pid);
        if let Some(pid) = *pid {
            if why.is_some() {
                *lock(&self.why) = why;
            }
            let _ = killpg(pid, Signal::SIGKILL);
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = *lock(&self.pid) {
            let _ = killpg(pid, signal);
        }
    }
}

/// Logs what the child says and watches what it takes, until it ends; its status.
fn keep(name: &str, mut child: StdChild, pid: Pid, limits: &Process, shared: &Arc<Shared>) -> Option<ExitStatus> {
    let mut logs = Vec::new();
    let streams = [(child.stdout.take().map(boxed), None), (child.stderr.take().map(boxed), Some(Arc::clone(shared)))];
    for (stream, last) in streams {
        let (bridge, Some(stream)) = (name.to_owned(), stream) else { continue };
        let log = move || log(&bridge, stream, last.as_deref().map(|shared| &shared.last));
        match std::thread::Builder::new().name(format!("log of {name}")).spawn(log) {
            Ok(log) => logs.push(log),
            Err(error) => tracing::warn!(bridge = name, %error, "what the bridge says can't be logged"),
        }
    }
    let mut watch = Watch::new(limits);
    loop {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
        match waitid(Id::Pid(pid), flags) {
            Ok(nix::sys::wait::WaitStatus::StillAlive) | Err(nix::Error::EINTR) => {}
            _ => break,
        }
        watch.look(name, pid, limits, shared);
        std::thread::sleep(LOOK);
    }
    // What it started is ended too, while the group's number is still its own.
    let mut known = lock(&shared.pid);
    let _ = killpg(pid, Signal::SIGKILL);
    let status = child.wait();
    *known = None;
    drop(known);
    // What it said before it ended is in the pipes; nobody holds their other ends any more, but for what has left its group.
    let end = Instant::now() + LOOK;
    while logs.iter().any(|log| !log.is_finished()) && Instant::now() < end {
        std::thread::sleep(LOOK / 20);
    }
    status.ok()
}

fn boxed(stream: impl Read + Send + 'static) -> Box<dyn Read + Send> {
    Box::new(stream)
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("the process ended with code {code}"),
        (None, Some(number)) => {
            let name = Signal::try_from(number).map_or_else(|_| number.to_string(), |signal| signal.to_string());
            format!("the process was ended by {name}")
        }
        (None, None) => "the process ended".to_owned(),
    }
}

/// What a child takes of memory and processor.
struct Watch {
    looked: Instant,
    /// Seconds of processor time that it has taken.
    used: f64,
    /// Seconds that it may take now.
    saved: f64,
    ticks: f64,
    page: u64,
    slowed: bool,
}

impl Watch {
    fn new(limits: &Process) -> Self {
        let value = |which| sysconf(which).ok().flatten().and_then(|value| u32::try_from(value).ok());
        Self {
            looked: Instant::now(),
            used: 0.0,
            saved: SAVED * limits.cpu,
            ticks: value(SysconfVar::CLK_TCK).map_or(100.0, f64::from),
            page: value(SysconfVar::PAGE_SIZE).map_or(4096, u64::from),
            slowed: false,
        }
    }

    /// Kills a child that has too much memory; stops one for a moment that takes more than its share of the processor.
    fn look(&mut self, name: &str, pid: Pid, limits: &Process, shared: &Shared) {
        let Some((seconds, bytes)) = self.usage(pid) else { return };
        if bytes > limits.memory {
            let why = format!("it had {} MiB of memory, over its limit of {} MiB", bytes >> 20, limits.memory >> 20);
            return shared.kill(Some(why));
        }
        let now = Instant::now();
        let passed = now.duration_since(self.looked).as_secs_f64();
        self.saved = (self.saved + passed * limits.cpu).min(SAVED * limits.cpu) - (seconds - self.used);
        (self.looked, self.used) = (now, seconds);
        if self.saved < 0.0 {
            if !self.slowed {
                self.slowed = true;
                tracing::warn!(
                    bridge = name,
                    cpu = limits.cpu,
                    "the bridge takes more than its processor time and is slowed down"
                );
            }
            shared.signal(Signal::SIGSTOP);
            std::thread::sleep(Duration::from_secs_f64((-self.saved / limits.cpu).min(2.0)));
            shared.signal(Signal::SIGCONT);
        }
    }

    /// Seconds of processor time and bytes of resident memory, from proc(5).
    fn usage(&self, pid: Pid) -> Option<(f64, u64)> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is a name in parentheses, which can hold anything; utime and stime are fields 14 and 15, rss is 24.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let user: u32 = fields.nth(11)?.parse().ok()?;
        let system: u32 = fields.next()?.parse().ok()?;
        let resident: u64 = fields.nth(8)?.parse().ok()?;
        Some(((f64::from(user) + f64::from(system)) / self.ticks, resident * self.page))
    }
}

/// Logs what a child writes, line by line, as much of it as is bearable; keeps the last line.
fn log(name: &str, stream: Box<dyn Read + Send>, last: Option<&Mutex<String>>) {
    let mut reader = BufReader::new(stream);
    let mut allowance = Allowance::default();
    loop {
        let mut line = Vec::new();
        match (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(length) if length > 0 => {}
            _ => break,
        }
        let text = String::from_utf8_lossy(&line);
        // What Rust adds to a panic tells nobody why.
        if let Some(last) = last.filter(|_| !text.trim().is_empty() && !text.starts_with("note: ")) {
            *lock(last) = escaped(&text.trim().chars().take(MAX_LAST).collect::<String>());
        }
        if allowance.one_more(name) {
            tell(name, text.trim_end());
        }
    }
}

/// Logs one line: one in JSON, as our own programs write, at its level.
fn tell(name: &str, line: &str) {
    let mut fields: serde_json::Map<String, serde_json::Value> = match serde_json::from_str(line) {
        Ok(fields) => fields,
        Err(_) if line.is_empty() => return,
        Err(_) => return log_line(name, "INFO", &format!("it says: {line}")),
    };
    let mut take = |key: &str| fields.remove(key).and_then(|value| value.as_str().map(str::to_owned));
    let (level, message) = (take("level").unwrap_or_default(), take("message").unwrap_or_default());
    take("timestamp");
    take("target");
    let rest: String = fields.iter().map(|(key, value)| format!(" {key}={value}")).collect();
    log_line(name, &level, &format!("{message}{rest}"));
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
