//! Messages from the network.

use super::life::finish;
use super::stage::Stage;
use super::{Acknowledges, Incoming, Must, Network, PATIENCE, Reply, Report, Subject, WATCHED};
use crate::{Address, Envelope, Error, ErrorKind, Grant, Reservation, Timestamp};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::{sleep, timeout};

const ABOUT: &[Must] = &[
    Must::TakesMessages,
    Must::NoEarlyYes,
    Must::ErrorsTold,
    Must::UnknownRefused,
    Must::BackPressure,
    Must::SurvivesGarbage,
];

pub(super) async fn check(subject: &Subject, network: &dyn Network, report: &mut Report) {
    let grants = (subject.manifest)().grants;
    let takes = grants.contains(&Grant::Accept);
    if grants.contains(&Grant::Access) {
        logins(subject, network, report).await;
    } else {
        report.skip(&[Must::LoginTold], "the bridge logs nobody in");
    }
    if !takes && !grants.contains(&Grant::Access) {
        return report.skip(ABOUT, "the bridge brings nothing in");
    }
    let stage = match Stage::ready(subject, network).await {
        Ok(stage) => stage,
        Err(why) => return report.note(Must::BecomesReady, Err(why)),
    };
    let scene = Scene { network, stage: &stage };
    let first = scene.send(&message("ann")).await;
    if first.is_none_or(|reply| reply == Reply::Nothing) && network.acknowledges() == Acknowledges::Always && !takes {
        report.skip(ABOUT, "sending through the bridge is not played");
    } else {
        scene.taken(report).await;
        scene.no_early_yes(report).await;
        scene.errors(report).await;
        scene.unknown(report).await;
        scene.back_pressure(report).await;
    }
    scene.garbage(report).await;
    finish(stage, report).await;
    if report.broken().all(|must| must != Must::TakesMessages) {
        stop_in_the_middle(subject, network, report).await;
    }
}

/// A message with a text of its own.
fn message(to: &str) -> Incoming {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    // With an end, since one must not be found where only a longer one stands.
    let text = format!("kit-message-{}-end", COUNT.fetch_add(1, Ordering::Relaxed));
    // Its parts are constants; where they were none, the text would say so.
    let to = format!("{to}@example.org").parse();
    #[allow(clippy::expect_used, reason = "the addresses are the kit's own")]
    Incoming { to: to.expect("an address"), text }
}

struct Scene<'a> {
    network: &'a dyn Network,
    stage: &'a Stage,
}

