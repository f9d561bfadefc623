//! Measures what the steps of the protocol cost in CPU time on this machine: `cargo run --release --example otr_times`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement, not a part of the library")]

use mesyx_otr::{Config, Event, Identity, Output, Session};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Times by what was done: how often, in all, and at most.
#[derive(Default)]
struct Times(BTreeMap<&'static str, (u32, Duration, Duration)>);

impl Times {
    fn measure<T>(&mut self, what: &'static str, work: impl FnOnce() -> T) -> T {
        let start = cpu_time();
        let result = work();
        let took = cpu_time().saturating_sub(start);
        let entry = self.0.entry(what).or_default();
        *entry = (entry.0 + 1, entry.1 + took, entry.2.max(took));
        result
    }
}

/// CPU time of this thread, so that other work on the machine does not count (Linux: the first field of schedstat, in
/// nanoseconds).
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

/// Delivers lines back and forth until both are silent. The type of a message shows in its first letters of base64.
fn settle(times: &mut Times, sides: &mut [Session; 2], mut at: usize, out: Output) -> Vec<Event> {
    let (mut lines, mut events) = (out.lines, vec![]);
    while !lines.is_empty() {
        at = 1 - at;
        let mut answers = vec![];
        for line in lines {
            let what = match line.get(5..9) {
                _ if !line.starts_with(b"?OTR:") => "receive a query, answer D-H Commit",
                Some(b"AAMC") => "receive D-H Commit, answer D-H Key",
                Some(b"AAMK") => "receive D-H Key, answer Reveal Signature",
                Some(b"AAMR") => "receive Reveal Signature, answer Signature",
                Some(b"AAMS") => "receive Signature",
                _ if line.len() > 2400 => "receive SMP message 2, answer 3",
                _ if line.len() > 1900 => "receive SMP message 3, answer 4",
                _ if line.len() > 1400 => "receive SMP message 1",
                _ if line.len() > 800 => "receive SMP message 4",
                _ => "receive data and rotate keys",
            };
            let out = times.measure(what, || sides[at].receive(&line, Instant::now()));
            answers.extend(out.lines);
            events.extend(out.events);
        }
        lines = answers;
    }
    events
}

fn main() {
    let mut times = Times::default();
    let keys = [(); 2].map(|()| Arc::new(times.measure("make an identity", || Identity::generate().unwrap())));
    for _ in 0..10 {
        let mut sides = [0, 1].map(|at: usize| Session::new(keys[at].clone(), Config::default()));
        let out = sides[0].start(Instant::now()).unwrap();
        settle(&mut times, &mut sides, 0, out);
        for round in 0..20 {
            let (_, out) = times.measure("send", || sides[round % 2].send(b"text", Instant::now()).unwrap());
            settle(&mut times, &mut sides, round % 2, out);
        }
        let out = times.measure("begin SMP", || sides[0].smp_start(b"secret", None, Instant::now()).unwrap());
        settle(&mut times, &mut sides, 0, out);
        let out = times.measure("answer SMP", || sides[1].smp_answer(b"secret", Instant::now()).unwrap());
        let events = settle(&mut times, &mut sides, 1, out);
        assert!(matches!(&events[..], [Event::SmpDone(_), Event::SmpDone(_)]));
    }
    for (what, (count, total, most)) in times.0 {
        println!(
            "{what:44} {:8.2} ms mean {:8.2} ms most",
            total.as_secs_f64() * 1e3 / f64::from(count),
            most.as_secs_f64() * 1e3
        );
    }
}
