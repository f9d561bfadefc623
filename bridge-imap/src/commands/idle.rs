//! IDLE (RFC 2177).

use crate::connection::{Connection, Fault, Handled, Reply};
use mesyx_sdk::{Change, MailboxId};

/// What ended a wait.
enum Woken {
    /// The client sent a line.
    Line(crate::proto::framing::Frame),
    Change(Option<Change>),
}

impl Connection {
    pub(crate) async fn idle(&mut self) -> Handled {
        // Watching begins before the state is looked at, so that nothing falls in between.
        let mut watcher = self.session()?.watch().await?;
        self.wire.out().text("+ idling\r\n");
        self.sync(true).await?;
        self.wire.flush().await?;
        self.wire.rest();
        let selected = self.user()?.selected.as_ref().map(|selected| selected.mailbox);
        let deadline = self.deadline();
        loop {
            let woken = tokio::select! {
                line = self.frame(true, deadline) => Woken::Line(line?),
                change = watcher.next() => Woken::Change(change),
            };
            match woken {
                Woken::Line(line) if line.bytes().eq_ignore_ascii_case(b"DONE") => return Ok(Reply::ok("idled")),
                Woken::Line(_) => return Ok(Reply::bad("expected DONE")),
                Woken::Change(None) => return Err(Fault::Bye("The session is over".into())),
                Woken::Change(Some(Change::Ended(why))) => return Err(Fault::Bye(why.into())),
                Woken::Change(Some(change)) => {
                    let mut concerns = concerns(&change, selected);
                    // What came together is told together.
                    while let Some(change) = watcher.try_next() {
                        if let Change::Ended(why) = change {
                            return Err(Fault::Bye(why.into()));
                        }
                        concerns |= self::concerns(&change, selected);
                    }
                    if concerns {
                        self.sync(true).await?;
                        self.wire.flush().await?;
                        self.wire.rest();
                    }
                }
            }
        }
    }
}

/// Whether the selected mailbox may have changed. A mailbox that is deleted is a change of the list.
fn concerns(change: &Change, selected: Option<MailboxId>) -> bool {
    match change {
        Change::Mailbox(mailbox, _) => selected == Some(*mailbox),
        _ => true,
    }
}
