//! What intake notes of the keys in a message that came: for the next session of its reader, since intake can't read contacts.

use super::autocrypt::{self, Autocrypt};
use super::book::Sighting;
use super::certificate;
use super::compose::header_length;
use super::contact::Source;
use crate::core::Shared;
use mesyx_sdk::summary::{Part, PartKind};
use mesyx_sdk::{Content, Origin, Timestamp, UserId, mime};
use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

/// How far into a message keys are looked for, in bytes: those who attach one attach little else.
const LOOKED_AT: usize = 1 << 20;
/// Most attached keys of one message.
const MOST_ATTACHED: usize = 3;
/// Longest attached key, encoded.
const LONGEST_ATTACHED: u64 = 96 << 10;

/// What was noted a moment ago, so that a correspondent's daily messages are noted once. Emptied when full and every day.
#[derive(Debug, Default)]
pub(crate) struct Noted(Mutex<(i32, HashSet<[u8; 16]>)>);

impl Noted {
    const MOST: usize = 50_000;

    /// Whether it is new today.
    pub(crate) fn is_new(&self, user: UserId, what: &[&[u8]]) -> bool {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        context.update(user.as_bytes());
        for piece in what {
            context.update(&(piece.len() as u64).to_be_bytes());
            context.update(piece);
        }
        let mut hash = [0; 16];
        hash.copy_from_slice(&context.finish().as_ref()[..16]);
        let today = Timestamp::now().day();
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.0 != today || noted.1.len() >= Self::MOST {
            *noted = (today, HashSet::new());
        }
        noted.1.insert(hash)
    }
}

/// A message that may have keys, to be looked at once it is delivered.
#[derive(Debug)]
pub(crate) struct Harvest {
    content: Content,
    authenticated: bool,
    at: Timestamp,
}

impl Shared {
    /// A quick look at a message that came in: most have no keys, and cost no more than this.
    pub(crate) fn keys_in(&self, content: &Content, origin: &Origin, junk: bool, at: Timestamp) -> Option<Harvest> {
        // Our own users' keys are known; mail that its claimed domain disowns says nothing about who writes from there.
        let disowned = origin.checks.iter().any(|check| check == "dmarc=fail");
        if junk
            || disowned
            || origin.authenticated.is_some()
            || !self.settings().pgp.autocrypt
            || !may_have_keys(content)
        {
            return None;
        }
        let authenticated = origin.checks.iter().any(|check| check == "dmarc=pass");
        Some(Harvest { content: content.clone(), authenticated, at })
    }

    /// Notes the keys in a message that was delivered to users, beside everything else.
    pub(crate) fn note_keys(&self, users: &BTreeSet<UserId>, harvest: Option<Harvest>) {
        let (Some(Harvest { content, authenticated, at }), Some(shared)) = (harvest, self.me.upgrade()) else { return };
        let users = users.clone();
        self.runtime.spawn(async move {
            let look = move || sightings(&content, authenticated, at);
            let Ok(found) = tokio::task::spawn_blocking(look).await else { return };
            for user in users {
                for sighting in &found {
                    let Sighting { address, known } = sighting;
                    let source = [known.source as u8, u8::from(known.authenticated)];
                    if !shared.noted.is_new(user, &[address.as_bytes(), known.fingerprint.as_bytes(), &source]) {
                        continue;
                    }
                    if let Err(error) = shared.put_sighting(user, sighting).await {
                        tracing::debug!(%user, %error, "a key in a message was not noted");
                    }
                }
            }
        });
    }
}

/// A quick look, for the messages that have none.
fn may_have_keys(content: &[u8]) -> bool {
    let header = &content[..header_length(content)];
    mime::fields(header).any(|field| field.is("Autocrypt"))
        || content[..content.len().min(LOOKED_AT)]
            .windows(8)
            .any(|window| window[0] | 0x20 == b'p' && window.eq_ignore_ascii_case(b"pgp-keys"))
}

/// The keys of a message's author in the message: from its Autocrypt header, and attached.
pub(crate) fn sightings(content: &Content, authenticated: bool, at: Timestamp) -> Vec<Sighting> {
    let header = &content[..header_length(content)];
    let now = at.0.div_euclid(1000);
    let mut found = Vec::new();
    if let Some(Autocrypt { address, mutual, key }) = autocrypt::find(header)
        && let Ok(mut certificates) = certificate::read(&key)
        && certificates.len() == 1
        && let Some(certificate) = certificates.pop()
        // A key that can't be used would only hold what goes to its owner, and everybody can make one.
        && certificate::usable(&certificate, now).is_ok()
        && let Ok(mut sighting) = Sighting::new(&address, certificate, Source::Autocrypt, at)
    {
        sighting.known.last = effective_date(header, now);
        sighting.known.first = sighting.known.last;
        sighting.known.mutual = mutual;
        sighting.known.authenticated = authenticated;
        found.push(sighting);
    }
    found.extend(attached(content, authenticated, at));
    found
}

/// When the message was sent, as it says, but not in the future (Autocrypt, "effective date").
fn effective_date(header: &[u8], now: i64) -> i64 {
    let date = mime::fields(header).find(|field| field.is("Date")).map(|field| mime::unfold(field.value));
    let date = date.and_then(|date| mail_parser::DateTime::parse_rfc822(&String::from_utf8_lossy(&date)));
    date.map_or(now, |date| date.to_timestamp().min(now))
}

/// Keys in attachments that name the message's author.
fn attached(content: &Content, authenticated: bool, at: Timestamp) -> Vec<Sighting> {
    let header = &content[..header_length(content)];
    let Some(author) = autocrypt::author(header).map(|author| certificate::canonical(&author)) else {
        return Vec::new();
    };
    let Ok(summary) = mime::summarize(content, at, None) else { return Vec::new() };
    let mut parts = Vec::new();
    key_parts(&summary.structure, &mut parts);
    let mut found = Vec::new();
    for part in parts {
        let body = content.slice(part.body.start, part.body.end);
        let Some(bytes) = decoded(&body, &part.encoding) else { continue };
        for certificate in certificate::read(&bytes).unwrap_or_default() {
            if found.len() < MOST_ATTACHED
                && certificate::names(&certificate, &author)
                && let Ok(mut sighting) = Sighting::new(&author, certificate, Source::Seen, at)
            {
                sighting.known.authenticated = authenticated;
                found.push(sighting);
            }
        }
    }
    found
}

fn key_parts<'a>(part: &'a Part, found: &mut Vec<&'a Part>) {
    match &part.kind {
        PartKind::Multipart(parts) => parts.iter().for_each(|part| key_parts(part, found)),
        PartKind::Leaf => {
            let (kind, subkind) = &part.content_type;
            let is_key = kind.eq_ignore_ascii_case(b"application") && subkind.eq_ignore_ascii_case(b"pgp-keys");
            if is_key && found.len() < MOST_ATTACHED && part.body.end - part.body.start <= LONGEST_ATTACHED {
                found.push(part);
            }
        }
        // What was forwarded is not its forwarder's.
        PartKind::Message(..) => {}
    }
}

fn decoded(body: &[u8], encoding: &[u8]) -> Option<Vec<u8>> {
    use base64::Engine;
    if encoding.eq_ignore_ascii_case(b"base64") {
        let digits: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        return base64::engine::general_purpose::STANDARD.decode(digits).ok();
    }
    if encoding.eq_ignore_ascii_case(b"quoted-printable") {
        return mail_parser::decoders::quoted_printable::quoted_printable_decode(body);
    }
    Some(body.to_vec())
}
