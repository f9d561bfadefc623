//! What the operator decides about the core, already checked by the program.

use crate::pgp::PgpSettings;
use crate::queue::QueueSettings;
use mesyx_sdk::{Domain, MailAddress};
use std::path::PathBuf;
use std::time::Duration;

/// Everything that the core is told at its start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The data directory: store and blobs. Fixed while the core is open.
    pub data_dir: PathBuf,
    /// The file of the instance key, outside the data directory. Fixed while the core is open.
    pub instance_key: PathBuf,
    /// The host's own name, in ASCII. `postmaster` and `abuse` are answered there too.
    pub hostname: String,
    /// The domains that users have addresses in; the first is the primary one. At least one.
    pub domains: Vec<DomainSettings>,
    /// Addresses that stand for users or for other addresses.
    pub aliases: Vec<Alias>,
    /// Characters that end the local part of a user in a subaddress (RFC 5233): `alice+x` is `alice`. Empty: no subaddresses.
    pub separators: Vec<char>,
    /// Who reads what comes to `postmaster` and `abuse` where no user or alias has that address: a login name or an
    /// address of ours. `None`, or nobody of that name: the first user by login name.
    pub postmaster: Option<String>,
    /// Limits on what users and peers may do.
    pub limits: Limits,
    /// Limits on logins.
    pub login: LoginLimits,
    /// The cost of checking a human password.
    pub argon2: Argon2Settings,
    /// For how long one session key may serve the messages of one keyset; at most 60 s. Longer saves public-key work, and lets one
    /// leaked session key open more.
    pub sealing_window: Duration,
    /// Bounds of the caches of opened messages.
    pub caches: Caches,
    /// PGP for mail that leaves.
    pub pgp: PgpSettings,
    /// How messages are brought to other hosts.
    pub queue: QueueSettings,
    /// Limits of groups.
    pub groups: GroupLimits,
    /// Which keys new users get, and how far ahead keysets are looked after.
    pub keysets: KeysetSettings,
}

impl Settings {
    /// Settings with every default, for one domain.
    #[must_use]
    pub fn new(data_dir: PathBuf, instance_key: PathBuf, hostname: String, domain: Domain) -> Self {
        Self {
            data_dir,
            instance_key,
            hostname,
            domains: vec![DomainSettings { domain, catch_all: None }],
            aliases: Vec::new(),
            separators: vec!['+'],
            postmaster: None,
            limits: Limits::default(),
            login: LoginLimits::default(),
            argon2: Argon2Settings::default(),
            sealing_window: Duration::from_secs(10),
            caches: Caches::default(),
            pgp: PgpSettings::default(),
            queue: QueueSettings::default(),
            groups: GroupLimits::default(),
            keysets: KeysetSettings::default(),
        }
    }
}

/// One domain of ours.
#[derive(Debug, Clone)]
pub struct DomainSettings {
    /// The domain.
    pub domain: Domain,
    /// Who takes what is for nobody else there: a login name or an address of ours. `None`: unknown addresses are refused.
    pub catch_all: Option<String>,
}

/// An address that stands for others.
#[derive(Debug, Clone)]
pub struct Alias {
    /// The address, in a domain of ours.
    pub address: MailAddress,
    /// Whom it stands for: login names, or addresses of ours (other aliases too, without loops). At least one.
    pub targets: Vec<String>,
}

/// Limits on what users and peers may do.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest message in bytes, as it came: 50 MiB, which is what large providers take.
    pub message_bytes: usize,
    /// All messages in flight together, in bytes: 256 MiB, five of the largest. Fixed while the core is open.
    pub budget_bytes: usize,
    /// Mailboxes of one user: 5,000; clients list them all.
    pub mailboxes: usize,
    /// Padded bytes of all messages of one user; `None`: no limit. Over it nothing is taken in for the user.
    pub quota_bytes: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_bytes: 50 << 20, budget_bytes: 256 << 20, mailboxes: 5000, quota_bytes: None }
    }
}

