//! DANE for SMTP (RFC 7672): which TLSA records count, and which certificates they name.

use mesyx_net::Tlsa;
use ring::digest::{SHA256, SHA512, digest};
use rustls::client::danger::ServerCertVerified;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, SignatureVerificationAlgorithm, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};

/// DANE-TA: the certificate of an authority.
const TRUST_ANCHOR: u8 = 2;
/// DANE-EE: the host's own certificate.
const END_ENTITY: u8 = 3;

/// The records that can be used for SMTP. Usages 0 and 1 can't (RFC 7672, section 3.1.3), nor can those that are malformed.
pub(crate) fn usable(records: &[Tlsa]) -> Vec<Tlsa> {
    let fits = |record: &&Tlsa| {
        let length = match record.matching {
            0 => !record.data.is_empty(),
            1 => record.data.len() == 32,
            2 => record.data.len() == 64,
            _ => false,
        };
        matches!(record.usage, TRUST_ANCHOR | END_ENTITY) && record.selector <= 1 && length
    };
    let mut usable: Vec<Tlsa> = records.iter().filter(fits).cloned().collect();
    usable.sort();
    usable
}

/// Whether one of `records` names the certificate, or one that signed it.
///
/// A record of usage 3 names the host's certificate by itself: neither its names nor its dates matter (RFC 7672, section 3.1.1).
/// One of usage 2 names an authority in the chain; then the certificate must be valid now, and for one of `names`
/// (section 3.1.2).
pub(crate) fn verify(
    records: &[Tlsa],
    names: &[String],
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> Result<ServerCertVerified, Error> {
    if records.iter().any(|record| record.usage == END_ENTITY && names_certificate(record, end_entity)) {
        return Ok(ServerCertVerified::assertion());
    }
    let mut roots = RootCertStore::empty();
    for record in records.iter().filter(|record| record.usage == TRUST_ANCHOR) {
        for certificate in intermediates {
            if names_certificate(record, certificate) {
                // One that can't be an authority just does not count.
                let _ = roots.add(certificate.clone().into_owned());
            }
        }
        if record.selector == 0 && record.matching == 0 {
            // The record holds the whole certificate, which need not be in the chain.
            let _ = roots.add(CertificateDer::from(record.data.clone()));
        }
    }
    if roots.is_empty() {
        return Err(CertificateError::ApplicationVerificationFailure.into());
    }
    let parsed = ParsedCertificate::try_from(end_entity)?;
    verify_server_cert_signed_by_trust_anchor(&parsed, &roots, intermediates, now, algorithms)?;
    let fits = |name: &String| {
        ServerName::try_from(name.as_str()).is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
    };
    if names.iter().any(fits) {
        return Ok(ServerCertVerified::assertion());
    }
    Err(CertificateError::NotValidForName.into())
}

fn names_certificate(record: &Tlsa, certificate: &CertificateDer<'_>) -> bool {
    let matches = |selected: &[u8]| match record.matching {
        0 => selected == record.data,
        1 => digest(&SHA256, selected).as_ref() == record.data,
        2 => digest(&SHA512, selected).as_ref() == record.data,
        _ => false,
    };
    match record.selector {
        0 => matches(certificate),
        1 => ParsedCertificate::try_from(certificate).is_ok_and(|parsed| matches(&parsed.subject_public_key_info())),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PublicKeyData};

    struct Chain {
        leaf: CertificateDer<'static>,
        leaf_key: Vec<u8>,
        authority: CertificateDer<'static>,
        authority_key: Vec<u8>,
    }

    fn chain(name: &str) -> Chain {
        let mut params = CertificateParams::new(vec!["Authority".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority_key = key.subject_public_key_info();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        Chain {
            leaf: leaf.der().clone(),
            leaf_key: key.subject_public_key_info(),
            authority: issuer.der().clone(),
            authority_key,
        }
    }

    fn record(usage: u8, selector: u8, matching: u8, of: &[u8]) -> Tlsa {
        let data = match matching {
            1 => digest(&SHA256, of).as_ref().to_vec(),
            2 => digest(&SHA512, of).as_ref().to_vec(),
            _ => of.to_vec(),
        };
        Tlsa { usage, selector, matching, data }
    }

    fn check(records: &[Tlsa], chain: &Chain, names: &[&str]) -> Result<(), Error> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let provider = rustls::crypto::ring::default_provider();
        let now = UnixTime::now();
        let intermediates = [chain.authority.clone()];
        let algorithms = provider.signature_verification_algorithms.all;
        verify(&usable(records), &names, &chain.leaf, &intermediates, now, algorithms).map(|_| ())
    }

    #[test]
    fn the_host_is_named_by_certificate_or_key() {
        let (chain, other) = (chain("mx.example.net"), chain("mx.example.net"));
        for matching in 0..=2 {
            for (selector, of, wrong) in [(0, &*chain.leaf, &*other.leaf), (1, &*chain.leaf_key, &*other.leaf_key)] {
                // The name does not matter.
                assert!(check(&[record(3, selector, matching, of)], &chain, &["another.example"]).is_ok());
                assert!(check(&[record(3, selector, matching, wrong)], &chain, &["mx.example.net"]).is_err());
                let both = [record(3, selector, matching, wrong), record(3, selector, matching, of)];
                assert!(check(&both, &chain, &[]).is_ok(), "one that fits is enough");
            }
        }
        // The authority's key in a record for the host says nothing.
        assert!(check(&[record(3, 1, 1, &chain.authority_key)], &chain, &["mx.example.net"]).is_err());
    }

    #[test]
    fn an_authority_vouches_for_names() {
        let (chain, other) = (chain("mx.example.net"), chain("mx.example.net"));
        for matching in 0..=2 {
            for (selector, of, wrong) in
                [(0, &*chain.authority, &*other.authority), (1, &*chain.authority_key, &*other.authority_key)]
            {
                let right = [record(2, selector, matching, of)];
                assert!(check(&right, &chain, &["example.net", "mx.example.net"]).is_ok());
                let mismatch = Error::from(CertificateError::NotValidForName);
                assert_eq!(check(&right, &chain, &["example.net"]).unwrap_err(), mismatch);
                assert!(check(&[record(2, selector, matching, wrong)], &chain, &["mx.example.net"]).is_err());
            }
        }
        // A foreign leaf under the named authority's certificate in the chain.
        let mixed = Chain { leaf: other.leaf, ..chain };
        assert!(check(&[record(2, 0, 1, &mixed.authority)], &mixed, &["mx.example.net"]).is_err());
    }

    #[test]
    fn other_records_are_not_used() {
        let good = record(3, 1, 1, b"x");
        for (usage, selector, matching) in [(0, 1, 1), (1, 1, 1), (4, 1, 1), (3, 2, 1), (3, 1, 3)] {
            let odd = Tlsa { usage, selector, matching, ..good.clone() };
            assert_eq!(usable(&[odd, good.clone()]), std::slice::from_ref(&good));
        }
        let short = Tlsa { data: vec![1; 31], ..good };
        assert!(usable(&[short]).is_empty());
    }
}
