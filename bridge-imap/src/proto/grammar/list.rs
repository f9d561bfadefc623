//! LIST with its extensions (RFC 5258, 5819, 6154), and what STATUS is asked for.

use super::base::{Input, Parsed, close, eat, expected, fail, mailbox, open, pattern, sp, word};
use crate::proto::command::{List, StatusItem};
use winnow::combinator::separated;
use winnow::prelude::*;

/// Most patterns in one LIST.
const MAX_PATTERNS: usize = 100;

pub(super) fn list(input: &mut Input<'_>) -> Parsed<List> {
    let mut list = List::default();
    if input.first() == Some(&b'(') {
        list.extended = true;
        options(input, |option, _| {
            match option {
                "SUBSCRIBED" => list.select_subscribed = true,
                "SPECIAL-USE" => list.select_special_use = true,
                "RECURSIVEMATCH" => list.recursive_match = true,
                // There are no mailboxes on other servers.
                "REMOTE" => {}
                _ => return fail("SUBSCRIBED, REMOTE, RECURSIVEMATCH or SPECIAL-USE"),
            }
            Ok(())
        })?;
        sp(input)?;
        if list.recursive_match && !list.select_subscribed {
            return fail("SUBSCRIBED beside RECURSIVEMATCH");
        }
    }
    list.reference = mailbox(input)?;
    sp(input)?;
    if eat("(", input) {
        list.extended = true;
        list.patterns = separated(1..=MAX_PATTERNS, pattern, b' ').context(expected("patterns")).parse_next(input)?;
        close(input)?;
    } else {
        list.patterns = vec![pattern(input)?];
    }
    if !input.is_empty() {
        list.extended = true;
        sp(input)?;
        if !eat("RETURN ", input) {
            return fail("RETURN and a list of options");
        }
        options(input, |option, input| {
            match option {
                "SUBSCRIBED" => list.return_subscribed = true,
                // Told with every mailbox anyway.
                "CHILDREN" | "SPECIAL-USE" => {}
                "STATUS" => {
                    sp(input)?;
                    list.return_status = status_items(input)?;
                }
                _ => return fail("SUBSCRIBED, CHILDREN, SPECIAL-USE or STATUS"),
            }
            Ok(())
        })?;
    }
    Ok(list)
}

fn options(input: &mut Input<'_>, mut take: impl FnMut(&str, &mut Input<'_>) -> Parsed<()>) -> Parsed<()> {
    open(input)?;
    while !eat(")", input) {
        let option = word.context(expected("an option")).parse_next(input)?;
        take(&option, input)?;
        if input.first() != Some(&b')') {
            sp(input)?;
        }
    }
    Ok(())
}

pub(super) fn status_items(input: &mut Input<'_>) -> Parsed<Vec<StatusItem>> {
    let item = |input: &mut Input<'_>| {
        Ok(match word(input)?.as_str() {
            "MESSAGES" => StatusItem::Messages,
            "RECENT" => StatusItem::Recent,
            "UIDNEXT" => StatusItem::UidNext,
            "UIDVALIDITY" => StatusItem::UidValidity,
            "UNSEEN" => StatusItem::Unseen,
            "HIGHESTMODSEQ" => StatusItem::HighestModSeq,
            "SIZE" => StatusItem::Size,
            "MAILBOXID" => StatusItem::MailboxId,
            "APPENDLIMIT" => StatusItem::AppendLimit,
            _ => {
                return fail(
                    "MESSAGES, RECENT, UIDNEXT, UIDVALIDITY, UNSEEN, HIGHESTMODSEQ, SIZE, MAILBOXID or APPENDLIMIT",
                );
            }
        })
    };
    open(input)?;
    let items = separated(1..=30, item, b' ').context(expected("what to tell")).parse_next(input)?;
    close(input)?;
    Ok(items)
}