/// Limits of groups of users, the channels of chat networks.
#[derive(Debug, Clone)]
pub struct GroupLimits {
    /// Groups on this server, those that nobody belongs to any more but some still read too: 10,000; all are held in memory, some KiB each.
    pub groups: usize,
    /// Members of one group: 1,000, since each new key is sealed for all of them.
    pub members: usize,
    /// Groups that one user belongs to: 500; clients list them all.
    pub groups_of_one: usize,
    /// Masks on one list: 100, as networks have it; each is compared with whoever joins or speaks.
    pub masks: usize,
    /// Longest topic, in bytes: 390; networks allow 300 to 400, and one line of IRC takes 512.
    pub topic_bytes: usize,
    /// Longest name, in bytes with its `#`: 50, and never more, since it is the local part of a mail address too, where some characters take three.
    pub name_bytes: usize,
    /// Lines that one key seals: 1,000, so that one leaked key opens no more.
    pub epoch_lines: u32,
    /// For how long one key serves: 1 h, for the same reason.
    pub epoch: Duration,
}

impl Default for GroupLimits {
    fn default() -> Self {
        Self {
            groups: 10_000,
            members: 1000,
            groups_of_one: 500,
            masks: 100,
            topic_bytes: 390,
            name_bytes: 50,
            epoch_lines: 1000,
            epoch: Duration::from_secs(3600),
        }
    }
}

/// Limits on logins.
#[derive(Debug, Clone)]
pub struct LoginLimits {
    /// Failures of one client address (IPv6: its /64), or against one user from clients that never logged in as that user,
    /// before each further one must wait: 5. People mistype twice or thrice; a program with an old password tries a few times.
    pub free_failures: u32,
    /// The first wait: 1 s, doubled with each failure.
    pub first_wait: Duration,
    /// The longest wait: 5 min, which leaves a guesser 288 tries a day.
    pub longest_wait: Duration,
    /// After this time without a failure, the count starts anew: 30 min.
    pub forget_after: Duration,
    /// Sessions of one user at once: 200, several devices with a connection for each mailbox.
    pub sessions_per_user: usize,
    /// How long a user's keys stay open after the last session ended: 60 s, so that a client that reconnects for each
    /// check does not cost an Argon2 run each time. Zero closes them at once.
    pub grace: Duration,
}

impl Default for LoginLimits {
    fn default() -> Self {
        Self {
            free_failures: 5,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(300),
            forget_after: Duration::from_secs(1800),
            sessions_per_user: 200,
            grace: Duration::from_secs(60),
        }
    }
}

/// Argon2id parameters (RFC 9106) for human passwords that are set from now on; old ones keep theirs.
#[derive(Debug, Clone, Copy)]
pub struct Argon2Settings {
    /// Memory, in KiB: 64 MiB (the second choice of RFC 9106, section 4).
    pub memory_kib: u32,
    /// Passes over the memory: 3.
    pub passes: u32,
    /// Lanes: 4.
    pub lanes: u32,
}

impl Default for Argon2Settings {
    fn default() -> Self {
        Self { memory_kib: 64 << 10, passes: 3, lanes: 4 }
    }
}

/// Which keys are made, and how far ahead keysets are looked after.
#[derive(Debug, Clone, Copy)]
pub struct KeysetSettings {
    /// The kind of certificates that new users get, and new keysets and identities where nothing else is asked for.
    pub profile: crate::keys::Profile,
    /// How often the keysets of new users are renewed; `None`: they have one for all time. Those of others stay as they are.
    pub rotation: Option<crate::keys::Period>,
    /// How many days before it begins a rotation makes a keyset: 28, so that an instance where nobody is unlocked for two weeks
    /// has it in time all the same.
    pub ahead_days: u16,
    /// How many days ahead of a missing keyset or a certificate's expiry somebody is told: 14.
    pub warn_days: u16,
}

impl Default for KeysetSettings {
    fn default() -> Self {
        Self { profile: crate::keys::Profile::V4, rotation: None, ahead_days: 28, warn_days: 14 }
    }
}

/// Bounds of the caches of opened messages, over all users together. What they hold goes with the user's last session.
#[derive(Debug, Clone)]
pub struct Caches {
    /// Opened summaries, in bytes: 64 MiB, some 20,000 messages.
    pub summary_bytes: usize,
    /// Opened bodies, kept for clients that fetch one large message piece by piece, in bytes: 64 MiB.
    pub body_bytes: usize,
}

impl Default for Caches {
    fn default() -> Self {
        Self { summary_bytes: 64 << 20, body_bytes: 64 << 20 }
    }
}
