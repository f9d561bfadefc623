//! What of a message's header block the checks look at, found in one pass: nothing is hashed or asked yet.

use super::config::Checked;
use super::dkim::{DkimFound, Word};
use mail_auth::common::crypto::Algorithm;
use mail_auth::common::verify::VerifySignature;
use mail_auth::{AuthenticatedMessage, arc, dkim};
use mesyx_sdk::Domain;
use mesyx_sdk::mime::{self, Field};
use mesyx_sdk::summary::MailAddressee;
use std::collections::HashSet;

/// Longest signature field that is looked at, in bytes. Real ones have up to 2 KiB.
const LONGEST_FIELD: usize = 16 << 10;
/// Most names in a signature's `h=`: each is looked for among all fields of the message.
const MOST_NAMES: usize = 256;
/// Most domains in From whose policy is asked for.
const MOST_DOMAINS: usize = 4;

/// Fields of which a message has one, and that a reader is shown or that say how the body is to be read (RFC 5322, section 3.6;
/// RFC 2045). A second one beside the signed one would be shown in its place by some programs.
const SINGLE: [&str; 13] = [
    "from",
    "sender",
    "reply-to",
    "to",
    "cc",
    "subject",
    "date",
    "message-id",
    "in-reply-to",
    "references",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
];

/// What was found.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) from: From,
    /// Where the body begins; `None` where a line before it is no field, so that programs may differ on what the header block is.
    body: Option<usize>,
    /// Signatures that are to be verified.
    chosen: Vec<Chosen>,
    /// Signatures that count for nothing, whatever they are worth.
    judged: Vec<DkimFound>,
    pub(super) arc: ArcScan,
}

/// The authors.
#[derive(Debug, Default)]
pub(super) struct From {
    /// How many fields there are.
    pub(super) fields: usize,
    domains: Vec<String>,
    /// It names somebody in no domain that can be asked.
    pub(super) unreadable: bool,
    /// There are more domains than are asked.
    pub(super) too_many: bool,
}

impl From {
    /// Each domain once, in lower-case A-labels, at most [`MOST_DOMAINS`].
    pub(super) fn domains(&self) -> &[String] {
        &self.domains
    }
}

/// A signature to verify.
#[derive(Debug)]
struct Chosen {
    /// Where its field's value begins in the message.
    at: usize,
    key: String,
    covers: bool,
}

/// What there is of ARC (RFC 8617).
#[derive(Debug, Default)]
pub(super) struct ArcScan {
    /// How many sets there seem to be.
    pub(super) sets: usize,
    /// Why they are not looked at.
    pub(super) refused: Option<&'static str>,
    keys: Vec<String>,
}

/// How often the fields of [`SINGLE`] stand in the message.
type Counts = [usize; SINGLE.len()];

impl Scan {
    pub(super) fn of(message: &[u8], config: &Checked) -> Self {
        let body = body_offset(message);
        let fields: Vec<Field<'_>> = mime::fields(message).collect();
        let from = authors(message, &fields);
        let mut counts = Counts::default();
        for field in &fields {
            if let Some(index) = SINGLE.iter().position(|name| field.is(name)) {
                counts[index] += 1;
            }
        }
        let mut scan =
            Self { arc: arc_scan(&fields, config.arc_sets), from, body, chosen: Vec::new(), judged: Vec::new() };
        scan.choose(message, &fields, &counts, config.signatures);
        scan
    }

