//! Opening sealed parts: who took them in, what they are, then their clear content; on all cores.

use super::lru::Lru;
use super::opened::OpenUser;
use super::views::Place;
use super::{Access, SummaryKey, lock, pgp, unreadable};
use crate::core::Shared;
use crate::errors::broken;
use crate::id::{KeysetId, SessionKeyId};
use crate::instance::VerifiedAttestation;
use crate::seal::{OpenError, PartContext, PartName, Sealed, SealedSessionKey, SessionKey, open_body, open_summary};
use crate::store::{Attestation, Shown, StoredPart, part_digest};
use futures_util::future::join_all;
use mesyx_sdk::{Content, Error, ErrorKind, MailboxId, MessageId, Summary, Timestamp, Uid, UserId, mime};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// A summary, and whether it is the message's own or stands in for one that can't be opened.
#[derive(Debug, Clone)]
pub(crate) struct OpenedSummary {
    pub(crate) summary: Arc<Summary>,
    pub(crate) readable: bool,
}

/// A body, and whether it is the message's own.
pub(crate) struct OpenedBody {
    pub(crate) uid: Uid,
    pub(crate) content: Content,
    pub(crate) readable: bool,
}

/// Attestations whose signature was verified, by SHA-256 over all of them.
pub(crate) struct Attestations(Mutex<Lru<[u8; 32], Option<Arc<VerifiedAttestation>>>>);

impl Default for Attestations {
    fn default() -> Self {
        // In digests: 200,000 of them take some 10 MB.
        Self(Mutex::new(Lru::new(200_000)))
    }
}

impl std::fmt::Debug for Attestations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Attestations")
    }
}

impl Attestations {
    /// The attestation, verified; `None` where no instance that we know signed it.
    fn verify(&self, attestation: &Attestation, public_key: &[u8]) -> Option<Arc<VerifiedAttestation>> {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        context.update(&attestation.instance.0);
        context.update(&(attestation.signature.len() as u64).to_be_bytes());
        context.update(&attestation.signature);
        context.update(&attestation.digests);
        let mut key = [0; 32];
        key.copy_from_slice(context.finish().as_ref());
        if let Some(known) = lock(&self.0).get(&key) {
            return known;
        }
        let verified = VerifiedAttestation::verify(attestation, public_key).map(Arc::new);
        lock(&self.0).put(key, verified.clone(), attestation.digests.len() / 32 + 1);
        verified
    }
}

impl Access {
    /// Whether an instance that we know signed for a part.
    pub(crate) fn attested(&self, user: UserId, part: &StoredPart, name: PartName, public_key: &[u8]) -> bool {
        let digest = part_digest(user, part.message, name, &part.part);
        self.attestations.verify(&part.attestation, public_key).is_some_and(|verified| verified.covers(&digest))
    }
}

/// Why a part is not shown opened.
#[derive(Debug, Clone)]
enum Trouble {
    /// It is to be shown sealed.
    Sealed(KeysetId),
    /// It is to be shown opened, and its keyset's secret key has not come yet, or has just gone.
    Absent,
    Damaged(String),
}

impl From<OpenError> for Trouble {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Offline(_) => Self::Absent,
            error => Self::Damaged(error.to_string()),
        }
    }
}

type Keys = HashMap<SessionKeyId, Result<Arc<SessionKey>, Trouble>>;

/// Below this many sealed bytes a batch is opened where it is, since another thread would cost more than it saves.
const INLINE_BYTES: usize = 16 << 10;

/// Messages that are looked at at once for a listing, where they are PGP mail.
const PGP_AT_ONCE: usize = 8;

/// Opens parts for one user.
#[derive(Clone)]
pub(crate) struct Opener {
    pub(crate) shared: Arc<Shared>,
    pub(crate) keys: Arc<OpenUser>,
}

impl Opener {
    fn user(&self) -> UserId {
        self.keys.member.id
    }

