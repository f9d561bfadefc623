//! A user's identity: shown, exported, rotated.

use super::certificate::describe;
use super::report::{EarlierIdentity, IdentityInfo};
use super::rotate::unmade;
use crate::admin::Proof;
use crate::core::Core;
use crate::directory::Member;
use crate::errors::{broken, stored};
use crate::id::identity_id;
use crate::keys::{MasterKey, Profile, generate_identity};
use crate::store::{KeyChange, StoredSecrets, Write};
use mesyx_sdk::{Error, ErrorKind, Secret, Timestamp, UserId};
use openpgp::Cert;
use openpgp::cert::CertRevocationBuilder;
use openpgp::packet::Packet;
use openpgp::serialize::SerializeInto;
use openpgp::types::{ReasonForRevocation, SignatureType};
use sequoia_openpgp as openpgp;
use zeroize::Zeroizing;

impl Core {
    /// The public identity certificate of a user, as binary OpenPGP packets: what is published and pinned by others. No disk is read.
    #[must_use]
    pub fn identity_certificate(&self, user: UserId) -> Option<Vec<u8>> {
        let directory = self.shared.directory();
        directory.keyrings.get(&user)?.identity().to_vec().ok()
    }

    /// What there is to know of a user's identity.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; as the store's.
    pub async fn identity(&self, name: &str) -> Result<IdentityInfo, Error> {
        let member = self.member(name)?;
        let secrets = self.shared.store.secrets(member.id).await.map_err(stored)?;
        let directory = self.shared.directory();
        let keyring = directory.keyrings.get(&member.id).ok_or_else(damaged)?;
        let now = Timestamp::now();
        let identity = keyring.identity();
        let user_ids: Vec<String> =
            identity.userids().map(|id| String::from_utf8_lossy(id.userid().value()).into_owned()).collect();
        let named = |address: &str| {
            identity.userids().any(|id| {
                id.userid().email_normalized().ok().flatten().is_some_and(|known| known.eq_ignore_ascii_case(address))
            })
        };
        let addresses = member.addresses.iter().map(ToString::to_string);
        let here = |id| secrets.secret_keys.iter().any(|secret| secret.keyset == id);
        let open = self.shared.access.open_user(member.id);
        let earlier = keyring.earlier_identities().iter().map(|certificate| EarlierIdentity {
            certificate: describe(certificate, now),
            secret_here: here(Some(identity_id(member.id, certificate.fingerprint().as_bytes()))),
        });
        Ok(IdentityInfo {
            user: member.name.clone(),
            certificate: describe(identity, now),
            user_ids,
            missing_addresses: addresses.filter(|address| !named(address)).collect(),
            secret_here: here(None),
            unlocked: open.is_some_and(|open| open.keys.has_identity(&identity.fingerprint())),
            earlier: earlier.collect(),
        })
    }

    /// A user's public identity certificate, armored; an earlier one by its fingerprint.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub fn export_identity(&self, name: &str, fingerprint: Option<&str>) -> Result<Vec<u8>, Error> {
        let member = self.member(name)?;
        let directory = self.shared.directory();
        let keyring = directory.keyrings.get(&member.id).ok_or_else(damaged)?;
        let mut all = std::iter::once(keyring.identity()).chain(keyring.earlier_identities());
        let found = all.find(|certificate| is_asked(certificate, fingerprint));
        found.ok_or_else(|| no_identity(name))?.armored().to_vec().map_err(unmade)
    }

    /// A user's identity with its secret key, armored and not locked, as a standard OpenPGP transferable secret key.
    ///
    /// # Errors
    /// [`ErrorKind::LoginFailed`], [`ErrorKind::NotFound`] where the secret key is not here.
    pub async fn export_identity_secret(
        &self,
        name: &str,
        fingerprint: Option<&str>,
        proof: Proof,
    ) -> Result<Secret, Error> {
        let member = self.member(name)?;
        let (_, master) = self.open_with(member.id, &proof).await?;
        let secrets = self.shared.store.secrets(member.id).await.map_err(stored)?;
        let directory = self.shared.directory();
        let keyring = directory.keyrings.get(&member.id).ok_or_else(damaged)?;
        let mut all = std::iter::once(keyring.identity()).chain(keyring.earlier_identities());
        let public = all.find(|certificate| is_asked(certificate, fingerprint)).ok_or_else(|| no_identity(name))?;
        let secret = secret_of(member.id, &master, &secrets, public)?;
        let armored = Zeroizing::new(secret.as_tsk().armored().to_vec().map_err(unmade)?);
        tracing::warn!(user = %member.id, "an identity's secret key was exported");
        Ok(Secret::new(armored.to_vec()))
    }

    /// Makes a new identity for a user's present addresses. The old certificate certifies the new one and the new one the old; it
    /// stays known, and its secret key stays here, so that mail to it still opens. `revoke`: the old certificate says besides that
    /// it is superseded, so that nobody encrypts to it any more.
    ///
    /// # Errors
    /// [`ErrorKind::LoginFailed`]; [`ErrorKind::NotFound`] where the secret key of the present identity is not here.
    pub async fn rotate_identity(
        &self,
        name: &str,
        proof: Proof,
        profile: Option<Profile>,
        revoke: bool,
    ) -> Result<IdentityInfo, Error> {
        let one = self.administration.lock().await;
        let member = self.member(name)?;
        let user = member.id;
        let (_, master) = self.open_with(user, &proof).await?;
        let secrets = self.shared.store.secrets(user).await.map_err(stored)?;
        let directory = self.shared.directory();
        let keyring = directory.keyrings.get(&user).ok_or_else(damaged)?;
        let old = secret_of(user, &master, &secrets, keyring.identity())?;
        let profile = profile.unwrap_or(self.shared.settings().keysets.profile);
        let work = {
            let member = Member::clone(&member);
            move || renew(old, &member, profile, revoke)
        };
        let (old, new) = tokio::task::spawn_blocking(work).await.map_err(|error| broken(&error))?.map_err(unmade)?;
        let id = |certificate: &Cert| identity_id(user, certificate.fingerprint().as_bytes());
        let public = |certificate: &Cert| certificate.to_vec().map_err(unmade);
        let mut change = KeyChange::of(user);
        change.identity = Some(public(&new)?);
        change.keep_identities = vec![(id(&old), public(&old)?), (id(&new), public(&new)?)];
        change.put_secret_keys = vec![
            master.wrap(user, None, &new).map_err(unmade)?,
            master.wrap(user, Some(id(&old)), &old).map_err(unmade)?,
        ];
        self.shared.store.write(Write::PutKeys(Box::new(change))).await.map_err(stored)?;
        if let Some(open) = self.shared.access.open_user(user) {
            open.keys.set_identity(new);
        }
        self.shared.refresh().await?;
        drop(one);
        tracing::info!(%user, "a user's identity was rotated");
        self.identity(name).await
    }
}

