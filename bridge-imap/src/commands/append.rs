//! APPEND.

use crate::connection::{Connection, Fault, Handled, Reply};
use crate::proto::command::Message;
use crate::proto::sequence::AsSet;
use bytes::Bytes;
use mesyx_sdk::{Append, Content, ErrorKind};

impl Connection {
    pub(crate) async fn append(&mut self, raw: &[u8], messages: Vec<Message<'_>>, frame: &Bytes) -> Handled {
        let mailbox = match self.mailbox(raw).await {
            Err(Fault::Reply(reply)) => return Ok(try_create(reply)),
            mailbox => mailbox?,
        };
        let utf8 = self.user()?.utf8;
        let mut appends = Vec::with_capacity(messages.len());
        for message in messages {
            // An empty message calls a MULTIAPPEND off (RFC 3502, section 6.3.11).
            if message.bytes.is_empty() {
                return Ok(Reply::no("An empty message can't be kept; nothing was appended"));
            }
            if message.utf8 && !utf8 {
                return Ok(Reply::bad("Enable UTF8=ACCEPT before sending UTF8 messages"));
            }
            if message.bytes.contains(&0) {
                return Ok(Reply::no("A message must not have NUL characters; nothing was appended").code("CANNOT"));
            }
            let content = Content::new(frame.slice_ref(message.bytes));
            appends.push(Append { flags: message.flags, internal_date: message.date, content });
        }
        let appended = match self.session()?.append(mailbox, appends).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(try_create(Reply::no("There is no such mailbox")));
            }
            appended => appended?,
        };
        metrics::counter!("mesyx_imap_appended_total").increment(appended.uids.len() as u64);
        let uids = AsSet(appended.uids.iter().copied());
        Ok(Reply::ok("appended").code(format!("APPENDUID {} {uids}", appended.uid_validity)))
    }
}

/// A missing target: the client may make it and try again (RFC 3501, section 6.3.11).
pub(super) fn try_create(reply: Reply) -> Reply {
    if reply.has_code("NONEXISTENT") { reply.code("TRYCREATE") } else { reply }
}
