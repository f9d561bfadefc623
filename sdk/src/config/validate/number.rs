//! Bounds of numbers and of counts.

use serde_json::{Map, Number, Value};
use std::cmp::Ordering;

/// What is wrong with a number, if anything.
pub(super) fn out_of_bounds(keywords: &Map<String, Value>, number: &Number) -> Option<String> {
    let format = format_bounds(keywords);
    let bound = |name: &str| {
        keywords.get(name).and_then(Value::as_number).or(match (name, &format) {
            ("minimum", Some((least, _))) => Some(least),
            ("maximum", Some((_, most))) => Some(most),
            _ => None,
        })
    };
    let against = |name: &str| bound(name).map(|bound| (compare(number, bound), bound));
    match (against("minimum"), against("exclusiveMinimum"), against("maximum"), against("exclusiveMaximum")) {
        (Some((Ordering::Less, bound)), ..) => Some(format!("{number} is less than {bound}")),
        (_, Some((Ordering::Less | Ordering::Equal, bound)), ..) => Some(format!("{number} is not more than {bound}")),
        (.., Some((Ordering::Greater, bound)), _) => Some(format!("{number} is more than {bound}")),
        (.., Some((Ordering::Greater | Ordering::Equal, bound))) => Some(format!("{number} is not less than {bound}")),
        _ => None,
    }
}

/// The bounds of a whole number of 32 bits, which a schema of schemars names only by its format.
fn format_bounds(keywords: &Map<String, Value>) -> Option<(Number, Number)> {
    match keywords.get("format")?.as_str()? {
        "int32" => Some((i32::MIN.into(), i32::MAX.into())),
        "uint32" => Some((u32::MIN.into(), u32::MAX.into())),
        _ => None,
    }
}

/// Exact for whole numbers.
fn compare(one: &Number, other: &Number) -> Ordering {
    let whole = |number: &Number| number.as_i128();
    if let (Some(one), Some(other)) = (whole(one), whole(other)) {
        return one.cmp(&other);
    }
    let float = |number: &Number| number.as_f64().unwrap_or(f64::NAN);
    float(one).partial_cmp(&float(other)).unwrap_or(Ordering::Equal)
}

/// ` from 1 to 10`, ` of at least 1`, ` of at most 10`, or nothing.
pub(super) fn bounds(keywords: &Map<String, Value>) -> String {
    let (low, high) = format_bounds(keywords).unzip();
    let bound = |inclusive: &str, exclusive: &str, note: &str| {
        let inclusive = keywords.get(inclusive).map(ToString::to_string);
        inclusive.or_else(|| keywords.get(exclusive).map(|bound| format!("{note} {bound}")))
    };
    let or = |format: Option<Number>| move || format.map(|bound| bound.to_string());
    match (
        bound("minimum", "exclusiveMinimum", "above").or_else(or(low)),
        bound("maximum", "exclusiveMaximum", "below").or_else(or(high)),
    ) {
        (Some(least), Some(most)) => format!(" from {least} to {most}"),
        (Some(least), None) => format!(" of at least {least}"),
        (None, Some(most)) => format!(" of at most {most}"),
        (None, None) => String::new(),
    }
}

/// What is wrong with a count of things, and what to write.
pub(super) fn wrong_count(
    keywords: &Map<String, Value>,
    count: usize,
    (least, most): (&str, &str),
    things: &str,
) -> Option<(String, String)> {
    let bound = |name: &str| keywords.get(name).and_then(Value::as_u64);
    let count = count as u64;
    if let Some(least) = bound(least).filter(|least| count < *least) {
        return Some((format!("it has {count} {things}"), format!("write at least {least}")));
    }
    let most = bound(most).filter(|most| count > *most)?;
    Some((format!("it has {count} {things}"), format!("write at most {most}")))
}
