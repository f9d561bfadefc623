//! What can be asked about identities and keysets, and how it is carried out.

use super::{Hidden, Proof};
use crate::exit::{Failure, trying};
use mesyx_core::core::Core;
use mesyx_core::keys::{Levels, Period, Profile, Span};
use mesyx_core::keysets::{CertificateChange, KeyFile, KeysetChange, KeysetSource, NewKeyset, RotationRule};
use mesyx_sdk::{Importance, Secret, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A request about a user's identity.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "what", deny_unknown_fields)]
pub(crate) enum IdentityRequest {
    /// → `mesyx_core::keysets::IdentityInfo`
    Show { user: String },
    /// → the armored certificate
    Export { user: String, fingerprint: Option<String> },
    /// → the armored secret key
    ExportSecret { user: String, fingerprint: Option<String>, proof: Proof },
    /// → `mesyx_core::keysets::IdentityInfo`
    Rotate { user: String, proof: Proof, profile: Option<String>, revoke: bool },
}

/// A request about a user's keysets. Spans, levels and profiles stand as they are written on the command line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "what", deny_unknown_fields)]
pub(crate) enum KeysetRequest {
    /// → list of `mesyx_core::keysets::KeysetInfo`
    List { user: String },
    /// → list of `mesyx_core::keysets::PlannedWeek`
    Plan { user: String, weeks: u16 },
    /// Whether a new secret key can be kept only with proof. → true or false
    NeedsProof { user: String },
    /// → `mesyx_core::keysets::KeysetInfo`
    Add { user: String, new: Adding, proof: Option<Proof> },
    /// → `mesyx_core::keysets::Removed`
    Remove { user: String, keyset: String, discard: bool },
    /// → `mesyx_core::keysets::KeysetInfo`
    Set {
        user: String,
        keyset: String,
        name: Option<String>,
        span: Option<String>,
        importance: Option<Vec<String>>,
        in_use: bool,
    },
    /// → `mesyx_core::keysets::KeysetInfo`
    Default { user: String, keyset: String },
    /// → `mesyx_core::keysets::KeysetInfo`
    Certificate { user: String, keyset: String, files: Vec<Hidden>, add: bool, replace: Option<String> },
    /// → list of `mesyx_core::keysets::RotationInfo`
    Rotation { user: String },
    /// → list of `mesyx_core::keysets::RotationInfo`
    SetRotation {
        user: String,
        importance: Option<Vec<String>>,
        every: Option<String>,
        profile: Option<String>,
        uploaded: bool,
    },
    /// → list of `mesyx_core::keysets::AuditLine`
    Audit { user: Option<String> },
}

/// A keyset to add.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Adding {
    pub(crate) name: Option<String>,
    pub(crate) span: String,
    pub(crate) importance: Option<Vec<String>>,
    pub(crate) profile: Option<String>,
    /// Armored certificates; with their secret keys where `with_secret`.
    pub(crate) files: Vec<Hidden>,
    pub(crate) with_secret: bool,
}

/// Carries out a request about an identity.
pub(crate) async fn identity(core: &Core, request: IdentityRequest) -> Result<Value, Failure> {
    match request {
        IdentityRequest::Show { user } => json(core.identity(&user).await?),
        IdentityRequest::Export { user, fingerprint } => {
            let armored = core.export_identity(&user, fingerprint.as_deref())?;
            json(String::from_utf8(armored).map_err(trying("the certificate"))?)
        }
        IdentityRequest::ExportSecret { user, fingerprint, proof } => {
            json(Hidden(core.export_identity_secret(&user, fingerprint.as_deref(), proof.into()).await?))
        }
        IdentityRequest::Rotate { user, proof, profile, revoke } => {
            let profile = profile.map(|text| parse::<Profile>(&text)).transpose()?;
            json(core.rotate_identity(&user, proof.into(), profile, revoke).await?)
        }
    }
}

