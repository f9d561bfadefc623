//! `mesyx init`: a new instance.

use crate::cli::Init;
use crate::config::{RunAs, check, template};
use crate::dns::keys::{self, KeysRequest};
use crate::exit::{Failure, trying};
use crate::serve::{privileges, registry};
use crate::tls;
use mesyx_core::core::Core;
use mesyx_sdk::Domain;
use serde_json::{Value, json};
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// The configuration's name in the instance's directory.
pub(crate) const FILE: &str = "mesyx.toml";

/// Makes the instance.
pub(crate) fn init(init: &Init) -> Result<(), Failure> {
    let name = |text: &str, what: &str| match text.parse::<Domain>() {
        Ok(Domain::Name(name)) => Ok(name.to_string()),
        _ => Err(Failure::with(crate::exit::USAGE, format!("'{text}' is no {what}; write one such as example.org"))),
    };
    let domain = name(&init.domain, "domain")?;
    let hostname = match &init.hostname {
        Some(hostname) => name(hostname, "name of a host")?,
        None => format!("mail.{domain}"),
    };
    let made = tls::self_signed(&[hostname.clone(), domain.clone()]).map_err(trying("the TLS certificate"))?;
    let mut values = json!({
        "hostname": hostname,
        "domains": [&domain],
        "tls": [{ "chain": "tls/chain.pem", "key": "tls/key.pem" }],
    });
    if let Some(user) = &init.user {
        values["run_as"] = json!({ "user": user });
    }
    write(&init.dir, &values, &made)?;
    if let Some(user) = &init.user {
        give(&init.dir, &RunAs { user: user.clone(), group: None })?;
    }
    say!("Made an instance in {}. Next:", init.dir.display());
    say!("  - look at {}", init.dir.join(FILE).display());
    say!("  - replace the self-signed certificate in {}", init.dir.join("tls").display());
    say!("  - keep a copy of {} in a safe place, apart from backups", init.dir.join("instance.key").display());
    let file = init.dir.join(FILE);
    say!("  - mesyx --config {} dns shows the records to publish for {domain}", file.display());
    say!("  - mesyx --config {} user add NAME", file.display());
    say!("  - mesyx --config {} check", file.display());
    say!("  - mesyx --config {} run", file.display());
    Ok(())
}

/// Writes configuration, certificate, instance key and a store that holds nothing but DKIM keys into `dir`. Nothing that exists is overwritten.
pub(crate) fn write(dir: &Path, values: &Value, made: &tls::Made) -> Result<(), Failure> {
    let file = dir.join(FILE);
    for path in [&file, &dir.join("tls"), &dir.join("instance.key"), &dir.join("data")] {
        if path.exists() {
            let text = format!("{} is there already; nothing was changed. Choose another directory", path.display());
            return Err(Failure::new(text));
        }
    }
    directory(dir)?;
    directory(&dir.join("tls"))?;
    new_file(&dir.join("tls/chain.pem"), 0o644, made.chain.as_bytes())?;
    new_file(&dir.join("tls/key.pem"), 0o600, made.key.as_bytes())?;
    let registry = registry();
    new_file(&file, 0o600, template::render(values, &registry).as_bytes())?;
    // What was just written must be right; if not, that is ours to mend, and better seen here than at the start.
    let checked = check::read(&file, &registry)?;
    crate::serve::run::runtime()?.block_on(async {
        Core::create(&checked.core).await?;
        let core = Core::open(checked.core).await?;
        let made = keys::operate(&core, KeysRequest::Add { domain: None }).await;
        core.close().await;
        made.map(drop)
    })
}

/// Makes a directory that only its owner can enter; one that is there stays as it is.
pub(crate) fn directory(path: &Path) -> Result<(), Failure> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(trying(path.display()))
}

/// Writes a file that must not exist.
pub(crate) fn new_file(path: &Path, mode: u32, content: &[u8]) -> Result<(), Failure> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(trying(path.display()))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(trying(path.display()))
}

/// Gives everything in the instance's directory to the user that the server becomes.
fn give(dir: &Path, run_as: &RunAs) -> Result<(), Failure> {
    let (uid, gid) = privileges::ids(run_as)?;
    let mut waiting = vec![dir.to_owned()];
    while let Some(path) = waiting.pop() {
        nix::unistd::chown(&path, Some(uid), Some(gid)).map_err(trying(path.display()))?;
        if path.is_dir() {
            for entry in std::fs::read_dir(&path).map_err(trying(path.display()))? {
                waiting.push(entry.map_err(trying(path.display()))?.path());
            }
        }
    }
    Ok(())
}
