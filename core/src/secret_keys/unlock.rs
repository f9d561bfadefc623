//! A keyset's secret key in memory for a while, and the mailbox that it opens.

use crate::access::{OpenKeys, UnlockedView};
use crate::core::{Core, Shared};
use crate::errors::stored;
use crate::keys::{MasterKey, Unlocked};
use crate::store::{Event, StoredSecrets};
use crate::trace::rfc3339;
use mesyx_sdk::{Error, ErrorKind, MailboxName, ModSeq, Secret, Timestamp, UserId};
use sequoia_openpgp::Cert;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Which keyset is to be unlocked, with what, and for how long.
#[derive(Debug)]
pub struct NewUnlock {
    /// The user's login name.
    pub user: String,
    /// The keyset's name or id.
    pub keyset: String,
    /// The secret key: a file as [`Core::export_keyset`] gives it, or any that GnuPG or `sq` export.
    pub file: Secret,
    /// What the file is locked with.
    pub passphrase: Option<Secret>,
    /// For how long: at least a second, at most [`NewUnlock::LONGEST`].
    pub time: Duration,
}

impl NewUnlock {
    /// A week; for longer, bring the key online.
    pub const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
}

/// A keyset that is unlocked for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnlockedKeyset {
    /// The user's login name.
    pub user: String,
    /// The keyset's name.
    pub keyset: String,
    /// The mailbox that shows its messages opened.
    pub mailbox: String,
    /// When it ends, as RFC 3339 in UTC.
    pub until: String,
}

impl Core {
    /// Shows opened copies of an offline keyset's messages in a mailbox `Unlocked/NAME`. The secret key is in memory only, until
    /// the time is over, [`Core::lock_keyset`], or the end of the program. A keyset that is unlocked already begins anew, in a new mailbox.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Invalid`] where the file is refused or fits no certificate of the keyset, the time is out of
    /// bounds, or the keyset's secret key is here anyway.
    pub async fn unlock_keyset(&self, new: NewUnlock) -> Result<UnlockedKeyset, Error> {
        let (member, keyset) = self.user_and_keyset(&new.user, &new.keyset)?;
        let user = member.id;
        if new.time < Duration::from_secs(1) || new.time > NewUnlock::LONGEST {
            return Err(Error::new(
                ErrorKind::Invalid,
                "a keyset is unlocked for a second at least, and a week at most",
            ));
        }
        let certificates = self.shared.read_for(user, &keyset, &new.file, new.passphrase.as_ref()).await?;
        let secrets = self.shared.store.secrets(user).await.map_err(stored)?;
        if let Some(here) = secrets.secret_keys.iter().find(|key| key.keyset == Some(keyset.id)) {
            let known = |cert: &Cert| here.held.iter().any(|held| held.fingerprint == cert.fingerprint().as_bytes());
            if here.held.is_empty() || certificates.iter().all(known) {
                let text = format!("keyset {} is online: its messages are shown opened where they are", keyset.name);
                return Err(Error::new(ErrorKind::Invalid, text));
            }
        }
        let keyring = self.shared.keyring(user)?;
        // Keys of its own: no other mailbox is opened with what is unlocked here.
        let keys = Unlocked::open(user, &MasterKey::random(), &StoredSecrets::default(), &keyring)
            .map_err(|error| super::damaged(&error))?;
        keys.insert(keyset.id, &certificates);
        drop(certificates);
        self.shared.end_unlocks(|view| (view.user, view.keyset) == (user, keyset.id));
        let name = self.view_name(user, &keyset.name).await?;
        let millis = i64::try_from(new.time.as_millis()).unwrap_or(i64::MAX);
        let until = Timestamp(Timestamp::now().0.saturating_add(millis));
        let view = UnlockedView::new((user, keyset.id), name, until, uid_validity(), OpenKeys::new(keys));
        let mailbox = view.mailbox;
        let unlocked = UnlockedKeyset {
            user: member.name.clone(),
            keyset: keyset.name.clone(),
            mailbox: view.name.as_str().to_owned(),
            until: rfc3339(until),
        };
        self.shared.access.views.put(Arc::new(view));
        self.shared.access.feeds.tell(Event::MailboxList(user));
        let shared = Arc::downgrade(&self.shared);
        self.shared.runtime.spawn(async move {
            tokio::time::sleep(new.time).await;
            if let Some(shared) = shared.upgrade() {
                shared.end_unlocks(|view| view.mailbox == mailbox);
            }
        });
        tracing::info!(%user, keyset = %keyset.id, until = unlocked.until, "a keyset was unlocked for a while");
        Ok(unlocked)
    }