/// Carries out a request about keysets.
pub(crate) async fn keyset(core: &Core, request: KeysetRequest) -> Result<Value, Failure> {
    match request {
        KeysetRequest::List { user } => json(core.keysets(&user).await?),
        KeysetRequest::Plan { user, weeks } => json(core.keyset_plan(&user, weeks, Timestamp::now())?),
        KeysetRequest::NeedsProof { user } => json(core.needs_proof(&user)?),
        KeysetRequest::Add { user, new, proof } => {
            json(core.add_keyset(&user, new_keyset(new)?, proof.map(Into::into)).await?)
        }
        KeysetRequest::Remove { user, keyset, discard } => json(core.remove_keyset(&user, &keyset, discard).await?),
        KeysetRequest::Set { user, keyset, name, span, importance, in_use } => {
            let change = KeysetChange {
                name,
                span: span.map(|text| parse(&text)).transpose()?,
                importance: importance.as_deref().map(levels).transpose()?,
                in_use: in_use.then_some(true),
            };
            json(core.change_keyset(&user, &keyset, change).await?)
        }
        KeysetRequest::Default { user, keyset } => json(core.set_default_keyset(&user, &keyset).await?),
        KeysetRequest::Certificate { user, keyset, files, add, replace } => {
            let how = match (replace, add) {
                (Some(fingerprint), _) => CertificateChange::Replace(fingerprint),
                (None, true) => CertificateChange::Add,
                (None, false) => CertificateChange::Update,
            };
            json(core.change_certificates(&user, &keyset, key_files(files), how).await?)
        }
        KeysetRequest::Rotation { user } => json(core.rotation(&user)?),
        KeysetRequest::SetRotation { user, importance, every, profile, uploaded } => {
            let levels = importance.as_deref().map_or(Ok(Levels::ALL), levels)?;
            let profile = profile.map(|text| parse::<Profile>(&text)).transpose()?;
            let rule = every.map(|every| parse::<Period>(&every)).transpose()?.map(|every| RotationRule {
                levels,
                every,
                profile: profile.unwrap_or_else(|| core.profile()),
                make: !uploaded,
            });
            json(core.set_rotation(&user, levels, rule).await?)
        }
        KeysetRequest::Audit { user } => json(core.keyset_audit(user.as_deref()).await?),
    }
}

fn new_keyset(new: Adding) -> Result<NewKeyset, Failure> {
    let Adding { name, span, importance, profile, files, with_secret } = new;
    let profile = profile.map(|text| parse::<Profile>(&text)).transpose()?;
    let source = match (files.is_empty(), with_secret) {
        (true, _) => KeysetSource::Make(profile),
        (false, false) => KeysetSource::Certificates(key_files(files)),
        (false, true) => KeysetSource::SecretKeys(key_files(files)),
    };
    let importance = importance.as_deref().map_or(Ok(Levels::ALL), levels)?;
    Ok(NewKeyset { name, span: parse::<Span>(&span)?, importance, source })
}

fn key_files(files: Vec<Hidden>) -> Vec<KeyFile> {
    let file = |hidden: Hidden| KeyFile { bytes: Secret::clone(&hidden.0), passphrase: None };
    files.into_iter().map(file).collect()
}

/// Levels of importance, by their names.
pub(crate) fn levels(names: &[String]) -> Result<Levels, Failure> {
    let level = |name: &String| match name.as_str() {
        "low" => Ok(Importance::Low),
        "normal" => Ok(Importance::Normal),
        "high" => Ok(Importance::High),
        _ => Err(Failure::new(format!("there is no importance '{name}'; write some of low, normal, high"))),
    };
    let levels = names.iter().map(level).collect::<Result<Vec<_>, _>>()?;
    Levels::of(&levels).ok_or_else(|| Failure::new("name at least one importance: low, normal, high"))
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(Failure::new)
}

fn json(value: impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(trying("the answer"))
}
