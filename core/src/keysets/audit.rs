//! What each secret key on this instance opens.

use super::certificate::day;
use super::report::AuditLine;
use crate::core::Core;
use crate::directory::Member;
use crate::errors::stored;
use crate::id::KeysetId;
use crate::keys::{Keyring, held};
use crate::store::{KeysetUse, StoredSecretKey};
use mesyx_sdk::Error;
use openpgp::Cert;
use sequoia_openpgp as openpgp;
use std::collections::BTreeSet;

impl Core {
    /// What each secret key on this instance opens, of one user or of all; and what is sealed to keysets that have none here.
    ///
    /// Counted by keyset, from indexes: no message is read. Needs no password, so that it trusts what the store says of the wrapped
    /// keys; whether they open is seen at the next login.
    ///
    /// # Errors
    /// [`mesyx_sdk::ErrorKind::NotFound`] for an unknown user; as the store's.
    pub async fn keyset_audit(&self, name: Option<&str>) -> Result<Vec<AuditLine>, Error> {
        let directory = self.shared.directory();
        let members = match name {
            Some(name) => vec![self.member(name)?],
            None => directory.addresses.members(),
        };
        let mut lines = Vec::new();
        for member in members {
            let Some(keyring) = directory.keyrings.get(&member.id) else { continue };
            let secrets = self.shared.store.secrets(member.id).await.map_err(stored)?;
            let usage = self.shared.store.keyset_use(member.id).await.map_err(stored)?;
            lines.extend(audit(&member, keyring, &secrets.secret_keys, &usage));
        }
        Ok(lines)
    }
}

fn audit(member: &Member, keyring: &Keyring, secrets: &[StoredSecretKey], usage: &[KeysetUse]) -> Vec<AuditLine> {
    let secret = |id: Option<KeysetId>| secrets.iter().find(|secret| secret.keyset == id);
    let mut lines = vec![identity(member, "identity", keyring.identity(), secret(None))];
    let mut told = BTreeSet::new();
    for certificate in keyring.earlier_identities() {
        let id = crate::id::identity_id(member.id, certificate.fingerprint().as_bytes());
        told.insert(id);
        lines.push(identity(member, "earlier identity", certificate, secret(Some(id))));
    }
    let known = keyring.keysets().iter().map(|keyset| ("keyset", keyset));
    let known = known.chain(keyring.retired().iter().map(|keyset| ("retired keyset", keyset)));
    for (kind, keyset) in known {
        told.insert(keyset.id);
        let all = keyset.certificates().iter().map(|certificate| certificate.fingerprint().to_hex()).collect();
        let line = line(member, kind, Some(keyset.name.clone()), keyset.id, all);
        lines.push(counted(line, keyset.id, secret(Some(keyset.id)), usage));
    }
    // What nothing else is known of: keysets that were removed, or that another instance has.
    let others: BTreeSet<KeysetId> =
        usage.iter().map(|usage| usage.keyset).chain(secrets.iter().filter_map(|secret| secret.keyset)).collect();
    for id in others.difference(&told) {
        let line = line(member, "removed keyset", None, *id, Vec::new());
        lines.push(counted(line, *id, secret(Some(*id)), usage));
    }
    lines
}

fn line(member: &Member, kind: &str, name: Option<String>, id: KeysetId, fingerprints: Vec<String>) -> AuditLine {
    AuditLine {
        user: member.name.clone(),
        kind: kind.to_owned(),
        name,
        id: Some(id.to_string()),
        fingerprints,
        secret_here: false,
        messages: 0,
        bytes: 0,
        first_day: None,
        last_day: None,
    }
}

fn counted(mut line: AuditLine, id: KeysetId, secret: Option<&StoredSecretKey>, usage: &[KeysetUse]) -> AuditLine {
    line.secret_here = secret.is_some();
    if let Some(held) = secret.and_then(held) {
        line.fingerprints = held.iter().map(|held| hex(&held.fingerprint)).collect();
    }
    if let Some(usage) = usage.iter().find(|usage| usage.keyset == id) {
        line.messages = usage.messages;
        line.bytes = usage.bytes;
        line.first_day = Some(day(usage.days.0));
        line.last_day = Some(day(usage.days.1));
    }
    line
}

/// Stored messages are sealed to keysets, never to an identity: it opens PGP mail inside them, and the user's sealed records.
fn identity(member: &Member, kind: &str, certificate: &Cert, secret: Option<&StoredSecretKey>) -> AuditLine {
    let user_id =
        certificate.userids().next().map(|user_id| String::from_utf8_lossy(user_id.userid().value()).into_owned());
    let fingerprints = vec![certificate.fingerprint().to_hex()];
    let line = line(member, kind, user_id, KeysetId([0; 16]), fingerprints);
    AuditLine { id: None, secret_here: secret.is_some(), ..line }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
