//! Opens an OpenPGP message with a secret key: KEY MESSAGE. What was inside goes to standard output.
use pgp::composed::{Deserializable, Message, SignedSecretKey};
use pgp::types::Password;
use std::io::{Read, Write};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(key), Some(message)) = (arguments.next(), arguments.next()) else { return Err("KEY MESSAGE".into()) };
    let key = SignedSecretKey::from_bytes(std::fs::File::open(key).map(std::io::BufReader::new)?)?;
    let message = std::fs::read(message)?;
    let mut opened = Message::from_bytes(&message[..])?.decrypt(&Password::empty(), &key)?;
    let mut clear = Vec::new();
    opened.read_to_end(&mut clear)?;
    std::io::stdout().write_all(&clear)?;
    Ok(())
}
