//! Text without the styles of IRC clients: what a mail shows.

/// The text without bold, italics, underline, strike-through, monospace, reverse, colours and resets.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut clear = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        match first {
            '\x02' | '\x0f' | '\x11' | '\x16' | '\x1d' | '\x1e' | '\x1f' => {}
            '\x03' => rest = colours(rest, 1, 2, |c| c.is_ascii_digit()),
            '\x04' => rest = colours(rest, 6, 6, |c| c.is_ascii_hexdigit()),
            other => clear.push(other),
        }
    }
    clear
}

/// What follows the foreground, and a comma with the background, of `least` to `most` digits each.
fn colours(text: &str, least: usize, most: usize, digit: fn(char) -> bool) -> &str {
    let one = |text: &str| {
        let digits = text.chars().take(most).take_while(|c| digit(*c)).count();
        (digits >= least).then_some(digits)
    };
    let Some(front) = one(text) else { return text };
    let rest = &text[front..];
    match rest.strip_prefix(',').map(|back| (back, one(back))) {
        Some((back, Some(digits))) => &back[digits..],
        _ => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn styles_go_and_text_stays() {
        assert_eq!(plain("\x02b\x02 \x0304,12red\x03 \x03,x \x0399912 \x04FF00FFz\x0f"), "b red ,x 912 z");
        assert_eq!(plain("\x035,five"), ",five");
        assert_eq!(plain("\x04ABCg"), "ABCg");
    }

    proptest! {
        #[test]
        fn any_text_goes_through(text in any::<String>()) {
            prop_assert!(plain(&text).len() <= text.len());
        }
    }
}
