//! What the server's processes used, from `/proc`.

use crate::Result;
use std::fs;
use std::time::Duration;

/// The server's processes.
pub struct Processes(pub Vec<u32>);

/// `sysconf(_SC_CLK_TCK)`: 100 on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

impl Processes {
    /// User and system time of all of them so far.
    pub fn cpu(&self) -> Result<Duration> {
        let mut ticks = 0.0;
        for pid in &self.0 {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            // The command's name, in brackets, may hold spaces; fields are counted from behind it (proc(5)).
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
            for field in fields.get(11..13).unwrap_or_default() {
                ticks += field.parse::<f64>()?;
            }
        }
        Ok(Duration::from_secs_f64(ticks / TICKS_PER_SECOND))
    }

    /// The time used since; `None` where no process was named.
    pub fn cpu_since(&self, before: Duration) -> Result<Option<Duration>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.cpu()?.saturating_sub(before)))
    }

    /// Prints resident memory, now and at its highest.
    pub fn print_memory(&self) -> Result<()> {
        for pid in &self.0 {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let kib = |key: &str| {
                let line = status.lines().find(|line| line.starts_with(key));
                line.and_then(|line| line.split_whitespace().nth(1)).and_then(|kib| kib.parse::<f64>().ok())
            };
            let (now, most) = (kib("VmRSS:").unwrap_or(0.0), kib("VmHWM:").unwrap_or(0.0));
            println!("memory     {:>9.1} MB resident, {:.1} MB at most", now / 1024.0, most / 1024.0);
        }
        Ok(())
    }
}
