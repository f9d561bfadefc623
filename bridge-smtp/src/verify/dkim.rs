//! DKIM (RFC 6376): what each signature is worth.

use super::lookups::Lookups;
use super::scan::Scan;
use mail_auth::common::crypto::CryptoError;
use mail_auth::dkim::{DkimError, Signature};
use mail_auth::{AuthenticatedMessage, DkimOutput, DkimResult, DnsError, Error, MessageAuthenticator};

/// A result, as RFC 8601, section 2.7.1, names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Pass,
    Fail,
    /// It verified, and still counts for nothing.
    Policy,
    TempError,
    PermError,
    None,
}

impl Word {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Policy => "policy",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
            Self::None => "none",
        }
    }
}

/// One signature.
#[derive(Debug, Clone)]
pub(super) struct DkimFound {
    pub(super) word: Word,
    /// Why, where it is no pass; in words of ours.
    pub(super) why: &'static str,
    /// The signature, where it could be read.
    pub(super) signature: Option<Signature>,
}

impl DkimFound {
    /// What DMARC is told of it.
    pub(super) fn output(&self) -> Option<DkimOutput<'_>> {
        let signature = self.signature.as_ref()?;
        let late = || Error::Dns(DnsError::Resolver(String::new()));
        match self.word {
            Word::Pass => Some(DkimOutput::pass().with_signature(signature)),
            Word::TempError => Some(DkimOutput::temp_err(late()).with_signature(signature)),
            _ => None,
        }
    }
}

/// Verifies the signatures that `message` was narrowed to, with keys that are known by now.
pub(super) async fn verify(
    resolver: &MessageAuthenticator,
    keys: &Lookups,
    scan: &Scan,
    message: &AuthenticatedMessage<'_>,
) -> Vec<DkimFound> {
    let mut found = scan.unsigned();
    let agrees = scan.agrees(message);
    let start = message.raw_message.as_ptr() as usize;
    let outputs = resolver.verify_dkim(keys.with(message)).await;
    for (header, output) in message.dkim_headers.iter().zip(outputs) {
        let covers = scan.covers(header.value.as_ptr() as usize - start).unwrap_or_default();
        let (word, why) = match worth(output.result()) {
            (Word::Pass, _) if !agrees => (Word::Policy, "the header block has lines that are no fields"),
            (Word::Pass, _) if !covers => (Word::Policy, "a field that it signs stands there more often"),
            worth => worth,
        };
        found.push(DkimFound { word, why, signature: Some(header.header.clone()) });
    }
    found
}

/// What a result of mail-auth is called, and why.
pub(super) fn worth(result: &DkimResult) -> (Word, &'static str) {
    let (DkimResult::Neutral(error)
    | DkimResult::Fail(error)
    | DkimResult::PermError(error)
    | DkimResult::TempError(error)) = result
    else {
        return (if *result == DkimResult::Pass { Word::Pass } else { Word::None }, "");
    };
    match error {
        Error::Dns(DnsError::Resolver(_)) => (Word::TempError, "its key can't be looked up now"),
        Error::Dns(_) => (Word::PermError, "there is no key for it"),
        Error::Crypto(CryptoError::FailedVerification) => (Word::Fail, "the signature does not verify"),
        Error::Dkim(DkimError::FailedBodyHashMatch) => (Word::Fail, "the body was changed"),
        Error::Dkim(DkimError::SignatureExpired) => (Word::Fail, "it has expired"),
        Error::Dkim(DkimError::RevokedPublicKey) => (Word::PermError, "its key was revoked"),
        Error::Dkim(DkimError::SignatureLength) => (Word::Policy, "it covers part of the body (l=)"),
        Error::Arc(mail_auth::arc::ArcError::FailedBodyHashMatch) => (Word::Fail, "the body was changed"),
        Error::Arc(mail_auth::arc::ArcError::SignatureExpired) => (Word::Fail, "it has expired"),
        Error::Arc(_) => (Word::Fail, "the chain is broken"),
        _ if matches!(result, DkimResult::Fail(_)) => (Word::Fail, "the signature does not verify"),
        _ => (Word::PermError, "the signature or its key can't be read"),
    }
}