    /// The summaries of `uids`, in order; those that are not there are left out.
    pub(crate) async fn summaries(&self, mailbox: MailboxId, uids: &[Uid]) -> Result<Vec<(Uid, OpenedSummary)>, Error> {
        let (user, access) = (self.user(), &self.shared.access);
        let epoch = access.epoch();
        let place = access.place(user, mailbox);
        let parts = place.summaries(&*self.shared.store, uids).await?;
        let mut found: Vec<(Uid, Option<OpenedSummary>)> = Vec::with_capacity(parts.len());
        let mut sealed = Vec::new();
        {
            let mut cache = lock(&access.summaries);
            for part in parts {
                let known = cache.get(&cache_key(user, &part));
                found.push((part.uid, known.clone()));
                if known.is_none() {
                    sealed.push(part);
                }
            }
        }
        if sealed.is_empty() {
            return Ok(found.into_iter().filter_map(|(uid, summary)| Some((uid, summary?))).collect());
        }
        let opened = self.open_all(&place, sealed, PartName::Summary, open_summary).await?;
        let mut fresh: HashMap<Uid, OpenedSummary> = HashMap::with_capacity(opened.len());
        let mut shown = Vec::with_capacity(opened.len());
        let mut opened = opened.into_iter().peekable();
        while opened.peek().is_some() {
            // Side by side, since PGP mail is decrypted for its summary; a few at a time, since it is held for that.
            let place = &place;
            let some = opened.by_ref().take(PGP_AT_ONCE).map(|(part, result)| async move {
                let summary = match result {
                    Ok(summary) => Some(self.shown_summary(place, &part, summary).await?),
                    // `None`: it went, or is shown otherwise under another UID by now.
                    Err(trouble) => self.stand_in(place, &part, &trouble).await?,
                };
                Ok::<_, Error>((part, summary))
            });
            shown.extend(join_all(some).await);
        }
        for result in shown {
            let (part, Some(summary)) = result? else { continue };
            // What stands in while a key is on its way is looked at again the next time.
            if summary.readable || part.shown == Shown::Sealed {
                access.keep_summary(epoch, cache_key(user, &part), summary.clone(), weigh(&summary.summary));
            }
            fresh.insert(part.uid, summary);
        }
        Ok(found
            .into_iter()
            .filter_map(|(uid, summary)| Some((uid, summary.or_else(|| fresh.remove(&uid))?)))
            .collect())
    }

    /// The bodies of `uids` from the front, until `max_bytes` are gathered.
    pub(crate) async fn bodies(
        &self,
        mailbox: MailboxId,
        uids: &[Uid],
        max_bytes: u64,
    ) -> Result<Vec<OpenedBody>, Error> {
        let place = self.shared.access.place(self.user(), mailbox);
        let parts = place.bodies(&*self.shared.store, uids, max_bytes).await?;
        let mut bodies = Vec::with_capacity(parts.len());
        for (part, result) in self.open_all(&place, parts, PartName::Body, open_body).await? {
            let uid = part.uid;
            let (content, readable) = match result {
                Ok(content) => (self.shown_body(&place, &part, content).await?, true),
                Err(trouble) => match self.stand_in_body(&place, &part, &trouble).await? {
                    Some(content) => (content, false),
                    None => continue,
                },
            };
            bodies.push(OpenedBody { uid, content, readable });
        }
        Ok(bodies)
    }

    /// The exact bytes of bodies; `None` for those that can't be opened.
    pub(crate) async fn contents(
        &self,
        mailbox: MailboxId,
        parts: Vec<StoredPart>,
    ) -> Result<Vec<(Uid, Option<Content>)>, Error> {
        let place = self.shared.access.place(self.user(), mailbox);
        let opened = self.open_all(&place, parts, PartName::Body, open_body).await?;
        Ok(opened.into_iter().map(|(part, content)| (part.uid, content.ok())).collect())
    }

    /// A summary as it is shown: of PGP mail that of the message as it is shown.
    async fn shown_summary(&self, place: &Place, part: &StoredPart, stored: Summary) -> Result<OpenedSummary, Error> {
        let mut summary = None;
        if pgp::may_be(&stored.headers)
            && let Some(body) = self.stored_body(place, part.uid).await?
        {
            summary = self.show(part.message, &stored, &body).await?.map(|shown| shown.summary);
        }
        Ok(OpenedSummary { summary: summary.unwrap_or_else(|| Arc::new(stored)), readable: true })
    }

    /// A body as it is shown: of PGP mail what it says inside.
    async fn shown_body(&self, place: &Place, part: &StoredPart, body: Content) -> Result<Content, Error> {
        if !pgp::may_be(&body) {
            return Ok(body);
        }
        let parts = place.summaries(&*self.shared.store, &[part.uid]).await?;
        let opened = self.open_all(place, parts, PartName::Summary, open_summary).await?.pop();
        let Some((_, Ok(summary))) = opened else { return Ok(body) };
        Ok(self.show(part.message, &summary, &body).await?.map_or(body, |shown| shown.content))
    }

    /// A body as it is stored, where it can be opened.
    async fn stored_body(&self, place: &Place, uid: Uid) -> Result<Option<Content>, Error> {
        let parts = place.bodies(&*self.shared.store, &[uid], 1).await?;
        let opened = self.open_all(place, parts, PartName::Body, open_body).await?.pop();
        Ok(opened.and_then(|(_, result)| result.ok()))
    }