    /// Chooses among the signatures, of which there are no more than header lines are taken: first those of a domain in From, then in their order.
    fn choose(&mut self, message: &[u8], fields: &[Field<'_>], counts: &Counts, most: usize) {
        let all = fields.iter().filter(|field| field.is("DKIM-Signature"));
        let mut read = Vec::new();
        for field in all {
            read.push((value_offset(message, field), judge(field, counts)));
        }
        let aligned = |judged: &Judged| {
            let domain = judged.signature().map(|signature| signature.d.to_ascii_lowercase()).unwrap_or_default();
            !self.from.domains.iter().any(|author| related(author, &domain))
        };
        read.sort_by_key(|(_, judged)| aligned(judged));
        for (at, judged) in read.into_iter().take(most) {
            match judged {
                Judged::Found(found) => self.judged.push(*found),
                Judged::Verify { signature, covers } => {
                    self.chosen.push(Chosen { at, key: signature.domain_key(), covers });
                }
            }
        }
    }

    /// The names of all public keys that verifying asks for, each once.
    pub(super) fn key_names(&self) -> HashSet<String> {
        let dkim = self.chosen.iter().map(|chosen| &chosen.key);
        dkim.chain(&self.arc.keys).map(|name| name.to_ascii_lowercase()).collect()
    }

    /// Whether there is anything to verify.
    pub(super) fn has_signatures(&self) -> bool {
        !self.chosen.is_empty() || (self.arc.sets > 0 && self.arc.refused.is_none())
    }

    /// What is known of signatures without verifying any.
    pub(super) fn unsigned(&self) -> Vec<DkimFound> {
        self.judged.clone()
    }

    /// Takes out of a parsed message what is not to be verified, and what would ask further questions.
    pub(super) fn narrow(&self, message: &mut AuthenticatedMessage<'_>) {
        let start = message.raw_message.as_ptr() as usize;
        message.errors.clear();
        message.dkim_headers.retain(|header| self.chosen_at(header.value.as_ptr() as usize - start).is_some());
        for header in &mut message.dkim_headers {
            // Reports on failures (RFC 6651) and signatures on behalf of others (RFC 6541) are not asked for.
            header.header.r = false;
            header.header.atps = None;
        }
        if self.arc.refused.is_some() {
            message.ams_headers.clear();
            message.as_headers.clear();
            message.aar_headers.clear();
        }
    }

    /// Whether the signature whose value begins there is to be verified, and then whether it covers what it must.
    pub(super) fn covers(&self, at: usize) -> Option<bool> {
        self.chosen_at(at).map(|chosen| chosen.covers)
    }

    fn chosen_at(&self, at: usize) -> Option<&Chosen> {
        self.chosen.iter().find(|chosen| chosen.at == at)
    }

    /// Whether the verifier takes the same bytes for the body as every reader does.
    pub(super) fn agrees(&self, message: &AuthenticatedMessage<'_>) -> bool {
        self.body == Some(message.body_offset())
    }
}

/// Where a field's value begins in the message that it is a piece of.
fn value_offset(message: &[u8], field: &Field<'_>) -> usize {
    field.value.as_ptr() as usize - message.as_ptr() as usize
}

/// A signature that was read.
enum Judged {
    /// It counts for nothing.
    Found(Box<DkimFound>),
    Verify {
        signature: Box<dkim::Signature>,
        /// It signs every instance of each field that it signs at all.
        covers: bool,
    },
}

impl Judged {
    fn signature(&self) -> Option<&dkim::Signature> {
        match self {
            Self::Found(found) => found.signature.as_ref(),
            Self::Verify { signature, .. } => Some(signature),
        }
    }
}

fn judge(field: &Field<'_>, counts: &Counts) -> Judged {
    let found = |word, why, signature| Judged::Found(Box::new(DkimFound { word, why, signature }));
    if field.value.len() > LONGEST_FIELD {
        return found(Word::PermError, "the signature is too long", None);
    }
    let Ok(signature) = dkim::Signature::parse(field.value) else {
        return found(Word::PermError, "the signature can't be read", None);
    };
    if signature.h.len() > MOST_NAMES {
        return found(Word::PermError, "it names too many fields", Some(signature));
    }
    if has_length(field.value) {
        return found(Word::Policy, "it covers part of the body (l=)", Some(signature));
    }
    if signature.a == Algorithm::RsaSha1 {
        return found(Word::Policy, "SHA-1 is not accepted", Some(signature));
    }
    let signed = |name: &str| signature.h.iter().filter(|signed| signed.trim().eq_ignore_ascii_case(name)).count();
    if signed("from") == 0 {
        return found(Word::PermError, "it does not cover From", Some(signature));
    }
    let covers = SINGLE.iter().zip(counts).all(|(name, &there)| match signed(name) {
        0 => there <= 1,
        signed => there <= signed,
    });
    Judged::Verify { signature: Box::new(signature), covers }
}

/// Whether a signature has the tag `l=`, whatever its value (RFC 6376, section 3.5).
fn has_length(value: &[u8]) -> bool {
    value.split(|&byte| byte == b';').any(|tag| {
        let name = tag.split(|&byte| byte == b'=').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"l")
    })
}

