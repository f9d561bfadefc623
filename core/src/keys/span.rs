//! Spans of time that a keyset covers.

use mesyx_sdk::Timestamp;
use minicbor::{Decode, Encode};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use time::{Date, Month, Weekday};

/// A span of time in UTC, half-open: it holds its first instant, and not the first one after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Span {
    /// All time.
    #[n(0)]
    Always,
    /// From one instant until another; without an end where `None`. Milliseconds since 1970.
    #[n(1)]
    Between {
        /// The first instant.
        #[n(0)]
        from: Option<i64>,
        /// The first instant after it.
        #[n(1)]
        until: Option<i64>,
    },
    /// A calendar year.
    #[n(2)]
    Year(#[n(0)] i32),
    /// A month of a year, 1 to 12.
    #[n(3)]
    Month(#[n(0)] i32, #[n(1)] u8),
    /// A week as ISO 8601 counts them, from Monday on: the year that the week belongs to, and its number, 1 to 53.
    #[n(4)]
    Week(#[n(0)] i32, #[n(1)] u8),
    /// The last so many days up to now, wherever now is: for what comes in, and for imports of recent messages.
    #[n(5)]
    LastDays(#[n(0)] u16),
    /// The calendar week, month or year that now is in, wherever now is: what comes in, and imports of the same week.
    #[n(6)]
    Current(#[n(0)] Period),
}

/// How long a keyset of a rotation lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Period {
    /// From Monday to Sunday.
    #[n(0)]
    Week,
    /// A calendar month.
    #[n(1)]
    Month,
    /// A calendar year.
    #[n(2)]
    Year,
}

impl fmt::Display for Period {
    /// `week`, `month`, `year`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        })
    }
}

impl FromStr for Period {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        match text {
            "week" => Ok(Self::Week),
            "month" => Ok(Self::Month),
            "year" => Ok(Self::Year),
            _ => Err(SpanError("a period is week, month or year")),
        }
    }
}

/// The text or record is not a span: why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a span of time: {0}; write always, 2026, 2026-03, 2026-W09, weekly, monthly, yearly, last-7-days or 2026-01-15..2026-03-01"
)]
pub struct SpanError(pub(super) &'static str);

const DAY: i64 = 86_400_000;

impl Span {
    /// Whether it holds the instant `at`, when it is `now`.
    #[must_use]
    pub fn covers(&self, at: Timestamp, now: Timestamp) -> bool {
        self.bounds(now).contains(&at.0)
    }

    /// The instants that it holds when it is `now`, in milliseconds since 1970; `i64::MIN` and `i64::MAX` where it has no bound.
    #[must_use]
    pub fn bounds(&self, now: Timestamp) -> Range<i64> {
        match *self {
            Self::Always => i64::MIN..i64::MAX,
            Self::Between { from, until } => from.unwrap_or(i64::MIN)..until.unwrap_or(i64::MAX),
            Self::Year(year) => range(first_of(year, 1), first_of(year + 1, 1)),
            Self::Month(year, 12) => range(first_of(year, 12), first_of(year + 1, 1)),
            Self::Month(year, month) => range(first_of(year, month), first_of(year, month + 1)),
            Self::Week(year, week) => {
                let monday = Date::from_iso_week_date(year, week, Weekday::Monday).ok();
                range(monday, monday.and_then(|monday| monday.checked_add(time::Duration::weeks(1))))
            }
            // A sender's clock that runs ahead of ours by less than a day is still now.
            Self::LastDays(days) => {
                now.0.saturating_sub(i64::from(days).saturating_mul(DAY))..now.0.saturating_add(DAY)
            }
            Self::Current(period) => Self::of(period, now).bounds(now),
        }
    }

    /// How long it is, in milliseconds; what is shorter is more specific.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::LastDays(days) => u64::from(*days) * DAY as u64,
            // The longest that it may be, so that its rank does not change with the time.
            Self::Current(Period::Week) => 7 * DAY as u64,
            Self::Current(Period::Month) => 31 * DAY as u64,
            Self::Current(Period::Year) => 366 * DAY as u64,
            _ => {
                let bounds = self.bounds(Timestamp(0));
                bounds.end.abs_diff(bounds.start)
            }
        }
    }

    /// Whether it moves with the time.
    #[must_use]
    pub const fn rolls(&self) -> bool {
        matches!(self, Self::LastDays(_) | Self::Current(_))
    }

    /// The week, month or year that holds an instant.
    #[must_use]
    pub fn of(period: Period, at: Timestamp) -> Self {
        let date = at.utc().date();
        match period {
            Period::Year => Self::Year(date.year()),
            Period::Month => Self::Month(date.year(), date.month().into()),
            Period::Week => {
                let (year, week, _) = date.to_iso_week_date();
                Self::Week(year, week)
            }
        }
    }

    /// The span of the same kind right after this one, where there is such a thing: what a rotation makes next.
    #[must_use]
    pub fn next(&self) -> Option<Self> {
        let period = match self {
            Self::Year(_) => Period::Year,
            Self::Month(..) => Period::Month,
            Self::Week(..) => Period::Week,
            _ => return None,
        };
        Some(Self::of(period, Timestamp(self.bounds(Timestamp(0)).end)))
    }

    /// The same span, where its numbers make sense.
    ///
    /// # Errors
    /// A month 13, a week that the year does not have, a span that ends before it begins.
    pub fn checked(self) -> Result<Self, SpanError> {
        let year = |year: i32| (1..=9998).contains(&year);
        let good = match self {
            Self::Always => true,
            Self::Between { from, until } => {
                (from.is_some() || until.is_some())
                    && from.is_none_or(|from| until.is_none_or(|until| from < until))
                    && [from, until].iter().flatten().all(|at| *at != i64::MIN && *at != i64::MAX)
            }
            Self::Year(y) => year(y),
            Self::Month(y, month) => year(y) && (1..=12).contains(&month),
            Self::Week(y, week) => year(y) && Date::from_iso_week_date(y, week, Weekday::Monday).is_ok(),
            Self::LastDays(days) => days > 0,
            Self::Current(_) => true,
        };
        if good { Ok(self) } else { Err(SpanError("there is no such time")) }
    }
}

