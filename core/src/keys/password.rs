//! The text of passwords: human ones normalised, generated ones written and read.
//!
//! Human passwords follow the OpaqueString profile of RFC 8265, section 4.2, so that one typed on another keyboard is the same:
//! other spaces become U+0020, then NFC; control characters are refused when the password is set. Bytes that are no UTF-8 are taken as they are.
//!
//! Generated passwords are 32 characters of Crockford's base 32 in lower case, shown as `xxxx-xxxx-…`: four that begin the slot's id
//! (they find the slot and are no secret), then 28 random ones: 140 bits. Hyphens and spaces make no difference when reading, nor does
//! case; `o` reads as `0`, `i` and `l` as `1`.

use super::vault::random;
use crate::id::SlotId;
use mesyx_sdk::Secret;
use unicode_normalization::UnicodeNormalization;
use zeroize::{Zeroize, Zeroizing};

/// Why a password can't be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// Fewer than 8 characters.
    #[error("a password has at least 8 characters")]
    TooShort,
    /// More than 1,024 bytes.
    #[error("a password has at most 1024 bytes")]
    TooLong,
    /// A control character in it.
    #[error("a password has no control characters")]
    Control,
    /// It has the form of a generated one, which would never be tried as a human one.
    #[error("this has the form of a generated password: choose another, or make an app password")]
    LooksGenerated,
    /// The Argon2id parameters are out of bounds.
    #[error(transparent)]
    Params(#[from] super::ParamsError),
    /// The program is stopping.
    #[error("the program is stopping")]
    Stopped,
}

/// Shortest human password, in characters (NIST SP 800-63B, section 3.1.1.2).
const SHORTEST: usize = 8;
/// Longest password that is looked at, in bytes.
const LONGEST: usize = 1024;

/// Characters of the slot's prefix and of the whole.
const PREFIX: usize = 4;
const LENGTH: usize = 32;
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A human password as it is hashed.
pub(super) fn normalise(password: &Secret) -> Zeroizing<Vec<u8>> {
    let bytes = &password.expose()[..password.expose().len().min(LONGEST + 1)];
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Zeroizing::new(bytes.to_vec());
    };
    if text.is_ascii() {
        return Zeroizing::new(bytes.to_vec());
    }
    // Room for the worst case, so that no copy is left behind by growing: NFC is at most three times as long in UTF-8.
    let mut out = Zeroizing::new(Vec::with_capacity(3 * bytes.len()));
    let spaces = text.chars().map(|c| if c.is_whitespace() && !c.is_control() { ' ' } else { c });
    for c in spaces.nfc() {
        let mut buffer = [0; 4];
        out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
        buffer.zeroize();
    }
    out
}

/// Checks a human password that is to be set, and normalises it.
pub(super) fn check_new(password: &Secret) -> Result<Zeroizing<Vec<u8>>, PasswordError> {
    if password.expose().len() > LONGEST {
        return Err(PasswordError::TooLong);
    }
    if Generated::read(password).is_some() {
        return Err(PasswordError::LooksGenerated);
    }
    let normal = normalise(password);
    let length = std::str::from_utf8(&normal).map_or(normal.len(), |text| text.chars().count());
    if length < SHORTEST {
        return Err(PasswordError::TooShort);
    }
    if std::str::from_utf8(&normal).is_ok_and(|text| text.contains(char::is_control)) {
        return Err(PasswordError::Control);
    }
    Ok(normal)
}

/// A generated password that was read: the values of its characters, 0 to 31.
pub(super) struct Generated(Zeroizing<[u8; LENGTH]>);

impl Generated {
    /// A fresh one for a slot.
    pub(super) fn new(slot: SlotId) -> Self {
        let mut values: Zeroizing<[u8; LENGTH]> = Zeroizing::new(random());
        values.iter_mut().for_each(|value| *value &= 31);
        values[..PREFIX].copy_from_slice(&prefix(slot));
        Self(values)
    }

    /// Reads one; `None` where the text has another form.
    pub(super) fn read(text: &Secret) -> Option<Self> {
        let mut values = Zeroizing::new([0; LENGTH]);
        let mut count = 0;
        for byte in text.expose() {
            let value = match byte.to_ascii_lowercase() {
                b'-' | b' ' => continue,
                b'o' => 0,
                b'i' | b'l' => 1,
                letter => ALPHABET.iter().position(|known| *known == letter)? as u8,
            };
            *values.get_mut(count)? = value;
            count += 1;
        }
        (count == LENGTH).then_some(Self(values))
    }

    /// Whether it names this slot.
    pub(super) fn names(&self, slot: SlotId) -> bool {
        self.0[..PREFIX] == prefix(slot)
    }

    /// The secret values.
    pub(super) fn secret(&self) -> &[u8] {
        &self.0[PREFIX..]
    }

    /// As it is shown to its user, once.
    pub(super) fn text(&self) -> Secret {
        let mut text = Vec::with_capacity(LENGTH + LENGTH / 4);
        for (index, value) in self.0.iter().enumerate() {
            if index > 0 && index % 4 == 0 {
                text.push(b'-');
            }
            text.push(ALPHABET[usize::from(*value)]);
        }
        Secret::new(text)
    }
}

/// The first 20 bits of a slot's id, five at a time.
fn prefix(slot: SlotId) -> [u8; PREFIX] {
    let bits = u32::from_be_bytes([0, slot.0[0], slot.0[1], slot.0[2]]) >> 4;
    [15, 10, 5, 0].map(|shift| (bits >> shift & 31) as u8)
}
