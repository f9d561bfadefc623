//! `mesyx bridge certificate`: an authority for one remote bridge, which signs two certificates and is forgotten.

use crate::config::locate::Located;
use crate::exit::{Failure, trying};
use crate::init::new_file;
use clap::Args;
use mesyx_bridges::{AUTHORITY, CERTIFICATE, KEY, NAME};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// How long certificates hold; a new pair is made with the same command.
const DAYS: i64 = 5 * 365;

#[derive(Debug, Args)]
pub(crate) struct Certificate {
    /// The bridge.
    name: String,
    /// A name or IP address by which the bridge's host reaches this one. Unless given: the configuration's hostname.
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// The directory to write the bridge's files to, which are then carried to its host. Unless given: bridges/NAME/carry beside
    /// the configuration.
    #[arg(long)]
    to: Option<PathBuf>,
}

pub(super) fn make(config: &Path, wanted: &Certificate) -> Result<(), Failure> {
    let config = std::path::absolute(config).map_err(trying("the configuration's path"))?;
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if wanted.name.is_empty() || !wanted.name.chars().all(good) {
        return Err(Failure::new("a bridge's name has lower-case letters, digits and '-'"));
    }
    let text = fs::read_to_string(&config).map_err(trying(config.display()))?;
    let file = Located::read(&config, &text).value;
    let mut hosts = wanted.hosts.clone();
    if hosts.is_empty() {
        hosts.extend(file["hostname"].as_str().map(str::to_owned));
    }
    let first = hosts.first().cloned().unwrap_or_else(|| "HOST".into());
    hosts.push(NAME.to_owned());
    let made = pair(&wanted.name, &hosts).map_err(trying("the certificates"))?;
    let ours = config.parent().unwrap_or(Path::new("/")).join("bridges").join(&wanted.name);
    let theirs = wanted.to.clone().unwrap_or_else(|| ours.join("carry"));
    directory(&ours)?;
    directory(&theirs)?;
    replace(&ours.join(AUTHORITY), &made.authority)?;
    replace(&ours.join(CERTIFICATE), &made.host.0)?;
    replace(&ours.join(KEY), &made.host.1)?;
    replace(&theirs.join(AUTHORITY), &made.authority)?;
    replace(&theirs.join("bridge.pem"), &made.bridge.0)?;
    replace(&theirs.join("bridge.key"), &made.bridge.1)?;
    belong(&ours, &file)?;
    let port = file["bridge"][&wanted.name]["run"]["remote"].as_str().and_then(|at| at.rsplit(':').next());
    let port = port.unwrap_or("7443");
    say!("Here, {} has this host's side. In the configuration:", ours.display());
    say!("    [bridge.{}]", wanted.name);
    say!("    run = {{ remote = \"0.0.0.0:{port}\" }}");
    say!(
        "Carry {} to the bridge's host, by a way that nobody else can read, and take it away here. There:",
        theirs.display()
    );
    say!("    MESYX_BRIDGE=tls:{first}:{port} MESYX_BRIDGE_NAME={NAME} \\");
    say!("    MESYX_BRIDGE_CA=$PWD/{AUTHORITY} MESYX_BRIDGE_CERT=$PWD/bridge.pem MESYX_BRIDGE_KEY=$PWD/bridge.key \\");
    say!("    PROGRAM");
    say!("For one of Mesyx's own bridges, PROGRAM is: mesyx bridge serve {}", wanted.name);
    Ok(())
}

/// What was made, in PEM: certificates with their keys.
struct Pair {
    authority: String,
    host: (String, Zeroizing<String>),
    bridge: (String, Zeroizing<String>),
}

fn pair(name: &str, hosts: &[String]) -> Result<Pair, rcgen::Error> {
    let named = |names: &[String], common: &str| {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common);
        let now = time::OffsetDateTime::now_utc();
        params.not_before = now - time::Duration::hours(1);
        params.not_after = now + time::Duration::days(DAYS);
        Ok::<_, rcgen::Error>(params)
    };
    let mut params = named(&[], &format!("Mesyx, for the bridge {name}"))?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate()?;
    let authority = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let sign = |mut params: CertificateParams, usage: ExtendedKeyUsagePurpose| {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok::<_, rcgen::Error>((certificate.pem(), Zeroizing::new(key.serialize_pem())))
    };
    let host = sign(named(hosts, "Mesyx")?, ExtendedKeyUsagePurpose::ServerAuth)?;
    // Neither certificate can be shown as the other.
    let names = [format!("{name}.bridge.mesyx.internal")];
    let bridge = sign(named(&names, name)?, ExtendedKeyUsagePurpose::ClientAuth)?;
    Ok(Pair { authority, host, bridge })
}

fn directory(path: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(trying(path.display()))
}

fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(trying(path.display())(error)),
        _ => new_file(path, 0o600, text.as_bytes()),
    }
}

/// What root made belongs to the user that the server is to become.
fn belong(directory: &Path, file: &serde_json::Value) -> Result<(), Failure> {
    let user = file["run_as"]["user"].as_str().and_then(|name| nix::unistd::User::from_name(name).ok().flatten());
    let Some(user) = user.filter(|_| nix::unistd::geteuid().is_root()) else { return Ok(()) };
    let parent = directory.parent().unwrap_or(directory);
    let files = [AUTHORITY, CERTIFICATE, KEY].map(|name| directory.join(name));
    for path in [parent.to_owned(), directory.to_owned()].iter().chain(&files) {
        nix::unistd::chown(path, Some(user.uid), Some(user.gid)).map_err(trying(path.display()))?;
    }
    Ok(())
}
