//! LIST, with RFC 5258, 5819 and 6154, and LSUB.

use crate::connection::{Connection, Fault, Handled, Reply};
use crate::proto::command::{List, StatusItem};
use crate::proto::utf7;
use mesyx_sdk::{Mailbox, MailboxId, MailboxName, Role};
use std::collections::BTreeMap;

/// The special-use attribute of a role; INBOX has none.
pub(super) const fn attribute(role: Role) -> Option<&'static str> {
    match role {
        Role::Archive => Some("\\Archive"),
        Role::Drafts => Some("\\Drafts"),
        Role::Junk => Some("\\Junk"),
        Role::Sent => Some("\\Sent"),
        Role::Trash => Some("\\Trash"),
        _ => None,
    }
}

/// Longest patterns of one LIST together: what they cost grows with their length times all names.
const MAX_PATTERN_BYTES: usize = 4 * MailboxName::MAX_LENGTH;

/// One name that a LIST may show.
#[derive(Debug, Clone, Default)]
struct Line {
    /// The mailbox, where one of that name can be opened.
    id: Option<MailboxId>,
    exists: bool,
    role: Option<Role>,
    subscribed: bool,
    children: bool,
    /// Names below it are subscribed to.
    subscribed_below: bool,
}

/// All names, existing or subscribed to, in order.
struct Names(BTreeMap<MailboxName, Line>);

impl Names {
    fn new(mailboxes: Vec<Mailbox>, subscriptions: Vec<MailboxName>) -> Self {
        let mut names: BTreeMap<MailboxName, Line> = BTreeMap::new();
        for mailbox in mailboxes {
            let line = names.entry(mailbox.name.clone()).or_default();
            line.exists = true;
            line.role = mailbox.role;
            line.id = mailbox.selectable.then_some(mailbox.id);
        }
        for name in subscriptions {
            names.entry(name).or_default().subscribed = true;
        }
        let with_parents: Vec<(MailboxName, bool, bool)> =
            names.iter().map(|(name, line)| (name.clone(), line.exists, line.subscribed)).collect();
        for (name, exists, subscribed) in with_parents {
            let mut above = name.parent();
            while let Some(name) = above {
                above = name.parent();
                let line = names.entry(name).or_default();
                line.children |= exists;
                line.subscribed_below |= subscribed;
            }
        }
        Self(names)
    }
}

impl Connection {
    async fn names(&mut self) -> Result<Names, Fault> {
        let session = self.session()?;
        Ok(Names::new(session.mailboxes().await?, session.subscriptions().await?))
    }

    pub(crate) async fn list(&mut self, list: &List) -> Handled {
        // A lone empty pattern asks for the hierarchy's delimiter (RFC 3501, section 6.3.8).
        if !list.extended && list.patterns.iter().all(Vec::is_empty) {
            self.wire.out().text("* LIST (\\Noselect) \"/\" \"\"\r\n");
            return Ok(Reply::ok("one delimiter"));
        }
        let utf8 = self.user()?.utf8;
        let patterns: Vec<String> =
            list.patterns.iter().filter_map(|pattern| decode(&[&list.reference[..], pattern].concat(), utf8)).collect();
        if patterns.iter().map(String::len).sum::<usize>() > MAX_PATTERN_BYTES {
            return Ok(Reply::no("The patterns are too long").code("LIMIT"));
        }
        let names = self.names().await?;
        if list.return_status.contains(&StatusItem::HighestModSeq) {
            self.enable_condstore()?;
        }
        for (name, line) in &names.0 {
            if !patterns.iter().any(|pattern| matches(pattern, name.as_str())) {
                continue;
            }
            let child_info = list.recursive_match && line.subscribed_below;
            let shown = if list.select_subscribed { line.subscribed || child_info } else { line.exists };
            if !shown || list.select_special_use && line.role.and_then(attribute).is_none() {
                continue;
            }
            self.write_line("LIST", name, line, list.select_subscribed || list.return_subscribed, utf8);
            let out = self.wire.out();
            out.text(if child_info { " (\"CHILDINFO\" (\"SUBSCRIBED\"))\r\n" } else { "\r\n" });
            if let Some(id) = line.id
                && !list.return_status.is_empty()
            {
                // The mailbox may have gone since the listing: then there is no status to tell (RFC 5819, section 2).
                match self.write_status(name, id, &list.return_status).await {
                    Ok(()) | Err(Fault::Reply(_)) => {}
                    Err(fault) => return Err(fault),
                }
            }
            self.wire.gathered().await?;
        }
        Ok(Reply::ok("listed"))
    }

