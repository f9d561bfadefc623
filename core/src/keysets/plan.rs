//! Which keyset the coming weeks would use.

use super::RotationPolicy;
use super::report::PlannedWeek;
use super::timeline::{due, segments};
use crate::keys::{Keyring, Period, Span};
use mesyx_sdk::{Importance, Timestamp};

/// Most weeks that are planned: two years.
pub(super) const MOST_WEEKS: u16 = 104;

/// Plans this week and those after it, `weeks` in all.
pub(super) fn plan(keyring: &Keyring, policy: &RotationPolicy, now: Timestamp, weeks: u16) -> Vec<PlannedWeek> {
    let first = Span::of(Period::Week, now);
    let spans = std::iter::successors(Some(first), Span::next).take(usize::from(weeks.min(MOST_WEEKS)));
    spans.map(|week| planned(keyring, policy, week, now)).collect()
}

fn planned(keyring: &Keyring, policy: &RotationPolicy, week: Span, now: Timestamp) -> PlannedWeek {
    let bounds = week.bounds(now);
    let time = bounds.start.max(now.0)..bounds.end;
    let mut problems = Vec::new();
    let mut names = |level: Importance| -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for segment in segments(keyring, level, time.clone()) {
            match &segment.used {
                Some(used) => {
                    if used.id != segment.chosen.id {
                        let text = format!(
                            "keyset {} can't be sealed to then: its messages go to {}",
                            segment.chosen.name, used.name
                        );
                        note(&mut problems, text);
                    }
                    if names.last() != Some(&used.name) {
                        names.push(used.name.clone());
                    }
                }
                None => {
                    let text = format!("no keyset can be sealed to ({level:?}): mail is put off").to_lowercase();
                    note(&mut problems, text);
                }
            }
        }
        names
    };
    let (low, normal, high) = (names(Importance::Low), names(Importance::Normal), names(Importance::High));
    for rule in policy.rules() {
        for span in due(keyring, rule, now, Timestamp(bounds.end - 1)) {
            let missing = span.bounds(now);
            if missing.start < time.end && time.start < missing.end {
                let how = if rule.make { "made by itself when the user logs in" } else { "certificate to be uploaded" };
                note(&mut problems, format!("no keyset for {span} yet ({how})"));
            }
        }
    }
    let from = Timestamp(time.start).utc().date().to_string();
    PlannedWeek { week: week.to_string(), from, low, normal, high, problems }
}

fn note(problems: &mut Vec<String>, text: String) {
    if !problems.contains(&text) {
        problems.push(text);
    }
}
