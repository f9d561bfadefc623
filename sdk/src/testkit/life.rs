//! From the start of `run` to its end.

use super::stage::{Stage, apart, host};
use super::{Must, Network, PATIENCE, Report, Subject, WATCHED};
use crate::Config;
use tokio::time::{sleep, timeout};

pub(super) async fn check(subject: &Subject, network: &dyn Network, report: &mut Report) {
    match Stage::ready(subject, network).await {
        Err(why) => return report.note(Must::BecomesReady, Err(why)),
        Ok(stage) => {
            let (build, config) = (subject.build, Config::new(network.config()));
            let beside = apart(move || build(config).map(drop));
            report.holds(Must::BuildPure, matches!(beside, Ok(Ok(()))), || {
                format!("while the bridge runs, it can't be built: {beside:?}")
            });
            sleep(WATCHED).await;
            report.holds(Must::BecomesReady, !stage.has_ended(), || "`run` ended without being asked to".to_owned());
            finish(stage, report).await;
        }
    }
    match Stage::ready(subject, network).await {
        Ok(stage) => {
            report.note(Must::RunsAgain, Ok(()));
            finish(stage, report).await;
        }
        Err(why) => report.note(Must::RunsAgain, Err(why)),
    }
    without_grants(subject, network, report).await;
}

/// Stops a bridge, and notes how it ends.
pub(super) async fn finish(stage: Stage, report: &mut Report) {
    let ended = stage.stop().await;
    report.note(
        Must::EndsInTime,
        match ended.run {
            Ok(Ok(())) => Ok(()),
            Ok(Err(fatal)) => Err(format!("`run` was told to stop, and failed: {fatal}")),
            Err(why) => Err(why),
        },
    );
    let left = ended.left.join(", ");
    report.holds(Must::LeavesNothing, left.is_empty(), || left.clone());
}

async fn without_grants(subject: &Subject, network: &dyn Network, report: &mut Report) {
    let started = host(network).and_then(|host| {
        host.grant_only([]);
        Stage::start_on(subject, network, host)
    });
    let mut stage = match started {
        Ok(stage) => stage,
        Err(why) => return report.note(Must::NoGrantNoPanic, Err(why)),
    };
    // It fails, or it serves what it may.
    let _ = timeout(WATCHED.min(PATIENCE), async {
        while !stage.has_ended() {
            sleep(WATCHED / 20).await;
        }
    })
    .await;
    stage.host.stop();
    let ended = stage.end().await;
    report.note(Must::NoGrantNoPanic, ended.run.map(drop));
}
