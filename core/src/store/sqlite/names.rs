//! Names of mailboxes as shown: each once, whatever two instances called theirs.

use super::StoreError;
use crate::id::role_of_name;
use mesyx_sdk::{Mailbox, MailboxId, MailboxName};
use rusqlite::Connection;
use std::collections::{BTreeMap, BTreeSet};

/// A mailbox with what its rows say of its name.
#[derive(Debug, Clone)]
struct Named {
    id: MailboxId,
    name: String,
    role: Option<String>,
    created: [u8; 28],
}

/// A user's mailboxes, sorted by the names that are shown.
///
/// Of several mailboxes that were given one name by different instances, the one with a special use keeps it, or else
/// the one that was made first; the others show it with ` ~` and the first 8 digits of their id (all 32 where even that
/// is taken). Every instance comes to the same names, since they follow from the operations alone.
pub(super) fn mailboxes(connection: &Connection, user: i64) -> Result<Vec<Mailbox>, StoreError> {
    let mut select = connection.prepare_cached("SELECT mailbox, name, role, created FROM mailboxes WHERE user = ?")?;
    let rows = select.query_map([user], |row| {
        Ok(Named { id: MailboxId(row.get(0)?), name: row.get(1)?, role: row.get(2)?, created: row.get(3)? })
    })?;
    Ok(shown(rows.collect::<Result<_, _>>()?))
}

fn shown(all: Vec<Named>) -> Vec<Mailbox> {
    let mut by_name: BTreeMap<String, Vec<Named>> = BTreeMap::new();
    for named in all {
        // A name that only a foreign instance could have let in is shown as the id.
        let name = MailboxName::new(&named.name).map_or_else(|_| named.id.to_string(), String::from);
        by_name.entry(name).or_default().push(named);
    }
    let taken: BTreeSet<String> = by_name.keys().cloned().collect();
    let mut mailboxes = Vec::new();
    for (name, mut same) in by_name {
        same.sort_by_key(|named| (named.role.is_none(), named.created, named.id));
        for (place, named) in same.into_iter().enumerate() {
            let id = named.id.to_string();
            let shown = if place == 0 {
                name.clone()
            } else {
                let short = suffixed(&name, &id[..8]);
                if taken.contains(&short) { suffixed(&name, &id) } else { short }
            };
            let Ok(name) = MailboxName::new(&shown).or_else(|_| MailboxName::new(&id)) else { continue };
            mailboxes.push(Mailbox {
                id: named.id,
                name,
                role: named.role.as_deref().and_then(role_of_name),
                selectable: true,
            });
        }
    }
    mailboxes.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
    mailboxes
}

fn suffixed(name: &str, digits: &str) -> String {
    let mut end = name.len().min(MailboxName::MAX_LENGTH - digits.len() - 2);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{} ~{digits}", &name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(id: u8, name: &str, role: Option<&str>, created: u8) -> Named {
        Named { id: MailboxId([id; 16]), name: name.to_owned(), role: role.map(str::to_owned), created: [created; 28] }
    }

    fn names(all: Vec<Named>) -> Vec<(u8, String)> {
        shown(all).into_iter().map(|mailbox| (mailbox.id.0[0], mailbox.name.as_str().to_owned())).collect()
    }

    #[test]
    fn the_first_made_keeps_a_name() {
        let expected = vec![(2, "Work".to_owned()), (1, "Work ~01010101".to_owned())];
        assert_eq!(names(vec![named(1, "Work", None, 9), named(2, "Work", None, 3)]), expected);
        assert_eq!(names(vec![named(2, "Work", None, 3), named(1, "Work", None, 9)]), expected);
    }

    #[test]
    fn a_special_use_keeps_its_name() {
        let names = names(vec![named(1, "Sent", None, 1), named(2, "Sent", Some("sent"), 3)]);
        assert_eq!(names, [(2, "Sent".to_owned()), (1, "Sent ~01010101".to_owned())]);
    }

    #[test]
    fn a_suffix_that_is_taken_grows() {
        let all = vec![named(1, "W", None, 1), named(2, "W", None, 2), named(3, "W ~02020202", None, 3)];
        assert_eq!(names(all)[1], (3, "W ~02020202".to_owned()));
    }

    #[test]
    fn a_suffix_fits_the_longest_name() {
        let long = "ü".repeat(500);
        let all = shown(vec![named(1, &long, None, 1), named(2, &long, None, 2)]);
        assert_eq!(all.len(), 2);
        assert!(all.iter().all(|mailbox| mailbox.name.as_str().len() <= 1000));
        assert_ne!(all[0].name, all[1].name);
    }
}
