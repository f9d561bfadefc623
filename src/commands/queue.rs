//! `mesyx queue`: messages that wait to be sent.

use super::{confirm, parse, print_json};
use crate::cli::Json;
use crate::config::check::Checked;
use crate::control::{Request, client};
use crate::exit::{Failure, USAGE};
use crate::operate::queue::QueueRequest;
use clap::{Args, Subcommand};
use mesyx_core::queue::operate::{Changed, JobFilter, JobStatus, QueueStatus};

#[derive(Debug, Subcommand)]
pub(crate) enum Queue {
    /// List the jobs, oldest first: one for each recipient.
    #[command(after_help = "Example: mesyx queue list --domain example.net")]
    List {
        #[command(flatten)]
        which: Which,
        /// Show at most so many.
        #[arg(long, default_value_t = 1000)]
        limit: usize,
        #[command(flatten)]
        json: Json,
    },
    /// Show all that is known of jobs.
    #[command(after_help = "Example: mesyx queue show 3f0c9a71")]
    Show {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        json: Json,
    },
    /// Show how the queue stands, in numbers.
    #[command(after_help = "Example: mesyx queue status --json")]
    Status(Json),
    /// Try jobs now, and hosts again that are left alone after a failure. Held jobs stay held.
    #[command(after_help = "Example: mesyx queue retry --domain example.net")]
    Retry {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        json: Json,
    },
    /// Keep jobs from being tried, until they are released.
    #[command(after_help = "Example: mesyx queue hold --user alice")]
    Hold {
        #[command(flatten)]
        which: Which,
        /// Tell the senders.
        #[arg(long)]
        notice: bool,
        #[command(flatten)]
        json: Json,
    },
    /// Release held jobs; they are tried at once.
    #[command(after_help = "Example: mesyx queue release --user alice")]
    Release {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        json: Json,
    },
    /// Take jobs out for good. Their senders are told, unless --silent.
    #[command(after_help = "Example: mesyx queue drop 3f0c9a71 --yes")]
    Drop {
        #[command(flatten)]
        which: Which,
        /// Don't tell the senders.
        #[arg(long)]
        silent: bool,
        /// Don't ask.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        json: Json,
    },
}

/// Which jobs. All that is given must be true of a job.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Ids of jobs or messages, or how they begin.
    ids: Vec<String>,
    /// Jobs for recipients in this domain.
    #[arg(long)]
    domain: Option<String>,
    /// Jobs of this user.
    #[arg(long)]
    user: Option<String>,
    /// Jobs that are held.
    #[arg(long)]
    held: bool,
    /// All jobs; needed where nothing else says which.
    #[arg(long)]
    all: bool,
}

impl Which {
    fn filter(self) -> JobFilter {
        JobFilter { ids: self.ids, destination: self.domain, user: self.user, held: self.held }
    }

    /// For commands that change something: everything only where that was said.
    fn chosen(self) -> Result<JobFilter, Failure> {
        let all = self.all;
        let filter = self.filter();
        if filter.is_all() && !all {
            return Err(Failure::with(USAGE, "say which jobs: by ids, --domain, --user, --held, or --all"));
        }
        Ok(filter)
    }
}

pub(super) fn execute(checked: &Checked, command: Queue) -> Result<(), Failure> {
    let ask = |request| client::ask(checked, Request::Queue(request));
    match command {
        Queue::List { which, limit, json } => {
            let value = ask(QueueRequest::List { filter: which.filter(), limit })?;
            if json.json {
                return print_json(&value);
            }
            list(&parse::<Vec<JobStatus>>(value)?);
            Ok(())
        }
        Queue::Show { which, json } => {
            let value = ask(QueueRequest::List { filter: which.chosen()?, limit: 1000 })?;
            if json.json {
                return print_json(&value);
            }
            let jobs = parse::<Vec<JobStatus>>(value)?;
            if jobs.is_empty() {
                return Err(Failure::new("there is no such job; `mesyx queue list` shows all"));
            }
            jobs.iter().for_each(show);
            Ok(())
        }
        Queue::Status(json) => {
            let value = ask(QueueRequest::Status)?;
            if json.json {
                return print_json(&value);
            }
            status(&parse(value)?);
            Ok(())
        }
        Queue::Retry { which, json } => {
            changed(ask(QueueRequest::Retry { filter: which.chosen()? })?, "due now", &json)
        }
        Queue::Hold { which, notice, json } => {
            changed(ask(QueueRequest::Hold { filter: which.chosen()?, notice })?, "held", &json)
        }
        Queue::Release { which, json } => {
            changed(ask(QueueRequest::Release { filter: which.chosen()? })?, "released", &json)
        }
        Queue::Drop { which, silent, yes, json } => {
            let filter = which.chosen()?;
            if !yes {
                let listed = ask(QueueRequest::List { filter: filter.clone(), limit: 100_000 })?;
                let count = parse::<Vec<JobStatus>>(listed)?.len();
                confirm(&format!("{count} jobs will be gone for good."), "drop")?;
            }
            changed(ask(QueueRequest::Drop { filter, notice: !silent })?, "dropped", &json)
        }
    }
}

fn list(jobs: &[JobStatus]) {
    if jobs.is_empty() {
        say!("Nothing waits to be sent.");
    }
    for job in jobs {
        let id = job.id.get(..8).unwrap_or(&job.id);
        let due = if job.state == "held" { "-" } else { &job.due };
        say!(
            "{id}  {}  {:<9}  {} tries  next {due}  {} -> {}",
            job.submitted,
            job.state,
            job.attempts,
            job.user,
            job.to
        );
        if !job.why.is_empty() {
            say!("          {}", job.why);
        }
    }
}

fn show(job: &JobStatus) {
    say!("job {}", job.id);
    say!("  message       {} ({} bytes sealed)", job.message, job.bytes);
    say!("  from          <{}> of {}", job.from, job.user);
    say!("  to            {}", job.to);
    say!("  submitted     {}", job.submitted);
    say!("  state         {}, {} tries", job.state, job.attempts);
    say!("  next attempt  {}", if job.state == "held" { "when released" } else { &job.due });
    say!("  given up at   {}", job.expires);
    if let Some(at) = &job.last_attempt {
        say!("  last attempt  {at}");
    }
    if !job.why.is_empty() {
        say!("  why           {}", job.why);
    }
    if job.maybe_sent {
        say!("  An attempt ended without an answer: the recipient may have the message already.");
    }
}

/// The queue in one line, also for `mesyx status`.
pub(super) fn status(queue: &QueueStatus) {
    let oldest = queue.oldest_seconds.map(|seconds| format!(", the oldest {seconds} s old")).unwrap_or_default();
    let stopped = if queue.sending { "" } else { "; nothing is sent while no server runs" };
    say!(
        "queue: {} jobs ({} deferred, {} held, {} waiting for a key), {} being attempted{oldest}{stopped}",
        queue.jobs,
        queue.deferred,
        queue.held,
        queue.needs_key,
        queue.running
    );
}

fn changed(value: serde_json::Value, what: &str, json: &Json) -> Result<(), Failure> {
    if json.json {
        return print_json(&value);
    }
    let Changed { changed, busy } = parse(value)?;
    say!("{changed} jobs {what}.");
    if busy > 0 {
        say!("{busy} were left as they are, because they are being attempted now; try again in a while.");
    }
    Ok(())
}
