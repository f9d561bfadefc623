//! What each secret key on this instance opens.

use super::report::{AuditLine, Counted};
use crate::core::Core;
use crate::directory::Member;
use crate::errors::stored;
use crate::id::KeysetId;
use crate::keys::{Keyring, listed};
use crate::seal::RecipientId;
use crate::store::{SealedUse, StoredSecretKey};
use mesyx_sdk::Error;
use openpgp::Cert;
use sequoia_openpgp as openpgp;
use std::collections::BTreeSet;

impl Core {
    /// What each secret key on this instance opens, of one user or of all; and what is sealed to keysets that have none here.
    ///
    /// Counted by the keys that session keys are sealed to: no message is read. A message that several secret keys here open is counted
    /// for each. Needs no password, so that it trusts what the store says of the wrapped keys; whether they open is seen at the next login.
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
            let usage = self.shared.store.sealed_use(member.id).await.map_err(stored)?;
            lines.extend(audit(&member, keyring, &secrets.secret_keys, &usage));
        }
        Ok(lines)
    }
}

fn audit(member: &Member, keyring: &Keyring, secrets: &[StoredSecretKey], usage: &[SealedUse]) -> Vec<AuditLine> {
    let opened = Opened::by(secrets);
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
        lines.extend(of_keyset(&line, keyset.id, secret(Some(keyset.id)), usage, &opened));
    }
    // What nothing else is known of: keysets that were removed, or that another instance has.
    let others: BTreeSet<KeysetId> =
        usage.iter().map(|usage| usage.keyset).chain(secrets.iter().filter_map(|secret| secret.keyset)).collect();
    for id in others.difference(&told) {
        let line = line(member, "removed keyset", None, *id, Vec::new());
        lines.extend(of_keyset(&line, *id, secret(Some(*id)), usage, &opened));
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
        opens: Counted::default(),
    }
}

/// What the secret keys here open.
struct Opened {
    /// The keys whose secret parts are here.
    keys: BTreeSet<RecipientId>,
    /// Keysets with a secret key of which it is not known what it opens.
    keysets: BTreeSet<KeysetId>,
}

impl Opened {
    fn by(secrets: &[StoredSecretKey]) -> Self {
        let of_keysets = || secrets.iter().filter_map(|secret| Some((secret.keyset?, &secret.held)));
        Self {
            keys: of_keysets().flat_map(|(_, held)| held).flat_map(|held| held.keys.iter().copied()).collect(),
            keysets: of_keysets().filter(|(_, held)| held.is_empty()).map(|(keyset, _)| keyset).collect(),
        }
    }

    fn any(&self, usage: &SealedUse) -> bool {
        self.keysets.contains(&usage.keyset) || usage.recipients.iter().any(|key| self.keys.contains(key))
    }
}

/// A line for each secret key of a keyset that is here; and one for what no secret key here opens, or where there is none.
fn of_keyset(
    line: &AuditLine,
    id: KeysetId,
    secret: Option<&StoredSecretKey>,
    usage: &[SealedUse],
    opened: &Opened,
) -> Vec<AuditLine> {
    let mut lines = Vec::new();
    let mut here = Vec::new();
    if let Some(secret) = secret {
        let one = |fingerprints: &[String]| AuditLine {
            secret_here: true,
            fingerprints: fingerprints.to_vec(),
            ..line.clone()
        };
        if secret.held.is_empty() {
            here.extend(listed(secret).unwrap_or_default().iter().map(|fingerprint| hex(fingerprint)));
            let shown = if here.is_empty() { &line.fingerprints } else { &here };
            lines.push(counted(one(shown), usage, |usage| usage.keyset == id));
        }
        for held in &secret.held {
            here.push(hex(&held.fingerprint));
            let opens = |usage: &SealedUse| usage.recipients.iter().any(|key| held.keys.contains(key));
            lines.push(counted(one(&[hex(&held.fingerprint)]), usage, opens));
        }
    }
    let elsewhere = line.fingerprints.iter().filter(|fingerprint| !here.contains(fingerprint)).cloned().collect();
    let rest = AuditLine { fingerprints: elsewhere, ..line.clone() };
    let rest = counted(rest, usage, |usage| usage.keyset == id && !opened.any(usage));
    if lines.is_empty() || rest.opens.messages > 0 {
        lines.push(rest);
    }
    lines
}

fn counted(mut line: AuditLine, usage: &[SealedUse], which: impl Fn(&SealedUse) -> bool) -> AuditLine {
    let mut all: Option<(u64, u64, (i32, i32))> = None;
    for usage in usage.iter().filter(|usage| which(usage)) {
        let (messages, bytes, (first, last)) = all.unwrap_or((0, 0, usage.days));
        let days = (first.min(usage.days.0), last.max(usage.days.1));
        all = Some((messages + usage.messages, bytes + usage.bytes, days));
    }
    line.opens = all.map(|(messages, bytes, days)| Counted::of(messages, bytes, days)).unwrap_or_default();
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
