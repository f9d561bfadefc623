//! Messages to the network.

use super::stage::Stage;
use super::{Fate, Manner, Must, Network, Report, Subject, WATCHED};
use crate::{Address, Delivery, Dsn, Grant, MessageId, Outcome, Recipient, Timestamp};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::sleep;

const ABOUT: &[Must] = &[
    Must::OutcomeEach,
    Must::ArrivesOnce,
    Must::BeforeDeadline,
    Must::LostLinkDefers,
    Must::NeverRetries,
    Must::NullSender,
    Must::AfterStop,
];

pub(super) async fn check(subject: &Subject, network: &dyn Network, report: &mut Report) {
    if !(subject.manifest)().grants.contains(&Grant::Deliver) {
        return report.skip(ABOUT, "the bridge brings nothing out");
    }
    let recipients = network.recipients();
    if !recipients.iter().any(|(_, fate)| *fate == Fate::Taken) {
        return report.skip(ABOUT, "delivering is not played");
    }
    let mut stage = match Stage::ready(subject, network).await {
        Ok(stage) => stage,
        Err(why) => return report.note(Must::BecomesReady, Err(why)),
    };
    let scene = Scene { network, stage: &stage, recipients };
    scene.outcomes(report).await;
    scene.null_sender(report).await;
    scene.silent(report).await;
    scene.hangs_up(report).await;
    scene.no_retries(report).await;
    network.behave(Manner::Usual).await;
    let recipients = scene.recipients.clone();
    stage.host.stop();
    let ended = stage.end().await;
    report.note(
        Must::EndsInTime,
        match ended.run {
            Ok(Ok(())) => Ok(()),
            Ok(Err(fatal)) => Err(format!("`run` was told to stop, and failed: {fatal}")),
            Err(why) => Err(why),
        },
    );
    report.holds(Must::LeavesNothing, ended.left.is_empty(), || ended.left.join(", "));
    let late = Scene { network, stage: &stage, recipients };
    let (_, outcomes) = late.deliver(&late.recipients, network.sender(), 5).await;
    report.note(
        Must::AfterStop,
        match outcomes {
            Ok(outcomes) if outcomes.len() == late.recipients.len() => Ok(()),
            Ok(outcomes) => Err(format!("{} outcomes for {} recipients", outcomes.len(), late.recipients.len())),
            Err(why) => Err(why),
        },
    );
}

struct Scene<'a> {
    network: &'a dyn Network,
    stage: &'a Stage,
    recipients: Vec<(Address, Fate)>,
}