/// Whether one domain is the other one, or above or below it.
fn related(one: &str, other: &str) -> bool {
    let below =
        |name: &str, above: &str| name.strip_suffix(above).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    !other.is_empty() && (below(one, other) || below(other, one))
}

fn authors(message: &[u8], fields: &[Field<'_>]) -> From {
    let mut from = From { fields: fields.iter().filter(|field| field.is("From")).count(), ..From::default() };
    let Ok(addressees) = mime::addresses_in(message, "From") else {
        return From { too_many: true, ..from };
    };
    let mut seen = HashSet::new();
    for addressee in addressees {
        let MailAddressee::Mailbox { domain, .. } = addressee else { continue };
        let domain = std::str::from_utf8(&domain).ok().and_then(|domain| domain.parse::<Domain>().ok());
        match domain {
            Some(Domain::Name(name)) => drop(seen.insert(name.to_string())),
            _ => from.unreadable = true,
        }
    }
    from.too_many = seen.len() > MOST_DOMAINS;
    from.unreadable |= seen.is_empty();
    from.domains = seen.into_iter().collect();
    from.domains.sort_unstable();
    from.domains.truncate(MOST_DOMAINS);
    from
}

/// Where the body begins, if every line before it is a field or goes on with one.
fn body_offset(message: &[u8]) -> Option<usize> {
    let mut at = 0;
    for line in message.split_inclusive(|&byte| byte == b'\n') {
        if line == b"\r\n" {
            return Some(at + line.len());
        }
        let goes_on = matches!(line.first(), Some(b' ' | b'\t'));
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        let begins = name.len() < line.len() && !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
        if !(begins || goes_on && at > 0) {
            return None;
        }
        at += line.len();
    }
    Some(message.len())
}

fn arc_scan(fields: &[Field<'_>], most: usize) -> ArcScan {
    let of = |name: &'static str| fields.iter().filter(move |field| field.is(name));
    let (seals, signatures) = (of("ARC-Seal"), of("ARC-Message-Signature"));
    let sets = seals.clone().count().max(signatures.clone().count()).max(of("ARC-Authentication-Results").count());
    let mut arc = ArcScan { sets, ..ArcScan::default() };
    if sets > most {
        arc.refused = Some("there are too many sets");
        return arc;
    }
    if seals.clone().chain(signatures.clone()).any(|field| field.value.len() > LONGEST_FIELD) {
        arc.refused = Some("a signature is too long");
        return arc;
    }
    let signatures: Vec<_> = signatures.filter_map(|field| arc::Signature::parse(field.value).ok()).collect();
    if signatures.iter().any(|signature| signature.h.len() > MOST_NAMES) {
        arc.refused = Some("a signature names too many fields");
        return arc;
    }
    // Only the last set's own signature is verified, and all the seals.
    let last = signatures.iter().max_by_key(|signature| signature.i).map(VerifySignature::domain_key);
    let seals = seals.filter_map(|field| arc::Seal::parse(field.value).ok());
    arc.keys = seals.map(|seal| seal.domain_key()).chain(last).collect();
    arc
}
