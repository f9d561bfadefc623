//! ARC (RFC 8617): what hosts on the way say that they saw.

use super::claim;
use super::dkim::{Word, worth};
use super::lookups::Lookups;
use super::scan::Scan;
use mail_auth::{AuthenticatedMessage, DkimResult, MessageAuthenticator};

/// The chain.
#[derive(Debug, Clone)]
pub(super) struct ArcFound {
    pub(super) word: Word,
    /// Why, where it is no pass.
    pub(super) why: &'static str,
    /// How many sets it has.
    pub(super) sets: usize,
    /// Who made the last seal, in lower case, where the chain holds.
    pub(super) sealer: Option<String>,
    /// The last sealer says that DMARC passed when the message came there.
    pub(super) saw_dmarc_pass: bool,
}

impl ArcFound {
    pub(super) const fn none() -> Self {
        Self { word: Word::None, why: "", sets: 0, sealer: None, saw_dmarc_pass: false }
    }
}

/// Verifies the chain, with keys that are known by now.
pub(super) async fn verify(
    resolver: &MessageAuthenticator,
    keys: &Lookups,
    scan: &Scan,
    message: &AuthenticatedMessage<'_>,
) -> ArcFound {
    let sets = scan.arc.sets;
    if let Some(why) = scan.arc.refused {
        return ArcFound { word: Word::Fail, why, sets, ..ArcFound::none() };
    }
    if sets == 0 {
        return ArcFound::none();
    }
    let output = resolver.verify_arc(keys.with(message)).await;
    let (word, why) = worth(output.result());
    let last = output.sets().last().filter(|_| *output.result() == DkimResult::Pass && scan.agrees(message));
    match (word, last) {
        (Word::Pass, Some(last)) => ArcFound {
            word,
            why,
            sets,
            sealer: Some(last.seal.header.d.to_ascii_lowercase()),
            saw_dmarc_pass: claim::says(last.results.value, "dmarc", "pass"),
        },
        (Word::Pass, None) => ArcFound {
            word: Word::Policy,
            why: "the header block has lines that are no fields",
            sets,
            ..ArcFound::none()
        },
        // What was there and can't be read is no chain.
        (Word::None, _) => ArcFound { word: Word::Fail, why: "the chain is broken", sets, ..ArcFound::none() },
        _ => ArcFound { word, why, sets, ..ArcFound::none() },
    }
}
