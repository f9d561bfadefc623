//! What of us anybody may ask for: our domains, and the certificates of our users in a Web Key Directory
//! (draft-koch-openpgp-webkey-service-21).

use crate::core::{Core, Known};
use mesyx_sdk::UserId;
use openpgp::serialize::MarshalInto;
use ring::digest;
use sequoia_openpgp as openpgp;
use std::collections::HashMap;
use std::sync::Arc;

/// The certificates of all users by the names under which a Web Key Directory has them. It stands still: make it anew where
/// [`Published::is_current`] says no.
pub struct Published {
    known: Arc<Known>,
    /// By domain and hashed local part: whose, and the address in lower case.
    by_hash: HashMap<(String, String), (UserId, String)>,
}

impl std::fmt::Debug for Published {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Published({} addresses)", self.by_hash.len())
    }
}

impl Core {
    /// Our domains as A-labels, the primary one first.
    #[must_use]
    pub fn domains(&self) -> Vec<String> {
        self.shared.settings().domains.iter().filter_map(|domain| domain.domain.as_name().map(str::to_owned)).collect()
    }

    /// The directory of our users' certificates, as they are now.
    #[must_use]
    pub fn published(&self) -> Published {
        Published::new(self.shared.directory())
    }
}

impl Published {
    /// An address is published where it is a user's own and stands in a user id of the user's certificate. Aliases and
    /// subaddresses are not: no user id names them.
    fn new(known: Arc<Known>) -> Self {
        let mut by_hash = HashMap::new();
        for member in known.addresses.members() {
            let Some(keyring) = known.keyrings.get(&member.id) else { continue };
            let named: Vec<String> =
                keyring.identity().userids().filter_map(|user_id| address_of(user_id.userid())).collect();
            for address in &member.addresses {
                let text = address.to_string().to_lowercase();
                let Some(domain) = address.domain().as_name().filter(|_| named.contains(&text)) else { continue };
                by_hash.insert((domain.to_owned(), wkd_hash(address.local())), (member.id, text));
            }
        }
        Self { known, by_hash }
    }

    /// Whether nothing of the users has changed since.
    #[must_use]
    pub fn is_current(&self, core: &Core) -> bool {
        Arc::ptr_eq(&self.known, &core.shared.directory())
    }

    /// The certificate of the address in `domain` (A-labels) whose local part has this [`wkd_hash`], in binary: public
    /// parts alone, and of its user ids only those of this address. Revoked and expired ones too, so that others learn it.
    #[must_use]
    pub fn certificate(&self, domain: &str, hash: &str) -> Option<Vec<u8>> {
        let (user, address) = self.by_hash.get(&(domain.to_owned(), hash.to_owned()))?;
        let certificate = self.known.keyrings.get(user)?.identity().as_ref().clone();
        let certificate = certificate
            .strip_secret_key_material()
            .retain_userids(|user_id| address_of(user_id.userid()).as_ref() == Some(address))
            .retain_user_attributes(|_| false);
        certificate.export_to_vec().ok()
    }
}

/// The address in a user id, in lower case, its domain in A-labels.
fn address_of(user_id: &openpgp::packet::UserID) -> Option<String> {
    let text = user_id.email().ok()??;
    Some(text.parse::<mesyx_sdk::MailAddress>().ok()?.to_string().to_lowercase())
}

/// The name of a local part in a Web Key Directory: SHA-1 of it in lower case (ASCII letters alone), in z-base-32.
#[must_use]
pub fn wkd_hash(local: &str) -> String {
    const ALPHABET: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, local.to_ascii_lowercase().as_bytes());
    // 20 bytes are 32 times 5 bits, so nothing is left over.
    let five = |bytes: &[u8]| {
        let bits = bytes.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        (0..8).map(move |index| char::from(ALPHABET[(bits >> (35 - 5 * index) & 31) as usize])).collect::<String>()
    };
    hash.as_ref().chunks(5).map(five).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::{Directory, Member};
    use crate::keys::{Keyring, Levels, Profile, Span, generate_keyset};
    use crate::settings::Settings;
    use openpgp::Cert;
    use openpgp::cert::{CertBuilder, CipherSuite};
    use openpgp::parse::Parse;

    /// From the draft, section 3.1.
    #[test]
    fn the_hash_of_the_draft() {
        assert_eq!(wkd_hash("Joe.Doe"), "iy9q119eutrkn8s1mk4r39qejnbu3n5q");
    }

    /// Somebody with two addresses in the certificate, a third that is not in it, and one there that is not theirs here.
    fn published() -> Published {
        let ids = ["Ann <ann@example.org>", "Ann <a.nn@example.org>", "Ann <ann@elsewhere.example>"];
        let builder = ids.into_iter().fold(CertBuilder::new(), CertBuilder::add_userid);
        let builder = builder.set_cipher_suite(CipherSuite::Cv25519).add_transport_encryption_subkey();
        let (identity, _) = builder.generate().unwrap();
        assert!(identity.is_tsk());
        let (keyset, _) = generate_keyset("default", Span::Always, Levels::ALL, Profile::V4).unwrap();
        let id = UserId::random();
        let addresses = ["Ann@example.org", "a.nn@example.org", "third@example.org"].map(|text| text.parse().unwrap());
        let member = Member { id, name: "ann".into(), addresses: addresses.to_vec(), disabled: false };
        let settings = Settings::new("d".into(), "k".into(), "mail.example.org".into(), "example.org".parse().unwrap());
        let keyring = Keyring::new(identity, vec![keyset]).unwrap();
        Published::new(Arc::new(Known {
            addresses: Directory::new(&settings, vec![member]),
            keyrings: HashMap::from([(id, Arc::new(keyring))]),
            ..Known::default()
        }))
    }

    #[test]
    fn a_certificate_shows_the_address_that_was_asked_for_and_no_other() {
        let published = published();
        for (local, id) in [("ANN", "Ann <ann@example.org>"), ("a.nn", "Ann <a.nn@example.org>")] {
            let bytes = published.certificate("example.org", &wkd_hash(local)).unwrap();
            let certificate = Cert::from_bytes(&bytes).unwrap();
            let ids: Vec<_> = certificate.userids().map(|id| id.userid().to_string()).collect();
            assert_eq!(ids, [id]);
            assert!(!certificate.is_tsk(), "no secret part");
            assert_eq!(certificate.keys().count(), 2, "with its subkey");
        }
        for (domain, local) in [("example.org", "third"), ("elsewhere.example", "ann"), ("example.org", "ann+x")] {
            assert_eq!(published.certificate(domain, &wkd_hash(local)), None, "{local}@{domain}");
        }
    }
}
