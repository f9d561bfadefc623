//! The day in a `Date` field (RFC 5322, sections 3.3 and 4.3).

/// Days from 1970-01-01 to the day in a `Date` value as it is written, its time and zone disregarded; `None` where none can be read.
///
/// # Examples
/// ```
/// assert_eq!(mesyx_sdk::mime::sent_day(b"Fri, 2 Jan 1970 23:59:59 -1200"), Some(1));
/// ```
#[must_use]
pub fn sent_day(value: &[u8]) -> Option<i32> {
    let text = str::from_utf8(value.get(..value.len().min(1000))?).ok()?;
    // The name of the day is optional, and tells nothing.
    let text = text.split_once(',').map_or(text, |(_, rest)| rest);
    let mut words = text.split([' ', '\t', '\r', '\n', '-']).filter(|word| !word.is_empty());
    let day: u8 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let named = |name: &str| month.get(..3).is_some_and(|month| month.eq_ignore_ascii_case(name));
    let month = u8::try_from(months.iter().position(|name| named(name))? + 1).ok()?;
    let written = words.next()?;
    let year: i32 = written.parse().ok()?;
    // Years of two and three digits are obsolete (section 4.3).
    let year = match (written.len(), year) {
        (2, 0..50) => year + 2000,
        (2 | 3, _) => year + 1900,
        _ => year,
    };
    let date = time::Date::from_calendar_date(year, month.try_into().ok()?, day).ok()?;
    Some(date.to_julian_day() - time::macros::date!(1970 - 01 - 01).to_julian_day())
}