    pub(crate) async fn lsub(&mut self, reference: &[u8], pattern: &[u8]) -> Handled {
        let utf8 = self.user()?.utf8;
        let names = self.names().await?;
        let Some(pattern) = decode(&[reference, pattern].concat(), utf8) else {
            return Ok(Reply::ok("none has such a name"));
        };
        if pattern.len() > MAX_PATTERN_BYTES {
            return Ok(Reply::no("The pattern is too long").code("LIMIT"));
        }
        for (name, line) in &names.0 {
            if !matches(&pattern, name.as_str()) {
                continue;
            }
            // With %, a name that is not subscribed to stands for those below it that are (RFC 3501, section 6.3.9).
            let stands_for = !line.subscribed && line.subscribed_below && pattern.contains('%');
            if line.subscribed {
                self.write_line("LSUB", name, line, false, utf8);
            } else if stands_for {
                self.wire.out().text("* LSUB (\\Noselect) \"/\" ");
                self.wire.out().mailbox(name, utf8);
            } else {
                continue;
            }
            self.wire.out().text("\r\n");
            self.wire.gathered().await?;
        }
        Ok(Reply::ok("listed"))
    }

    fn write_line(&mut self, response: &str, name: &MailboxName, line: &Line, subscribed: bool, utf8: bool) {
        let mut attributes: Vec<&str> = Vec::new();
        match (line.exists, line.id) {
            // Nothing of that name is there, but it is subscribed to (RFC 5258, section 3.1). LSUB tells no more than rev1 has.
            (false, _) if response == "LIST" => attributes.push("\\NonExistent"),
            (_, None) => attributes.push("\\Noselect"),
            _ => {}
        }
        attributes.push(if line.children { "\\HasChildren" } else { "\\HasNoChildren" });
        if subscribed && line.subscribed {
            attributes.push("\\Subscribed");
        }
        attributes.extend(line.role.and_then(attribute));
        let out = self.wire.out();
        out.put(format_args!("* {response} ({}) \"/\" ", attributes.join(" ")));
        out.mailbox(name, utf8);
    }
}

/// A pattern as text. `None` where no name can match it.
fn decode(pattern: &[u8], utf8: bool) -> Option<String> {
    if utf8 { String::from_utf8(pattern.to_vec()).ok() } else { utf7::decode(pattern) }
}

/// Whether a name fits a pattern with `*` (anything) and `%` (anything but `/`). INBOX fits in any case.
///
/// Takes time linear in pattern times name, whatever the pattern: all places in the pattern are followed side by side.
fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let inbox = name.strip_prefix("INBOX").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let mut reached = vec![false; pattern.len() + 1];
    reached[0] = true;
    pass_wildcards(&pattern, &mut reached);
    for (index, c) in name.chars().enumerate() {
        let mut next = vec![false; pattern.len() + 1];
        for (at, wanted) in pattern.iter().enumerate().filter(|(at, _)| reached[*at]) {
            match wanted {
                '*' => next[at] = true,
                '%' => next[at] |= c != '/',
                wanted if *wanted == c || inbox && index < 5 && wanted.eq_ignore_ascii_case(&c) => next[at + 1] = true,
                _ => {}
            }
        }
        reached = next;
        if !reached.contains(&true) {
            return false;
        }
        pass_wildcards(&pattern, &mut reached);
    }
    reached[pattern.len()]
}

/// A wildcard may stand for nothing.
fn pass_wildcards(pattern: &[char], reached: &mut [bool]) {
    for (at, wanted) in pattern.iter().enumerate() {
        if reached[at] && matches!(wanted, '*' | '%') {
            reached[at + 1] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, fits) in [
            ("*", "a/b/c", true),
            ("%", "a", true),
            ("%", "a/b", false),
            ("a/%", "a/b", true),
            ("a/%", "a/b/c", false),
            ("a*c", "a/b/c", true),
            ("%/c", "a/c", true),
            ("a", "ab", false),
            ("ab", "a", false),
            ("", "a", false),
            ("inbox", "INBOX", true),
            ("iNbOx/%", "INBOX/a", true),
            ("inboxes", "INBOXES", false),
            ("SENT", "Sent", false),
            ("*%*", "x/y", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_take_linear_time() {
        assert!(!matches(&"*a".repeat(400), &"a".repeat(399)));
    }
}