impl Scene<'_> {
    /// `None` where nothing came of it for very long.
    async fn send(&self, message: &Incoming) -> Option<Reply> {
        timeout(PATIENCE, self.network.send(&self.stage.host, message)).await.ok()
    }

    /// What the host holds with this text.
    fn held(&self, message: &Incoming) -> Vec<Envelope> {
        let mut all = self.stage.host.accepted();
        all.extend(self.stage.host.submitted());
        let has = |envelope: &Envelope| {
            let (content, text) = (&*envelope.content, message.text.as_bytes());
            content.windows(text.len()).any(|window| window == text)
        };
        all.retain(has);
        all
    }

    /// Waits for a message, where the network does not tell that it was taken.
    async fn arrives(&self, message: &Incoming) -> Vec<Envelope> {
        for _ in 0..2000 {
            let held = self.held(message);
            if !held.is_empty() {
                return held;
            }
            sleep(WATCHED / 100).await;
        }
        Vec::new()
    }

    /// What becomes of a message shows at once where the network tells it, and else after a while.
    async fn settles(&self) {
        if self.network.acknowledges() != Acknowledges::Always {
            sleep(WATCHED).await;
        }
    }

    /// Whether the reply says that the message was taken, as far as this network says so.
    fn yes(&self, reply: Option<Reply>) -> bool {
        match self.network.acknowledges() {
            Acknowledges::Always => reply == Some(Reply::Taken),
            _ => matches!(reply, Some(Reply::Taken | Reply::Nothing)),
        }
    }

    /// Sends, and wants the message to arrive.
    async fn works(&self, when: &str) -> Result<(), String> {
        let message = message("ann");
        let reply = self.send(&message).await;
        if !self.yes(reply) {
            return Err(format!("{when}, a message got the answer {reply:?}"));
        }
        match self.arrives(&message).await.len() {
            1 => Ok(()),
            number => Err(format!("{when}, a message was brought in {number} times")),
        }
    }

    async fn taken(&self, report: &mut Report) {
        let message = message("ann");
        let reply = self.send(&message).await;
        let held = self.arrives(&message).await;
        let result = match &held[..] {
            [] => Err(format!("it was not brought in; the network heard {reply:?}")),
            [envelope] => fits(envelope, &message),
            more => Err(format!("it was brought in {} times", more.len())),
        };
        report.note(Must::TakesMessages, result);
        report.holds(Must::TakesMessages, self.yes(reply), || format!("the network heard {reply:?}"));
        report.note(Must::TakesMessages, self.works("after another one").await);
    }

    async fn no_early_yes(&self, report: &mut Report) {
        if self.network.acknowledges() != Acknowledges::Always {
            return report.skip(&[Must::NoEarlyYes], "the network never says yes");
        }
        let host = &self.stage.host;
        let message = message("ann");
        let before = host.batches();
        host.hold_accepts();
        {
            let mut sending = pin!(self.send(&message));
            let early = tokio::select! {
                reply = &mut sending => Some(reply),
                () = async {
                    host.brought(before + 1).await;
                    sleep(WATCHED).await;
                } => None,
            };
            host.release_accepts();
            match early {
                Some(reply) => {
                    report.note(
                        Must::NoEarlyYes,
                        Err(format!("the network heard {reply:?} while the host had not yet taken it")),
                    );
                }
                None => {
                    let reply = sending.await;
                    report.holds(Must::NoEarlyYes, reply == Some(Reply::Taken), || {
                        format!("a message that the host took late got the answer {reply:?}")
                    });
                }
            }
        }
        // It has come to rest before the next look.
        self.arrives(&message).await;
    }

    async fn errors(&self, report: &mut Report) {
        if self.network.acknowledges() == Acknowledges::Never {
            return self.errors_untold(report).await;
        }
        use ErrorKind::{Forbidden, Full, Invalid, OverQuota, TooLarge, TooMany, Unavailable};
        for kind in [Full, OverQuota, TooMany, Unavailable, Forbidden, Invalid, TooLarge] {
            self.stage.host.fail_next_accept(Error::new(kind, "the kit says so"));
            let message = message("ann");
            let reply = self.send(&message).await;
            let wanted = if kind.is_temporary() { Reply::TryLater } else { Reply::Refused };
            report.holds(Must::ErrorsTold, reply == Some(wanted), || {
                format!("{kind:?} of `accept` was told as {reply:?} instead of {wanted:?}")
            });
        }
        report.note(Must::ErrorsTold, self.works("after errors").await);
    }

    /// Nobody sends again what nobody was told of: the bridge itself must bring it again.
    async fn errors_untold(&self, report: &mut Report) {
        for kind in [ErrorKind::Full, ErrorKind::Unavailable] {
            self.stage.host.fail_next_accept(Error::new(kind, "the kit says so"));
            let message = message("ann");
            self.send(&message).await;
            let held = self.arrives(&message).await.len();
            report.holds(Must::ErrorsTold, held == 1, || {
                format!("after {kind:?} of `accept`, which nobody is told, a message was brought in {held} times")
            });
        }
        report.note(Must::ErrorsTold, self.works("after errors").await);
    }

    async fn unknown(&self, report: &mut Report) {
        let message = message("nobody");
        let reply = self.send(&message).await;
        let fine = match self.network.acknowledges() {
            Acknowledges::Never => reply != Some(Reply::Taken),
            _ => reply == Some(Reply::Refused),
        };
        self.settles().await;
        report.holds(Must::UnknownRefused, fine && self.held(&message).is_empty(), || {
            format!("the network heard {reply:?}, and {} were brought in", self.held(&message).len())
        });
    }

    async fn back_pressure(&self, report: &mut Report) {
        let host = &self.stage.host;
        let budget: &crate::ByteBudget = crate::Host::budget(host);
        let rest: Option<Reservation> = budget.reserve(budget.available());
        report.holds(Must::BackPressure, rest.is_some(), || "the budget changes though nothing is sent".to_owned());
        let message = message("ann");
        let mut sending = pin!(self.send(&message));
        let answered = timeout(WATCHED, &mut sending).await;
        self.settles().await;
        report.holds(Must::BackPressure, self.held(&message).is_empty(), || {
            "a message was taken though the byte budget was spent: reserve before reading it".to_owned()
        });
        drop(rest);
        let reply = match answered {
            // It did not read on, which is well: now it does.
            Err(_) => sending.await.filter(|reply| *reply != Reply::Taken),
            Ok(reply) => reply,
        };
        report
            .holds(Must::BackPressure, reply != Some(Reply::Refused), || "the sender was refused for good".to_owned());
        if reply == Some(Reply::Nothing) && self.network.acknowledges() != Acknowledges::Always {
            let held = self.arrives(&message).await.len();
            report.holds(Must::BackPressure, held == 1, || {
                format!("a message whose sender was told nothing was brought in {held} times when there was room again")
            });
        }
        report.note(Must::BackPressure, self.works("when there is room again").await);
    }

    async fn garbage(&self, report: &mut Report) {
        for (what, bytes) in nasty() {
            let _ = timeout(PATIENCE, self.network.garbage(&self.stage.host, &bytes)).await;
            report.holds(Must::SurvivesGarbage, !self.stage.has_ended(), || format!("`run` ended after {what}"));
            if self.stage.has_ended() {
                return;
            }
        }
        // Where sending is played, the bridge must still serve.
        if self.stage.host.accepted().len() + self.stage.host.submitted().len() > 0 {
            report.note(Must::SurvivesGarbage, self.works("after garbage").await);
        }
    }
}

