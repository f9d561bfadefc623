//! Days and date-times as IMAP writes them (RFC 3501, section 9, `date` and `date-time`).

use mesyx_sdk::Timestamp;
use std::fmt;
use time::{Date, Month, PrimitiveDateTime, Time, UtcOffset};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Days since 1970-01-01 of `d-Mon-yyyy`.
pub(crate) fn day(text: &str) -> Option<i32> {
    let date = date(text)?;
    date.to_julian_day().checked_sub(EPOCH_JULIAN_DAY)
}

/// Julian day of 1970-01-01.
const EPOCH_JULIAN_DAY: i32 = 2_440_588;

fn date(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || day.is_empty() || day.len() > 2 || year.len() != 4 {
        return None;
    }
    let month = MONTHS.iter().position(|name| name.eq_ignore_ascii_case(month))?;
    let month = Month::try_from(u8::try_from(month).ok()? + 1).ok()?;
    Date::from_calendar_date(digits(year)?.into(), month, u8::try_from(digits(day)?).ok()?).ok()
}

/// A moment written as `dd-Mon-yyyy hh:mm:ss +zzzz`; a day below 10 may have a space in front.
pub(crate) fn date_time(text: &str) -> Option<Timestamp> {
    let mut words = text.trim_start().split(' ');
    let (day, clock, zone) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || clock.len() != 8 || zone.len() != 5 {
        return None;
    }
    let mut clock = clock.split(':').map(|part| u8::try_from(digits(part)?).ok());
    let time = Time::from_hms(clock.next()??, clock.next()??, clock.next()??).ok()?;
    let (hours, minutes) = (digits(zone.get(1..3)?)?, digits(zone.get(3..5)?)?);
    let seconds = i32::from(hours) * 3600 + i32::from(minutes) * 60;
    let seconds = match zone.as_bytes().first()? {
        b'+' => seconds,
        b'-' => -seconds,
        _ => return None,
    };
    let moment = PrimitiveDateTime::new(date(day)?, time).assume_offset(UtcOffset::from_whole_seconds(seconds).ok()?);
    Some(Timestamp::from_seconds(moment.unix_timestamp()))
}

fn digits(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A moment as `INTERNALDATE` shows it: in UTC, in quotes.
pub(crate) struct InternalDate(pub(crate) Timestamp);

impl fmt::Display for InternalDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = self.0.utc();
        let month = MONTHS[usize::from(u8::from(moment.month())) - 1];
        let (hour, minute, second) = moment.to_hms();
        // A `date-year` has four digits; moments outside of them can come from a damaged message only.
        let year = moment.year().clamp(0, 9999);
        write!(f, "\"{:>2}-{month}-{year:04} {hour:02}:{minute:02}:{second:02} +0000\"", moment.day())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn example_of_rfc_3501() {
        let moment = date_time("17-Jul-1996 02:44:25 -0700").expect("a date");
        assert_eq!(moment.seconds(), 837_596_665);
        assert_eq!(InternalDate(moment).to_string(), "\"17-Jul-1996 09:44:25 +0000\"");
    }

    #[test]
    fn days() {
        assert_eq!(day("1-Jan-1970"), Some(0));
        assert_eq!(day("01-feb-1994"), Some(8797));
        for wrong in ["32-Jan-2000", "1-Foo-2000", "1-Jan-20", "1-Jan", "", "+1-Jan-2000", "1-Jan-2000-"] {
            assert_eq!(day(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn internal_dates_read_back(seconds in -62_000_000_000_i64..250_000_000_000) {
            let written = InternalDate(Timestamp::from_seconds(seconds)).to_string();
            prop_assert_eq!(date_time(written.trim_matches('"')), Some(Timestamp::from_seconds(seconds)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = (day(&text), date_time(&text));
        }
    }
}
