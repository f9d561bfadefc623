//! What was checked, and how it went.

use std::collections::BTreeMap;
use std::fmt;

macro_rules! musts {
    ($($(#[doc = $doc:literal])* $name:ident: $text:literal,)*) => {
        /// A sentence of the contract that the kit checks.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Must {
            $(#[doc = $text] $(#[doc = $doc])* $name,)*
        }

        impl Must {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The sentence.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

musts! {
    ManifestSame: "The manifest is the same at every call.",
    ManifestValid: "The manifest has a name of lower-case letters, digits and '-', a version, one sentence, and names no grant twice.",
    DeliversWithGrant: "A bridge that names kinds of addresses to deliver to asks for the grant 'deliver', and the reverse.",
    SchemaOfObject: "The configuration's schema is a JSON Schema of an object, and fits a configuration that works.",
    BuildPure: "`build` needs no runtime, reads and writes nothing, and is possible while another one of the bridge runs.",
    ErrorsAllAtOnce: "`build` tells all errors of a configuration at once, each with its path and what to write instead.",
    SchemaAgrees: "What does not fit the schema, `build` refuses.",
    BecomesReady: "`run` tells `Health::Ready` when the bridge serves, and serves until it is stopped.",
    EndsInTime: "`run` returns within 10 seconds of `Host::stopped`, also with a message in the middle of being taken.",
    LeavesNothing: "When `run` has returned, no task and no socket of the bridge is left.",
    RunsAgain: "A bridge can be built and run again with the same configuration.",
    NoGrantNoPanic: "Without its grants a bridge fails with a text or serves less; it does not panic or hang.",
    TakesMessages: "A message of the network is brought in once, for its recipient, with its text.",
    NoEarlyYes: "The network is told yes only after `accept` has resolved.",
    ErrorsTold: "An error of `accept` is told to the network: temporary as temporary, permanent as permanent; where it tells senders nothing, what failed for now is brought again.",
    UnknownRefused: "A message to nobody of ours is refused, and not brought in.",
    BackPressure: "When the byte budget is spent, nothing is taken: the sender is told to try later, or waits.",
    SurvivesGarbage: "Whatever bytes come, the bridge neither panics nor ends, and still serves.",
    LoginTold: "A login succeeds with the right password only, and is told 'later' where the host says so.",
    OutcomeEach: "`deliver` gives one outcome for each recipient, in their order, and it is what the network said.",
    ArrivesOnce: "What is told as delivered has arrived, once for each recipient.",
    BeforeDeadline: "`deliver` returns before the job's deadline though the network is silent, with the message deferred.",
    LostLinkDefers: "A connection that broke before the answer defers the message, as one that may have been sent.",
    NeverRetries: "`deliver` is one attempt: what was deferred does not arrive later by itself.",
    NullSender: "A message from the null sender is delivered too.",
    AfterStop: "After the end of `run`, `deliver` still gives an outcome for each recipient, and does not panic.",
}

/// How one sentence fared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It held.
    Held,
    /// It did not: how, one line each.
    Broken(Vec<String>),
    /// It was not checked: why.
    NotChecked(String),
}

/// How every sentence fared.
#[derive(Debug, Clone)]
pub struct Report {
    verdicts: BTreeMap<Must, Verdict>,
    exempt: BTreeMap<Must, &'static str>,
}

impl Report {
    pub(super) fn new(exempt: Vec<(Must, &'static str)>) -> Self {
        Self { verdicts: BTreeMap::new(), exempt: exempt.into_iter().collect() }
    }

    /// Notes one look at a sentence: a failure stays, whatever comes after it.
    pub(super) fn note(&mut self, must: Must, result: Result<(), String>) {
        let verdict = self.verdicts.entry(must).or_insert(Verdict::Held);
        if let Err(how) = result {
            match verdict {
                Verdict::Broken(all) => all.push(how),
                _ => *verdict = Verdict::Broken(vec![how]),
            }
        } else if matches!(verdict, Verdict::NotChecked(_)) {
            *verdict = Verdict::Held;
        }
    }

    pub(super) fn holds(&mut self, must: Must, holds: bool, how: impl FnOnce() -> String) {
        self.note(must, if holds { Ok(()) } else { Err(how()) });
    }

    pub(super) fn skip(&mut self, musts: &[Must], why: &str) {
        for must in musts {
            self.verdicts.entry(*must).or_insert_with(|| Verdict::NotChecked(why.to_owned()));
        }
    }

    /// How one sentence fared.
    #[must_use]
    pub fn verdict(&self, must: Must) -> Verdict {
        if let Some(why) = self.exempt.get(&must) {
            return Verdict::NotChecked((*why).to_owned());
        }
        self.verdicts
            .get(&must)
            .cloned()
            .unwrap_or_else(|| Verdict::NotChecked("the bridge never got so far".to_owned()))
    }

    /// The sentences that did not hold.
    pub fn broken(&self) -> impl Iterator<Item = Must> + '_ {
        Must::ALL.iter().copied().filter(|must| matches!(self.verdict(*must), Verdict::Broken(_)))
    }

    /// Whether nothing was broken.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.broken().next().is_none()
    }

    /// Ends the test where a sentence did not hold, with the whole report.
    ///
    /// # Panics
    /// Then.
    #[allow(clippy::panic, reason = "this is how a test fails")]
    pub fn assert(&self) {
        if !self.is_good() {
            panic!("the bridge breaks its contract\n{self}");
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for must in Must::ALL {
            let text = must.text();
            match self.verdict(*must) {
                Verdict::Held => writeln!(f, "  held    {must:?}: {text}")?,
                Verdict::NotChecked(why) => writeln!(f, "  -       {must:?}: {why}")?,
                Verdict::Broken(all) => {
                    writeln!(f, "  BROKEN  {must:?}: {text}")?;
                    for how in all {
                        writeln!(f, "          {how}")?;
                    }
                }
            }
        }
        Ok(())
    }
}