    /// Ends the unlocking of a keyset before its time.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such keyset, or it is not unlocked.
    pub fn lock_keyset(&self, name: &str, keyset: &str) -> Result<(), Error> {
        let (member, keyset) = self.user_and_keyset(name, keyset)?;
        match self.shared.end_unlocks(|view| (view.user, view.keyset) == (member.id, keyset.id)) {
            0 => Err(Error::new(ErrorKind::NotFound, format!("keyset {} is not unlocked", keyset.name))),
            _ => Ok(()),
        }
    }

    /// `Unlocked/NAME`, with a number after it where a mailbox has that name.
    async fn view_name(&self, user: UserId, keyset: &str) -> Result<MailboxName, Error> {
        let taken = self.shared.store.mailboxes(user).await.map_err(stored)?;
        let plain: String =
            keyset.chars().map(|c| if c == '/' || c == '%' || c == '*' || c.is_control() { '-' } else { c }).collect();
        for number in 1..100 {
            let text = if number == 1 { format!("Unlocked/{plain}") } else { format!("Unlocked/{plain} {number}") };
            if let Ok(name) = MailboxName::new(&text)
                && !taken.iter().any(|mailbox| mailbox.name == name)
            {
                return Ok(name);
            }
        }
        let text = "the mailbox Unlocked/NAME can't be made: rename the mailboxes that have such names";
        Err(Error::new(ErrorKind::Exists, text))
    }
}

impl Shared {
    /// Ends unlocks: keys and what was opened with them are erased, clients see the mailboxes go. Answers how many.
    pub(crate) fn end_unlocks(&self, which: impl Fn(&UnlockedView) -> bool) -> usize {
        let gone = self.access.views.take(which);
        for view in &gone {
            self.access.forget(view.user);
            self.access.feeds.tell(Event::MailboxList(view.user));
            self.access.feeds.tell(Event::Mailbox(view.user, view.mailbox, ModSeq::MAX >> 1));
            tracing::info!(user = %view.user, keyset = %view.keyset, "a keyset that was unlocked is locked again");
        }
        gone.len()
    }

    /// What is unlocked now, for `status`.
    pub(crate) fn unlocked_keysets(&self) -> Vec<UnlockedKeyset> {
        let directory = self.directory();
        let shown = self.access.views.all().into_iter().map(|view| UnlockedKeyset {
            user: directory.addresses.member(view.user).map(|member| member.name.clone()).unwrap_or_default(),
            keyset: directory
                .keyrings
                .get(&view.user)
                .and_then(|keyring| keyring.get(view.keyset))
                .map_or_else(|| view.keyset.to_string(), |keyset| keyset.name.clone()),
            mailbox: view.name.as_str().to_owned(),
            until: rfc3339(view.until),
        });
        shown.collect()
    }
}

/// The seconds since 1970, or one more than the last: another one each time, also after a restart.
fn uid_validity() -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let now = u32::try_from(Timestamp::now().0 / 1000).unwrap_or(u32::MAX - 1);
    let next = |last: u32| Some(now.max(last.saturating_add(1)));
    let (Ok(last) | Err(last)) = LAST.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
    now.max(last.saturating_add(1))
}
