//! What is done with a message, by the policy of the domains in From.

use super::arc::ArcFound;
use super::config::{Checked, DmarcMode};
use super::dkim::Word;
use super::scan::Scan;
use mail_auth::dmarc::Policy;
use mail_auth::{DmarcOutput, DmarcResult};

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// It goes where its recipient wants it.
    Take,
    /// It goes to Junk: why.
    Junk(&'static str),
    /// 550 5.7.1, with this text.
    Refuse(String),
}

/// DMARC of one domain.
#[derive(Debug, Clone)]
pub(super) struct DmarcFound {
    pub(super) domain: String,
    pub(super) word: Word,
    pub(super) policy: Asked,
}

/// What a domain asks for where DMARC fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Nothing,
    Quarantine,
    Reject,
}

impl DmarcFound {
    pub(super) fn of(domain: &str, output: &DmarcOutput) -> Self {
        let word = match output.result() {
            DmarcResult::Pass => Word::Pass,
            DmarcResult::Fail(_) => Word::Fail,
            DmarcResult::TempError(_) => Word::TempError,
            DmarcResult::PermError(_) => Word::PermError,
            DmarcResult::None => Word::None,
        };
        let policy = match output.policy() {
            Policy::Reject => Asked::Reject,
            Policy::Quarantine => Asked::Quarantine,
            Policy::None | Policy::Unspecified => Asked::Nothing,
        };
        Self { domain: domain.to_owned(), word, policy }
    }

    /// The answer did not come in time.
    pub(super) fn late(domain: &str) -> Self {
        Self { domain: domain.to_owned(), word: Word::TempError, policy: Asked::Nothing }
    }

    fn fails(&self, asked: Asked) -> bool {
        self.word == Word::Fail && self.policy == asked
    }
}

pub(super) fn decide(config: &Checked, scan: &Scan, dmarc: &[DmarcFound], arc: &ArcFound) -> Action {
    if config.mode != DmarcMode::Honour {
        return Action::Take;
    }
    if scan.from.fields > 1 {
        return Action::Refuse(
            "the message has more than one From field, so it has no sender that could be checked".to_owned(),
        );
    }
    if scan.from.too_many {
        return Action::Refuse("the message's From names too many domains to check".to_owned());
    }
    let vouched = vouched(config, arc);
    if let Some(found) = dmarc.iter().find(|found| found.fails(Asked::Reject))
        && !vouched
    {
        let domain = &found.domain;
        return Action::Refuse(format!("{domain} does not let this host write in its name (DMARC policy: reject)"));
    }
    if dmarc.iter().any(|found| found.fails(Asked::Quarantine)) && !vouched {
        return Action::Junk("the policy of the domain in From is quarantine");
    }
    if scan.from.unreadable {
        return Action::Junk("From names nobody who could be checked");
    }
    Action::Take
}

/// Whether a sealer that the operator trusts says that DMARC passed before the message was changed.
pub(super) fn vouched(config: &Checked, arc: &ArcFound) -> bool {
    let trusted = arc.sealer.as_ref().is_some_and(|sealer| config.trusted_sealers.contains(sealer));
    trusted && arc.word == Word::Pass && arc.saw_dmarc_pass
}