/// Where no fingerprint is asked for, the first one that is looked at.
fn is_asked(certificate: &Cert, fingerprint: Option<&str>) -> bool {
    let plain = |text: &str| text.replace([' ', ':'], "");
    fingerprint.is_none_or(|asked| certificate.fingerprint().to_hex().eq_ignore_ascii_case(&plain(asked)))
}

fn no_identity(name: &str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("{name} has no identity of that fingerprint; `mesyx identity show` lists them"),
    )
}

fn damaged() -> Error {
    Error::new(ErrorKind::Unavailable, "the user's keyring can't be read; the server's log says why")
}

/// The secret key of an identity, with all that is known of its certificate.
fn secret_of(user: UserId, master: &MasterKey, secrets: &StoredSecrets, public: &Cert) -> Result<Cert, Error> {
    let id = identity_id(user, public.fingerprint().as_bytes());
    let places = secrets.secret_keys.iter().filter(|secret| secret.keyset.is_none_or(|keyset| keyset == id));
    for stored in places {
        for secret in master.unwrap(user, stored).map_err(unmade)? {
            if secret.fingerprint() == public.fingerprint() {
                return secret.merge_public(public.clone()).map_err(unmade);
            }
        }
    }
    let text = format!("the secret key of identity {} is not on this instance", public.fingerprint());
    Err(Error::new(ErrorKind::NotFound, text))
}

/// The old identity and a new one, each certified by the other.
fn renew(old: Cert, member: &Member, profile: Profile, revoke: bool) -> openpgp::Result<(Cert, Cert)> {
    let addresses: Vec<String> = member.addresses.iter().map(ToString::to_string).collect();
    let new = generate_identity(&member.name, &addresses, profile)?;
    let new_signed = certify(&old, new.clone())?;
    let mut old_signed = certify(&new, old)?;
    if revoke {
        let mut signer = old_signed.primary_key().key().clone().parts_into_secret()?.into_keypair()?;
        let reason = format!("replaced by {}", new.fingerprint());
        let revocation = CertRevocationBuilder::new()
            .set_reason_for_revocation(ReasonForRevocation::KeySuperseded, reason.as_bytes())?
            .build(&mut signer, &old_signed, None)?;
        old_signed = old_signed.insert_packets(revocation)?.0;
    }
    Ok((old_signed, new_signed))
}

/// Has `by` say of every user ID of a certificate that it is its owner's own (RFC 9580, section 5.2.1.7).
fn certify(by: &Cert, certificate: Cert) -> openpgp::Result<Cert> {
    let mut signer = by.primary_key().key().clone().parts_into_secret()?.into_keypair()?;
    let mut packets: Vec<Packet> = Vec::new();
    for user_id in certificate.userids() {
        let user_id = user_id.userid();
        let signature = user_id.certify(&mut signer, &certificate, SignatureType::PositiveCertification, None, None)?;
        packets.push(user_id.clone().into());
        packets.push(signature.into());
    }
    Ok(certificate.insert_packets(packets)?.0)
}