fn fits(envelope: &Envelope, message: &Incoming) -> Result<(), String> {
    // A network of chat brings it to the same user's address there.
    let is_theirs = |address: &Address| match address {
        Address::Mail(mail) => *mail == message.to,
        Address::Mesyx(mesyx) => mesyx.user == message.to,
        _ => false,
    };
    if !envelope.to.iter().any(|recipient| is_theirs(&recipient.address)) {
        let to: Vec<String> = envelope.to.iter().map(|recipient| recipient.address.to_string()).collect();
        return Err(format!("its recipients are {to:?}"));
    }
    let age = Timestamp::now().0 - envelope.received.0;
    if !(-1000..600_000).contains(&age) {
        return Err(format!("it was received {age} ms ago by what the bridge says"));
    }
    Ok(())
}

/// Bytes that have broken parsers.
fn nasty() -> Vec<(&'static str, Vec<u8>)> {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed.to_le_bytes()[0]
    };
    vec![
        ("nothing", Vec::new()),
        ("a line end", b"\r\n".to_vec()),
        ("NULs", vec![0; 1000]),
        ("invalid UTF-8", b"\xff\xfe\xc3\x28\xed\xa0\x80\r\n".to_vec()),
        ("random bytes", (0..10_000).map(|_| random()).collect()),
        ("a line without an end", vec![b'a'; 1 << 20]),
        ("many line ends", b"\r\n".repeat(20_000)),
        ("bare carriage returns", b"a\rb\rc\r".repeat(100)),
        ("open brackets", b"<[{(\"".repeat(10_000)),
        ("half a handshake", vec![22, 3, 1, 2, 0, 1]),
    ]
}

/// A message is with the host when the bridge is told to stop.
async fn stop_in_the_middle(subject: &Subject, network: &dyn Network, report: &mut Report) {
    let stage = match Stage::ready(subject, network).await {
        Ok(stage) => stage,
        Err(why) => return report.note(Must::RunsAgain, Err(why)),
    };
    let host = stage.host.clone();
    let message = message("ann");
    host.hold_accepts();
    let reply = {
        let scene = Scene { network, stage: &stage };
        let mut sending = pin!(scene.send(&message));
        let mut brought = pin!(async {
            host.brought(1).await;
            host.stop();
            sleep(WATCHED).await;
            host.release_accepts();
        });
        let early = timeout(PATIENCE, async {
            tokio::select! {
                reply = &mut sending => {
                    // Where nothing is said, the message is on its way still.
                    if reply == Some(Reply::Nothing) && network.acknowledges() != Acknowledges::Always {
                        brought.await;
                    }
                    Some(reply)
                }
                () = &mut brought => None,
            }
        });
        match early.await {
            Ok(Some(reply)) => reply,
            Ok(None) => sending.await,
            Err(_) => None,
        }
    };
    host.release_accepts();
    let held = Scene { network, stage: &stage }.held(&message).len();
    if network.acknowledges() == Acknowledges::Always {
        report.holds(Must::NoEarlyYes, !(reply == Some(Reply::Taken) && held == 0), || {
            "a message was acknowledged while the bridge stopped, and is nowhere".to_owned()
        });
    }
    finish(stage, report).await;
}

async fn logins(subject: &Subject, network: &dyn Network, report: &mut Report) {
    let stage = match Stage::ready(subject, network).await {
        Ok(stage) => stage,
        Err(why) => return report.note(Must::BecomesReady, Err(why)),
    };
    let log_in = async |name: &str, password: &str| {
        timeout(PATIENCE, network.log_in(&stage.host, name, password)).await.unwrap_or(Some(Reply::Nothing))
    };
    let Some(reply) = log_in("ann", "secret").await else {
        report.skip(&[Must::LoginTold], "logging in is not played");
        return finish(stage, report).await;
    };
    let mut heard = vec![("the right password", Reply::Taken, Some(reply))];
    heard.push(("a wrong password", Reply::Refused, log_in("ann", "wrong").await));
    heard.push(("an unknown name", Reply::Refused, log_in("nobody", "secret").await));
    for kind in [ErrorKind::TooMany, ErrorKind::Unavailable] {
        stage.host.fail_next_login(Error::new(kind, "the kit says so"));
        heard.push(("the right password, but not now", Reply::TryLater, log_in("ann", "secret").await));
    }
    heard.push(("the right password again", Reply::Taken, log_in("ann", "secret").await));
    for (what, wanted, reply) in heard {
        report.holds(Must::LoginTold, reply == Some(wanted), || format!("{what} got {reply:?} instead of {wanted:?}"));
    }
    finish(stage, report).await;
}