    /// Opens parts on all cores.
    async fn open_all<T: Send + 'static>(
        &self,
        place: &Place,
        parts: Vec<StoredPart>,
        name: PartName,
        open: fn(&SessionKey, &PartContext, &Sealed) -> Result<T, OpenError>,
    ) -> Result<Vec<(StoredPart, Result<T, Trouble>)>, Error> {
        let keys = Arc::new(self.session_keys(place, &parts).await?);
        let bytes: usize = parts.iter().map(|part| part.part.0.len()).sum();
        if bytes <= INLINE_BYTES {
            return Ok(self.open_some(parts, name, &keys, open));
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from).min(parts.len());
        let share = parts.len().div_ceil(cores.max(1)).max(1);
        let mut tasks = Vec::with_capacity(cores);
        let mut parts = parts.into_iter().peekable();
        while parts.peek().is_some() {
            let some: Vec<StoredPart> = parts.by_ref().take(share).collect();
            let (opener, keys) = (self.clone(), Arc::clone(&keys));
            tasks.push(tokio::task::spawn_blocking(move || opener.open_some(some, name, &keys, open)));
        }
        let mut opened = Vec::new();
        for task in tasks {
            opened.extend(task.await.map_err(|error| broken(&error))?);
        }
        Ok(opened)
    }

    fn open_some<T>(
        &self,
        parts: Vec<StoredPart>,
        name: PartName,
        keys: &Keys,
        open: fn(&SessionKey, &PartContext, &Sealed) -> Result<T, OpenError>,
    ) -> Vec<(StoredPart, Result<T, Trouble>)> {
        // Parts of one commit share their attestation, which is hashed once for all of them here.
        let mut verified: HashMap<*const Attestation, Option<Arc<VerifiedAttestation>>> = HashMap::new();
        let user = self.user();
        let mut open_one = |part: &StoredPart| {
            let attestation = verified.entry(Arc::as_ptr(&part.attestation)).or_insert_with(|| {
                self.shared.access.attestations.verify(&part.attestation, self.shared.instance.public_key())
            });
            let keyset = part.session_key.keyset;
            // A line of a group was sealed for the group, under the key of its epoch.
            let (owner, under) = match part.group {
                Some(group) => (group, KeysetId(part.session_key.id.0)),
                None => (user, keyset),
            };
            let digest = part_digest(owner, part.message, name, &part.part);
            if !attestation.as_ref().is_some_and(|attestation| attestation.covers(&digest)) {
                return Err(Trouble::Damaged("no instance that is known here signed it".to_owned()));
            }
            if part.shown == Shown::Sealed {
                return Err(Trouble::Sealed(keyset));
            }
            let context = PartContext { user: owner, message: part.message, keyset: under };
            match keys.get(&part.session_key.id) {
                Some(Ok(key)) => open(key, &context, &part.part).map_err(Trouble::from),
                Some(Err(trouble)) => Err(trouble.clone()),
                None => Err(Trouble::Absent),
            }
        };
        parts
            .into_iter()
            .map(|part| {
                let result = open_one(&part);
                (part, result)
            })
            .collect()
    }

    /// The open session keys of parts that are shown opened: those kept, and the others opened now.
    async fn session_keys(&self, place: &Place, parts: &[StoredPart]) -> Result<Keys, Error> {
        let mut keys = Keys::new();
        let mut sealed: HashMap<SessionKeyId, Arc<SealedSessionKey>> = HashMap::new();
        for part in parts.iter().filter(|part| part.shown == Shown::Opened) {
            let id = part.session_key.id;
            if keys.contains_key(&id) || sealed.contains_key(&id) {
                continue;
            }
            match place.keys(&self.keys).known(id) {
                Some(key) => drop(keys.insert(id, Ok(key))),
                None => drop(sealed.insert(id, Arc::clone(&part.session_key))),
            }
        }
        if sealed.is_empty() {
            return Ok(keys);
        }
        let (place, user) = (place.clone(), Arc::clone(&self.keys));
        let open = move || {
            let keys = place.keys(&user);
            sealed.values().map(|sealed| (sealed.id, keys.open(sealed).map_err(Trouble::from))).collect::<Vec<_>>()
        };
        let work = tokio::task::spawn_blocking(open);
        keys.extend(work.await.map_err(|error| broken(&error))?);
        Ok(keys)
    }

    /// What stands in for a summary: that of the body where it can be opened, else that of a text which says what is wrong.
    /// `None` where the message is not there any more as it was read.
    async fn stand_in(
        &self,
        place: &Place,
        part: &StoredPart,
        trouble: &Trouble,
    ) -> Result<Option<OpenedSummary>, Error> {
        let bodies = place.bodies(&*self.shared.store, &[part.uid], 1).await?;
        let Some(body) = bodies.into_iter().next().filter(|body| body.shown == part.shown) else { return Ok(None) };
        let day = day(part);
        if let Trouble::Damaged(why) = trouble {
            tracing::error!(user = %self.user(), message = %part.message, why, "a summary can't be opened");
            let mut opened = self.open_all(place, vec![body.clone()], PartName::Body, open_body).await?;
            if let Some((_, Ok(content))) = opened.pop() {
                return Ok(Some(summary_of(&content, day, true)));
            }
        }
        Ok(Some(summary_of(&self.shown(&body, trouble)?, day, false)))
    }

    /// What stands in for a body. `None` where the message is not there any more as it was read.
    async fn stand_in_body(
        &self,
        place: &Place,
        body: &StoredPart,
        trouble: &Trouble,
    ) -> Result<Option<Content>, Error> {
        match trouble {
            Trouble::Sealed(_) => {}
            Trouble::Absent => {
                let now = place.bodies(&*self.shared.store, &[body.uid], 1).await?;
                if now.first().is_none_or(|now| now.shown != body.shown) {
                    return Ok(None);
                }
            }
            Trouble::Damaged(why) => {
                tracing::error!(user = %self.user(), message = %body.message, why, "a body can't be opened");
            }
        }
        self.shown(body, trouble).map(Some)
    }

    /// What is shown of a part as it was read.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where it would be another thing at another moment.
    fn shown(&self, body: &StoredPart, trouble: &Trouble) -> Result<Content, Error> {
        match trouble {
            Trouble::Damaged(_) => Ok(unreadable::damaged(body.message, day(body))),
            Trouble::Absent => {
                let text = "the secret key of these messages is coming or going; try again";
                Err(Error::new(ErrorKind::Unavailable, text))
            }
            Trouble::Sealed(keyset) => {
                let keyring = self.shared.keyring(self.user())?;
                let name = keyring.get(*keyset).map(|keyset| keyset.name.as_str());
                Ok(unreadable::offline(body.message, day(body), (*keyset, name), &body.session_key, &body.part))
            }
        }
    }
}