fn first_of(year: i32, month: u8) -> Option<Date> {
    Date::from_calendar_date(year, Month::try_from(month).ok()?, 1).ok()
}

fn millis(date: Date) -> i64 {
    date.midnight().assume_utc().unix_timestamp() * 1000
}

/// Empty where a date is none.
fn range(from: Option<Date>, until: Option<Date>) -> Range<i64> {
    match (from, until) {
        (Some(from), Some(until)) => millis(from)..millis(until),
        _ => 0..0,
    }
}

impl fmt::Display for Span {
    /// As [`FromStr`] reads it; instants that are no midnight are shown with their time and can't be read back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = |f: &mut fmt::Formatter<'_>, at: Option<i64>| match at.map(|at| Timestamp(at).utc()) {
            None => Ok(()),
            Some(at) if at.time() == time::Time::MIDNIGHT => write!(f, "{}", at.date()),
            Some(at) => write!(f, "{}T{}Z", at.date(), at.time()),
        };
        match *self {
            Self::Always => f.write_str("always"),
            Self::Between { from, until } => {
                instant(f, from)?;
                f.write_str("..")?;
                instant(f, until)
            }
            Self::Year(year) => write!(f, "{year:04}"),
            Self::Month(year, month) => write!(f, "{year:04}-{month:02}"),
            Self::Week(year, week) => write!(f, "{year:04}-W{week:02}"),
            Self::LastDays(days) => write!(f, "last-{days}-days"),
            Self::Current(Period::Week) => f.write_str("weekly"),
            Self::Current(Period::Month) => f.write_str("monthly"),
            Self::Current(Period::Year) => f.write_str("yearly"),
        }
    }
}

impl FromStr for Span {
    type Err = SpanError;

    /// Reads `always`, `2026`, `2026-03`, `2026-W09`, `weekly`, `monthly`, `yearly`, `last-7-days`, `last-week`, and days with `..` between (either may be missing).
    fn from_str(text: &str) -> Result<Self, SpanError> {
        let bad = || SpanError("it has another form");
        let number = |text: &str, digits: usize| {
            let good = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u16>().ok().filter(|_| good).ok_or_else(bad)
        };
        let day = |text: &str| -> Result<Option<i64>, SpanError> {
            if text.is_empty() {
                return Ok(None);
            }
            let mut pieces = text.splitn(3, '-');
            let (Some(year), Some(month), Some(day)) = (pieces.next(), pieces.next(), pieces.next()) else {
                return Err(bad());
            };
            let (year, month, day) = (number(year, 4)?, number(month, 2)?, number(day, 2)?);
            let month = Month::try_from(month as u8).map_err(|_| bad())?;
            let date = Date::from_calendar_date(i32::from(year), month, day as u8);
            date.map(|date| Some(millis(date))).map_err(|_| SpanError("there is no such day"))
        };
        let span = if text == "always" {
            Self::Always
        } else if text == "last-week" {
            Self::LastDays(7)
        } else if text == "weekly" {
            Self::Current(Period::Week)
        } else if text == "monthly" {
            Self::Current(Period::Month)
        } else if text == "yearly" {
            Self::Current(Period::Year)
        } else if let Some(days) = text.strip_prefix("last-").and_then(|rest| rest.strip_suffix("-days")) {
            Self::LastDays(days.parse().map_err(|_| bad())?)
        } else if let Some((from, until)) = text.split_once("..") {
            Self::Between { from: day(from)?, until: day(until)? }
        } else if let Some((year, week)) = text.split_once("-W") {
            Self::Week(i32::from(number(year, 4)?), number(week, 2)? as u8)
        } else if let Some((year, month)) = text.split_once('-') {
            Self::Month(i32::from(number(year, 4)?), number(month, 2)? as u8)
        } else {
            Self::Year(i32::from(number(text, 4)?))
        };
        span.checked()
    }
}
