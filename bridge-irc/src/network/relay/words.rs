//! What a relay says, in which words.

use super::tie::Tie;
use mesyx_irc_codec::split;
use mesyx_sdk::Verb;

/// Most lines that one text may become outside; the rest is in the group.
const MOST_LINES: usize = 20;
/// Longest name that is shown, in bytes.
const LONGEST_NAME: usize = 64;
/// What keeps a name from being somebody's nick: a zero width space, as relays of other makes do it.
const APART: char = '\u{200b}';

/// The lines that a text becomes in a channel, each with its speaker's name in front.
///
/// `taken`: somebody in the channel has that nick, and must not be called by each line of another person's.
pub(crate) fn lines(verb: Verb, nick: &str, taken: bool, text: &str, room: usize) -> Vec<Vec<u8>> {
    let mut name = name(nick);
    if taken {
        name.insert(name.chars().next().map_or(0, char::len_utf8), APART);
    }
    let prefix = match verb {
        Verb::Action => format!("* {name} "),
        Verb::Notice => format!("-{name}- "),
        _ => format!("<{name}> "),
    };
    // CTCP would be a question to the channel.
    let text: String = text.chars().map(|c| if matches!(c, '\u{1}' | '\0') { ' ' } else { c }).collect();
    let pieces: Vec<_> = split::pieces(text.as_bytes(), room.saturating_sub(prefix.len())).collect();
    let line = |piece: &[u8]| [prefix.as_bytes(), piece].concat();
    if pieces.len() <= MOST_LINES {
        return pieces.into_iter().map(line).collect();
    }
    let rest = pieces.len() - (MOST_LINES - 1);
    let more = format!("[{rest} more lines, which are too many for here]");
    pieces[..MOST_LINES - 1].iter().map(|piece| line(piece)).chain([line(more.as_bytes())]).collect()
}

/// A name that can't be taken for anything but a name, nor for another one by what can't be seen in it.
fn name(nick: &str) -> String {
    let unseen = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let shown = |c: char| if c.is_whitespace() || "<>".contains(c) { '_' } else { c };
    let mut name: String = nick.chars().filter(|c| !unseen(*c)).map(shown).collect();
    name.truncate(name.floor_char_boundary(LONGEST_NAME));
    if name.is_empty() { "?".to_owned() } else { name }
}

/// The first words in a channel that allows it.
pub(crate) fn began_outside(group: &str, domain: &str, channel: &str) -> String {
    format!(
        "I am a relay: what is said in {channel} is told to the group {group} on {domain} and kept by its members, and what is said there is \
         told here. Operators end it by taking my voice, or by removing me."
    )
}

/// The last words in a channel that still allows it.
pub(crate) fn ended_outside(group: &str, why: &str) -> String {
    format!("I relay nothing between here and the group {group} any more: {why}.")
}

/// The same in the group.
pub(crate) fn began_inside(channel: &str, network: &str, nick: &str) -> String {
    format!(
        "This group is relayed to {channel} on the IRC network {network}: what is said here is told there by {nick}, for everybody to read, \
         and what is said there is told here."
    )
}

/// The same in the group.
pub(crate) fn ended_inside(channel: &str, network: &str, why: &str) -> String {
    format!("This group is not relayed to {channel} on {network} any more: {why}.")
}

/// What could not be said outside.
pub(crate) fn unsaid(channel: &str, network: &str, why: &str) -> String {
    format!("Not everything said here was told in {channel} on {network}: {why}")
}

/// What it says of itself in private.
pub(super) fn about(nick: &str, network: &str, domain: &str, ties: &[Tie]) -> Vec<String> {
    let mut lines = vec![format!(
        "I am a relay of {domain}, and nobody reads what is written to me. To reach somebody there, write to the nick that they have on {network}."
    )];
    for tie in ties {
        let (channel, group) = (&tie.channel, tie.group());
        lines.push(match tie.is_on() {
            true => format!("{channel} is relayed to the group {group}. Its operators end that by taking my voice, or by removing me."),
            false if tie.allowed() => format!("{channel} would be relayed to the group {group}, which is not open to all now."),
            false => format!(
                "{channel} is not relayed to the group {group}: I say and tell nothing until an operator allows it by /mode {channel} +v {nick}, \
                 or by the word relay:{nick} in a topic that only operators can set."
            ),
        });
    }
    lines
}

/// Whether somebody tries to begin OTR.
pub(crate) fn is_otr(raw: &[u8]) -> bool {
    raw.starts_with(b"?OTR")
}

/// What is answered to that.
pub(crate) const NO_OTR: &str = "OTR is not here: I am a relay, and what is written to me goes nowhere.";
