//! CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE and STATUS.

use crate::connection::{Connection, Handled, Reply};
use crate::proto::command::StatusItem;
use mesyx_sdk::{MailboxId, MailboxName, Role};

impl Connection {
    pub(crate) async fn create(&mut self, raw: &[u8], uses: &[String]) -> Handled {
        // A `/` at the end says that names below it will be made (RFC 3501, section 6.3.3): they can be anywhere here.
        let name = self.name(raw.strip_suffix(b"/").filter(|name| !name.is_empty()).unwrap_or(raw))?;
        let mut role = None;
        for attribute in uses {
            match role_of(attribute) {
                Some(known) if role.is_none_or(|role| role == known) => role = Some(known),
                _ => {
                    return Ok(
                        Reply::no("A mailbox can have one of \\Archive \\Drafts \\Junk \\Sent \\Trash").code("USEATTR")
                    );
                }
            }
        }
        let id = self.session()?.create_mailbox(&name, role).await?;
        Ok(Reply::ok("made").code(format!("MAILBOXID ({id})")))
    }

    pub(crate) async fn delete(&mut self, raw: &[u8]) -> Handled {
        let name = self.name(raw)?;
        let session = self.session()?;
        let id = session.mailboxes().await?.into_iter().find(|mailbox| mailbox.name == name).map(|mailbox| mailbox.id);
        session.delete_mailbox(&name).await?;
        let user = self.user()?;
        if id.is_some() && user.selected.as_ref().map(|selected| selected.mailbox) == id {
            user.selected = None;
            self.wire.out().text("* OK [CLOSED] the selected mailbox was deleted\r\n");
        }
        Ok(Reply::ok("deleted"))
    }

    pub(crate) async fn rename(&mut self, from: &[u8], to: &[u8]) -> Handled {
        let (from, to) = (self.name(from)?, self.name(to)?);
        self.session()?.rename_mailbox(&from, &to).await?;
        Ok(Reply::ok("renamed"))
    }

    pub(crate) async fn subscribe(&mut self, raw: &[u8], subscribed: bool) -> Handled {
        let name = self.name(raw)?;
        self.session()?.subscribe(&name, subscribed).await?;
        Ok(Reply::ok(if subscribed { "subscribed" } else { "not subscribed any more" }))
    }

    pub(crate) async fn status(&mut self, raw: &[u8], items: &[StatusItem]) -> Handled {
        let name = self.name(raw)?;
        let mailbox = self.mailbox(raw).await?;
        if items.contains(&StatusItem::HighestModSeq) {
            self.enable_condstore()?;
        }
        self.write_status(&name, mailbox, items).await?;
        Ok(Reply::ok("told"))
    }

    /// Writes one STATUS response.
    pub(crate) async fn write_status(
        &mut self,
        name: &MailboxName,
        mailbox: MailboxId,
        items: &[StatusItem],
    ) -> Result<(), crate::connection::Fault> {
        let status = self.session()?.status(mailbox).await?;
        let utf8 = self.user()?.utf8;
        let limit = self.shared.limits.append_bytes;
        let out = self.wire.out();
        out.text("* STATUS ");
        out.mailbox(name, utf8);
        out.text(" (");
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                out.text(" ");
            }
            match item {
                StatusItem::Messages => out.put(format_args!("MESSAGES {}", status.messages)),
                StatusItem::Recent => out.put(format_args!("RECENT {}", status.recent)),
                StatusItem::UidNext => out.put(format_args!("UIDNEXT {}", status.uid_next)),
                StatusItem::UidValidity => out.put(format_args!("UIDVALIDITY {}", status.uid_validity)),
                StatusItem::Unseen => out.put(format_args!("UNSEEN {}", status.unseen)),
                StatusItem::HighestModSeq => out.put(format_args!("HIGHESTMODSEQ {}", status.highest_modseq)),
                StatusItem::Size => out.put(format_args!("SIZE {}", status.size)),
                StatusItem::MailboxId => out.put(format_args!("MAILBOXID ({mailbox})")),
                StatusItem::AppendLimit => out.put(format_args!("APPENDLIMIT {limit}")),
            }
        }
        out.text(")\r\n");
        Ok(())
    }
}

/// The role that a special-use attribute names (RFC 6154).
fn role_of(attribute: &str) -> Option<Role> {
    [Role::Archive, Role::Drafts, Role::Junk, Role::Sent, Role::Trash]
        .into_iter()
        .find(|role| super::list::attribute(*role).is_some_and(|known| known.eq_ignore_ascii_case(attribute)))
}
