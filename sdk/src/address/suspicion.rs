//! Addresses that look like others.

use super::{Domain, MailAddress};
use icu_properties::props::{BidiClass, DefaultIgnorableCodePoint, Script};
use icu_properties::{CodePointMapData, CodePointSetData};
use std::fmt;

/// Why a reader could take an address for another one. A reason to mark it, not to refuse it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Suspicion {
    /// One word has letters of several scripts, beyond the mixtures that are usual in Japanese, Korean and Chinese
    /// (UTS 39, section 5.2, "highly restrictive").
    MixedScripts,
    /// A word in another script is made of letters that look Latin, such as a Cyrillic `сосо`.
    LooksLatin,
    /// Characters that change the direction of writing, or one word with both directions: it shows in another order.
    Bidirectional,
    /// Characters that can't be seen, or blanks other than the usual one.
    Invisible,
}

impl fmt::Display for Suspicion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MixedScripts => "it mixes letters of several scripts",
            Self::LooksLatin => "its letters look Latin but are not",
            Self::Bidirectional => "it changes the direction of writing",
            Self::Invisible => "it has characters that can't be seen",
        })
    }
}

pub(super) fn of_mail(address: &MailAddress) -> Option<Suspicion> {
    let domain = match address.domain() {
        Domain::Name(name) => of_domain(&idna::domain_to_unicode(name).0),
        Domain::Literal(_) => None,
    };
    of_name(address.local()).or(domain)
}

/// The labels of a domain, as U-labels. Under a top-level domain in its own script, a word is what it seems.
pub(super) fn of_domain(unicode: &str) -> Option<Suspicion> {
    let foreign = unicode.rsplit('.').next().is_some_and(|top| !top.is_ascii());
    of_name(unicode).filter(|found| !(foreign && *found == Suspicion::LooksLatin))
}

/// A name of one or several words.
pub(super) fn of_name(name: &str) -> Option<Suspicion> {
    if name.is_ascii() {
        return None;
    }
    of_characters(name).or_else(|| name.split(['.', '+', '=', ' ']).find_map(of_word))
}

fn of_characters(name: &str) -> Option<Suspicion> {
    let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    for c in name.chars() {
        if matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            return Some(Suspicion::Bidirectional);
        }
        if ignorable.contains(c) || (c != ' ' && c.is_whitespace()) {
            return Some(Suspicion::Invisible);
        }
    }
    name.split('.').any(has_both_directions).then_some(Suspicion::Bidirectional)
}

/// The letters of such a word show in another order than they have.
fn has_both_directions(word: &str) -> bool {
    let classes = CodePointMapData::<BidiClass>::new();
    let has = |wanted: &[BidiClass]| word.chars().any(|c| wanted.contains(&classes.get(c)));
    has(&[BidiClass::RightToLeft, BidiClass::ArabicLetter]) && has(&[BidiClass::LeftToRight])
}

fn of_word(word: &str) -> Option<Suspicion> {
    let data = CodePointMapData::<Script>::new();
    let mut scripts: Vec<Script> = word.chars().map(|c| data.get(c)).collect();
    scripts.retain(|script| ![Script::Common, Script::Inherited].contains(script));
    scripts.sort_unstable();
    scripts.dedup();
    let usual: [&[Script]; 3] = [
        &[Script::Latin, Script::Han, Script::Hiragana, Script::Katakana],
        &[Script::Latin, Script::Han, Script::Bopomofo],
        &[Script::Latin, Script::Han, Script::Hangul],
    ];
    let among = |usual: &[Script]| scripts.iter().all(|script| usual.contains(script));
    if scripts.len() > 1 && !usual.into_iter().any(among) {
        return Some(Suspicion::MixedScripts);
    }
    let looks_latin = match scripts.as_slice() {
        [Script::Cyrillic] => "асԁеһіјӏорԛѕԝхуъьҽпгѵѡ",
        [Script::Greek] => "αικνρυωητο",
        _ => return None,
    };
    let alike = |c: char| looks_latin.contains(c) || data.get(c) == Script::Common;
    word.chars().flat_map(char::to_lowercase).all(alike).then_some(Suspicion::LooksLatin)
}