impl Scene<'_> {
    /// One attempt with so many seconds: its marker, and its outcomes.
    async fn deliver(
        &self,
        to: &[(Address, Fate)],
        from: Option<Address>,
        seconds: i64,
    ) -> (String, Result<Vec<Outcome>, String>) {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let marker = format!("kit-delivery-{}-end", COUNT.fetch_add(1, Ordering::Relaxed));
        let job = Delivery {
            id: MessageId::random(),
            from,
            recipients: to.iter().map(|(address, _)| Recipient::new(address.clone())).collect(),
            dsn: Dsn::default(),
            deadline: Timestamp(Timestamp::now().0 + seconds * 1000),
            content: self.network.outgoing(&marker),
        };
        let outcomes = self.stage.deliver(job).await;
        (marker, outcomes)
    }

    /// Those whom the network takes messages for.
    fn takers(&self) -> Vec<(Address, Fate)> {
        self.recipients.iter().filter(|(_, fate)| *fate == Fate::Taken).cloned().collect()
    }

    async fn outcomes(&self, report: &mut Report) {
        let backwards: Vec<_> = self.recipients.iter().rev().cloned().collect();
        for to in [self.takers(), self.recipients.clone(), backwards] {
            let (marker, outcomes) = self.deliver(&to, self.network.sender(), 20).await;
            let outcomes = match outcomes {
                Ok(outcomes) => outcomes,
                Err(why) => {
                    report.note(Must::OutcomeEach, Err(why));
                    continue;
                }
            };
            report.note(Must::OutcomeEach, agree(&to, &outcomes));
            let wanted = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Delivered { .. })).count();
            let arrived = self.network.arrived(&marker).await;
            report.holds(Must::ArrivesOnce, wanted == arrived, || {
                format!("{wanted} recipients were told as delivered, and it arrived {arrived} times")
            });
        }
    }

    async fn null_sender(&self, report: &mut Report) {
        let to = self.takers();
        let (_, outcomes) = self.deliver(&to, None, 20).await;
        report.note(Must::NullSender, outcomes.and_then(|outcomes| agree(&to, &outcomes)));
    }

    async fn silent(&self, report: &mut Report) {
        if !self.network.behave(Manner::Silent).await {
            return report.skip(&[Must::BeforeDeadline], "a silent network is not played");
        }
        let to = self.takers();
        let (_, outcomes) = self.deliver(&to, self.network.sender(), 4).await;
        report.note(Must::BeforeDeadline, outcomes.and_then(|outcomes| deferred(&to, &outcomes)));
        self.network.behave(Manner::Usual).await;
        report.note(Must::BeforeDeadline, self.recovers("when the network speaks again").await);
    }

    async fn hangs_up(&self, report: &mut Report) {
        if !self.network.behave(Manner::HangsUp).await {
            return report.skip(&[Must::LostLinkDefers], "a network that hangs up is not played");
        }
        let to = self.takers();
        let (_, outcomes) = self.deliver(&to, self.network.sender(), 20).await;
        report.note(
            Must::LostLinkDefers,
            outcomes.and_then(|outcomes| {
                deferred(&to, &outcomes)?;
                match outcomes.iter().all(|outcome| matches!(outcome, Outcome::Deferred { maybe_sent: true, .. })) {
                    true => Ok(()),
                    false => Err(format!("that it may have been sent is not told: {outcomes:?}")),
                }
            }),
        );
        self.network.behave(Manner::Usual).await;
        report.note(Must::LostLinkDefers, self.recovers("after a lost connection").await);
    }

    /// Connections may have to be made anew: the queue would try again, and so does this.
    async fn recovers(&self, when: &str) -> Result<(), String> {
        let to = self.takers();
        let mut last = String::new();
        for _ in 0..20 {
            let (_, outcomes) = self.deliver(&to, self.network.sender(), 10).await;
            match outcomes.and_then(|outcomes| agree(&to, &outcomes)) {
                Ok(()) => return Ok(()),
                Err(why) => last = why,
            }
            sleep(WATCHED).await;
        }
        Err(format!("{when}: {last}"))
    }

    async fn no_retries(&self, report: &mut Report) {
        let later: Vec<_> = self.recipients.iter().filter(|(_, fate)| *fate == Fate::Later).cloned().collect();
        if later.is_empty() {
            return report.skip(&[Must::NeverRetries], "a temporary refusal is not played");
        }
        let (marker, outcomes) = self.deliver(&later, self.network.sender(), 10).await;
        if let Err(why) = outcomes.and_then(|outcomes| agree(&later, &outcomes)) {
            return report.note(Must::NeverRetries, Err(why));
        }
        if !self.network.behave(Manner::Obliging).await {
            return report.skip(&[Must::NeverRetries], "a network that takes everything is not played");
        }
        sleep(4 * WATCHED).await;
        let arrived = self.network.arrived(&marker).await;
        report.holds(Must::NeverRetries, arrived == 0, || "a message that was deferred arrived by itself".to_owned());
        self.network.behave(Manner::Usual).await;
    }
}

fn agree(to: &[(Address, Fate)], outcomes: &[Outcome]) -> Result<(), String> {
    if outcomes.len() != to.len() {
        return Err(format!("{} outcomes for {} recipients", outcomes.len(), to.len()));
    }
    for ((address, fate), outcome) in to.iter().zip(outcomes) {
        let fits = match fate {
            Fate::Taken => matches!(outcome, Outcome::Delivered { .. }),
            Fate::Later => matches!(outcome, Outcome::Deferred { .. }),
            Fate::Refused => matches!(outcome, Outcome::Failed { .. }),
        };
        if !fits {
            return Err(format!("the network's answer for {address} was {fate:?}, and the outcome is {outcome:?}"));
        }
    }
    Ok(())
}

fn deferred(to: &[(Address, Fate)], outcomes: &[Outcome]) -> Result<(), String> {
    let to: Vec<_> = to.iter().map(|(address, _)| (address.clone(), Fate::Later)).collect();
    agree(&to, outcomes)
}
