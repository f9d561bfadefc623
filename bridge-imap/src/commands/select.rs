//! SELECT, EXAMINE, UNSELECT and CLOSE.

use crate::connection::{Connection, Fault, Handled, LoggedIn, Reply, Selected};
use crate::proto::command::{Resync, Select};
use crate::proto::sequence::compress;
use crate::view::View;
use mesyx_sdk::{Session, Uid};
use std::sync::Arc;

impl LoggedIn {
    pub(crate) fn new(session: Arc<dyn Session>) -> Self {
        Self { session, selected: None, condstore: false, qresync: false, utf8: false }
    }
}

impl Connection {
    pub(crate) async fn select(&mut self, select: Select) -> Handled {
        if select.qresync.is_some() && !self.user()?.qresync {
            return Ok(Reply::bad("Enable QRESYNC first"));
        }
        // A failed SELECT too leaves nothing selected (RFC 3501, section 6.3.1).
        if self.user()?.selected.take().is_some() {
            self.wire.out().text("* OK [CLOSED] the mailbox before is closed\r\n");
        }
        self.user()?.condstore |= select.condstore;
        let mailbox = self.mailbox(&select.mailbox).await?;
        let snapshot = self.session()?.snapshot(mailbox, !select.read_only).await?;
        let view = View::new(&snapshot);
        drop(snapshot);
        let out = self.wire.out();
        view.tell_flags(out, !select.read_only);
        out.put(format_args!("* {} EXISTS\r\n* {} RECENT\r\n", view.exists(), view.recent()));
        if let Some(unseen) = view.first_unseen() {
            out.put(format_args!("* OK [UNSEEN {unseen}] the first unseen message\r\n"));
        }
        out.put(format_args!("* OK [UIDVALIDITY {}] UIDs are valid\r\n", view.uid_validity));
        out.put(format_args!("* OK [UIDNEXT {}] the next UID at the least\r\n", view.uid_next));
        out.put(format_args!("* OK [HIGHESTMODSEQ {}] the highest so far\r\n", view.modseq));
        out.put(format_args!("* OK [MAILBOXID ({mailbox})] the mailbox's id\r\n"));
        self.user()?.selected = Some(Selected { mailbox, read_only: select.read_only, view });
        if let Some(resync) = select.qresync {
            self.resync(&resync).await?;
        }
        let code = if select.read_only { "READ-ONLY" } else { "READ-WRITE" };
        Ok(Reply::ok("selected").code(code))
    }

    /// Tells what changed since the client last had the mailbox open (RFC 7162, section 3.2.5).
    async fn resync(&mut self, resync: &Resync) -> Result<(), Fault> {
        let session = self.session()?;
        let selected = self.selected()?;
        if selected.view.uid_validity != resync.uid_validity {
            return Ok(());
        }
        let changes = session.changes(selected.mailbox, resync.modseq).await?;
        let known = resync.known.as_ref().map(|known| known.ranges(Uid::MAX));
        let knows = |uid: Uid| known.as_ref().is_none_or(|known| known.iter().any(|range| range.contains(&uid)));
        self.write_vanished(changes.vanished.into_iter().filter(|uid| knows(*uid)));
        for uid in changes.changed.iter().map(|entry| entry.uid).filter(|uid| knows(*uid)) {
            let selected = self.user.as_deref_mut().and_then(|user| user.selected.as_mut());
            let Some(view) = selected.map(|selected| &selected.view) else { break };
            let (Some(sequence), Some(row)) = (view.sequence(uid), view.row(uid)) else { continue };
            let out = self.wire.out();
            out.put(format_args!("* {sequence} FETCH (UID {uid} FLAGS "));
            out.flags(&row.flags, uid >= view.recent_from);
            out.put(format_args!(" MODSEQ ({}))\r\n", row.modseq));
            self.wire.gathered().await?;
        }
        Ok(())
    }

    /// Tells which messages went while the client was not looking.
    pub(crate) fn write_vanished(&mut self, uids: impl Iterator<Item = Uid>) {
        let ranges = compress(uids);
        if !ranges.is_empty() {
            let out = self.wire.out();
            out.text("* VANISHED (EARLIER) ");
            out.ranges(&ranges);
            out.text("\r\n");
        }
    }

    /// CONDSTORE is in use from here on (RFC 7162, section 3.1): the client must know where it stands.
    pub(crate) fn enable_condstore(&mut self) -> Result<(), Fault> {
        let user = self.user()?;
        if std::mem::replace(&mut user.condstore, true) {
            return Ok(());
        }
        if let Some(modseq) = user.selected.as_ref().map(|selected| selected.view.modseq) {
            self.wire.out().put(format_args!("* OK [HIGHESTMODSEQ {modseq}] the highest so far\r\n"));
        }
        Ok(())
    }

    pub(crate) fn unselect(&mut self) -> Handled {
        self.selected()?;
        self.user()?.selected = None;
        Ok(Reply::ok("unselected"))
    }

    pub(crate) async fn close(&mut self) -> Handled {
        let selected = self.selected()?;
        let (mailbox, read_only) = (selected.mailbox, selected.read_only);
        if !read_only {
            self.session()?.expunge(mailbox, None).await?;
        }
        self.user()?.selected = None;
        Ok(Reply::ok("closed"))
    }
}