/// The day of a message, which is known without a key.
fn day(part: &StoredPart) -> Timestamp {
    Timestamp::from_seconds(i64::from(part.day) * 86_400)
}

fn cache_key(user: UserId, part: &StoredPart) -> SummaryKey {
    (user, part.message, part.session_key.id, part.shown)
}

fn summary_of(content: &Content, day: Timestamp, readable: bool) -> OpenedSummary {
    let summary = mime::summarize(content, day, None).unwrap_or_else(|_| {
        // Only a message that was taken in by another program than this has headers over the limit.
        let none = unreadable::damaged(MessageId([0; 16]), day);
        mime::summarize(&none, day, None).unwrap_or_else(|_| empty_summary(day))
    });
    OpenedSummary { summary: Arc::new(summary), readable }
}

fn empty_summary(day: Timestamp) -> Summary {
    let part = mesyx_sdk::Part {
        content_type: (b"text".to_vec(), b"plain".to_vec()),
        parameters: Vec::new(),
        id: None,
        description: None,
        encoding: b"7bit".to_vec(),
        md5: None,
        disposition: None,
        language: Vec::new(),
        location: None,
        header: 0..0,
        body: 0..0,
        lines: 0,
        kind: mesyx_sdk::summary::PartKind::Leaf,
    };
    Summary {
        internal_date: day,
        size: 0,
        headers: Content::default(),
        fields: mesyx_sdk::MailFields::default(),
        structure: part,
        origin: None,
    }
}

/// About how many bytes a summary takes in memory.
fn weigh(summary: &Summary) -> usize {
    fn parts(part: &mesyx_sdk::Part) -> usize {
        let own = 400 + part.parameters.iter().map(|(name, value)| 48 + name.len() + value.len()).sum::<usize>();
        own + match &part.kind {
            mesyx_sdk::summary::PartKind::Leaf => 0,
            mesyx_sdk::summary::PartKind::Multipart(inner) => inner.iter().map(parts).sum(),
            mesyx_sdk::summary::PartKind::Message(_, inner) => 1000 + parts(inner),
        }
    }
    // The fields repeat what stands in the headers.
    1000 + 3 * summary.headers.len() + parts(&summary.structure)
}
