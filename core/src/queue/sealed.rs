//! What the store keeps of the queue, and can't read.
//!
//! Each submitted message has a data key of its own (AES-256-GCM), wrapped by the instance key. Under it are sealed the
//! content, and for each job its addresses and what happened to it. Each text is bound to the message or job and to what
//! it is, so that none can be put in another's place. Lengths are rounded up before sealing, as those of stored messages are.

use crate::id::JobId;
use crate::instance::InstanceKey;
use crate::keys::vault;
use crate::pgp::Outgoing;
use crate::seal::padded_length;
use crate::store::{Hold, StoredJob};
use bytes::Bytes;
use mesyx_sdk::{Address, Content, Dsn, MessageId, Notify, Recipient, ReturnPart, Timestamp, UserId};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

/// What is in a job's sealed part, and in that of its progress, is rounded up to a multiple of this many bytes.
const JOB_STEP: usize = 256;

/// The key of one submitted message. Erased when dropped.
pub(crate) struct DataKey(Zeroizing<[u8; 32]>);

/// A sealed part of the queue can't be opened: damaged, or written under another instance key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it can't be opened: damaged, or sealed under another instance key")]
pub(crate) struct Unopened;

/// One recipient of one submitted message, opened.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// Which.
    pub(crate) id: JobId,
    /// The message.
    pub(crate) message: MessageId,
    /// Who submitted it.
    pub(crate) user: UserId,
    /// When it is due, in seconds since 1970.
    pub(crate) due: i64,
    /// Attempts so far.
    pub(crate) attempts: u32,
    /// What it waits for.
    pub(crate) hold: Hold,
    /// The envelope sender; `None` hears nothing.
    pub(crate) from: Option<Address>,
    /// For whom, with wishes on notices.
    pub(crate) to: Recipient,
    /// Wishes for the whole message.
    pub(crate) dsn: Dsn,
    /// When it was submitted.
    pub(crate) submitted: Timestamp,
    /// What happened so far.
    pub(crate) progress: Progress,
    /// Bytes of the message's sealed content.
    pub(crate) bytes: u64,
    /// The message's wrapped data key.
    pub(crate) data_key: Vec<u8>,
}

/// What happened to a job so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Progress {
    /// How the last attempt went, in one line.
    #[n(0)]
    pub(crate) why: String,
    /// When that was, in milliseconds since 1970.
    #[n(1)]
    pub(crate) last_attempt: Option<i64>,
    /// The sender was told that it takes long.
    #[n(2)]
    pub(crate) told_of_delay: bool,
    /// The sender was told what it waits for.
    #[n(3)]
    pub(crate) told_of_hold: bool,
    /// The recipient may have the message already.
    #[n(4)]
    pub(crate) maybe_sent: bool,
}

/// A job's sealed part.
#[derive(Encode, Decode)]
struct Record {
    #[n(0)]
    from: Option<String>,
    #[n(1)]
    to: String,
    /// Bits: 1 success, 2 failure, 4 delay.
    #[n(2)]
    notify: Option<u8>,
    #[n(3)]
    original: Option<String>,
    /// 0 full, 1 headers.
    #[n(4)]
    ret: Option<u8>,
    #[n(5)]
    envid: Option<String>,
    /// Milliseconds since 1970.
    #[n(6)]
    submitted: i64,
}

impl DataKey {
    /// A fresh key.
    pub(crate) fn random() -> Self {
        Self(Zeroizing::new(vault::random()))
    }

    /// As the store keeps it.
    pub(crate) fn wrap(&self, instance: &InstanceKey, message: MessageId) -> Vec<u8> {
        instance.seal_secret(&name(message), &self.0[..])
    }

    /// From what the store keeps.
    pub(crate) fn unwrap(instance: &InstanceKey, message: MessageId, wrapped: &[u8]) -> Result<Self, Unopened> {
        let key = instance.open_secret(&name(message), wrapped).map_err(|_| Unopened)?;
        Ok(Self(Zeroizing::new(<[u8; 32]>::try_from(&key[..]).map_err(|_| Unopened)?)))
    }

    /// Seals a message's content. Heavy for large ones.
    pub(crate) fn seal_content(&self, message: MessageId, outgoing: &Outgoing) -> Result<Bytes, Unopened> {
        let mut clear = Zeroizing::new(outgoing.encode().map_err(|_| Unopened)?);
        let padded = usize::try_from(padded_length(clear.len() as u64)).map_err(|_| Unopened)?;
        clear.resize(padded, 0);
        vault::seal(&self.0, &about(b"content", message.as_bytes()), &clear).map(Bytes::from).ok_or(Unopened)
    }

    /// Opens what [`DataKey::seal_content`] made. Heavy for large ones.
    pub(crate) fn open_content(&self, message: MessageId, sealed: &[u8]) -> Result<Outgoing, Unopened> {
        let mut clear = vault::open(&self.0, &about(b"content", message.as_bytes()), sealed).map_err(|_| Unopened)?;
        Outgoing::decode(&Content::from(std::mem::take(&mut *clear))).map_err(|_| Unopened)
    }

    /// Seals a new job's addresses and wishes.
    pub(crate) fn seal_job(&self, job: &Job) -> Result<Vec<u8>, Unopened> {
        let bits =
            |notify: Notify| u8::from(notify.success) | (u8::from(notify.failure) << 1) | (u8::from(notify.delay) << 2);
        let record = Record {
            from: job.from.as_ref().map(ToString::to_string),
            to: job.to.address.to_string(),
            notify: job.to.notify.map(bits),
            original: job.to.original.clone(),
            ret: job.dsn.ret.map(|ret| u8::from(ret == ReturnPart::Headers)),
            envid: job.dsn.envid.clone(),
            submitted: job.submitted.0,
        };
        self.seal_small(b"job", job.id, &record)
    }

    /// Seals what happened to a job.
    pub(crate) fn seal_progress(&self, job: JobId, progress: &Progress) -> Result<Vec<u8>, Unopened> {
        self.seal_small(b"progress", job, progress)
    }

    fn seal_small<T: Encode<()>>(&self, what: &[u8], job: JobId, value: &T) -> Result<Vec<u8>, Unopened> {
        let mut clear = Zeroizing::new(minicbor::to_vec(value).map_err(|_| Unopened)?);
        // A decoder stops at the end of the value; what follows is nothing.
        let padded = clear.len().next_multiple_of(JOB_STEP);
        clear.resize(padded, 0);
        vault::seal(&self.0, &about(what, &job.0), &clear).ok_or(Unopened)
    }

    fn open_small<T: for<'b> Decode<'b, ()>>(&self, what: &[u8], job: JobId, sealed: &[u8]) -> Result<T, Unopened> {
        let clear = vault::open(&self.0, &about(what, &job.0), sealed).map_err(|_| Unopened)?;
        minicbor::decode(&clear).map_err(|_| Unopened)
    }
}

impl Job {
    /// Opens a stored job.
    pub(crate) fn open(instance: &InstanceKey, stored: StoredJob) -> Result<Self, Unopened> {
        let key = DataKey::unwrap(instance, stored.message, &stored.data_key)?;
        let record: Record = key.open_small(b"job", stored.job, &stored.sealed)?;
        let progress = match &stored.progress {
            Some(sealed) => key.open_small(b"progress", stored.job, sealed)?,
            None => Progress::default(),
        };
        let notify = |bits: u8| Notify { success: bits & 1 != 0, failure: bits & 2 != 0, delay: bits & 4 != 0 };
        Ok(Self {
            id: stored.job,
            message: stored.message,
            user: stored.user,
            due: stored.due,
            attempts: stored.attempts,
            hold: stored.hold,
            from: record.from.map(|from| from.parse().map_err(|_| Unopened)).transpose()?,
            to: Recipient {
                address: record.to.parse().map_err(|_| Unopened)?,
                notify: record.notify.map(notify),
                original: record.original,
            },
            dsn: Dsn {
                ret: record.ret.map(|ret| if ret == 1 { ReturnPart::Headers } else { ReturnPart::Full }),
                envid: record.envid,
            },
            submitted: Timestamp(record.submitted),
            progress,
            bytes: stored.bytes,
            data_key: stored.data_key,
        })
    }
}

/// Under which name a data key is wrapped.
fn name(message: MessageId) -> String {
    format!("queue:{message}")
}

/// What a sealed text is bound to.
fn about(what: &[u8], id: &[u8; 16]) -> Vec<u8> {
    [b"mesyx queue 1\0", what, b"\0", id].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn instance() -> (tempfile::TempDir, InstanceKey) {
        let directory = tempfile::tempdir().unwrap();
        let key = InstanceKey::create(&directory.path().join("key")).unwrap();
        (directory, key)
    }

    fn job() -> Job {
        Job {
            id: JobId::random(),
            message: MessageId::random(),
            user: UserId::random(),
            due: 5,
            attempts: 2,
            hold: Hold::No,
            from: Some("alice@example.org".parse().unwrap()),
            to: Recipient {
                address: "bob@example.net".parse().unwrap(),
                notify: Some(Notify { success: true, failure: false, delay: true }),
                original: Some("rfc822;Bob@example.net".into()),
            },
            dsn: Dsn { ret: Some(ReturnPart::Headers), envid: Some("QQ 314".into()) },
            submitted: Timestamp(1_795_387_064_123),
            progress: Progress { why: "mx.example.net said 451".into(), last_attempt: Some(7), ..Progress::default() },
            bytes: 0,
            data_key: Vec::new(),
        }
    }

    fn stored(key: &DataKey, instance: &InstanceKey, job: &Job) -> StoredJob {
        StoredJob {
            row: 1,
            job: job.id,
            message: job.message,
            user: job.user,
            due: job.due,
            attempts: job.attempts,
            hold: job.hold,
            bytes: 0,
            data_key: key.wrap(instance, job.message),
            sealed: key.seal_job(job).unwrap(),
            progress: Some(key.seal_progress(job.id, &job.progress).unwrap()),
        }
    }

    #[test]
    fn a_job_is_read_back_as_it_was() {
        let (_directory, instance) = instance();
        let (key, job) = (DataKey::random(), job());
        let stored = stored(&key, &instance, &job);
        let hidden = [&stored.sealed[..], stored.progress.as_deref().unwrap()].concat();
        for word in ["alice", "bob@", "example", "QQ 314"] {
            assert!(!hidden.windows(word.len()).any(|window| window == word.as_bytes()), "{word} is in clear");
        }
        let opened = Job::open(&instance, stored).unwrap();
        assert_eq!((opened.from, opened.to, opened.dsn), (job.from, job.to, job.dsn));
        assert_eq!((opened.submitted, opened.progress), (job.submitted, job.progress));
    }

    #[test]
    fn nothing_opens_in_anothers_place() {
        let (_directory, instance) = instance();
        let (key, job) = (DataKey::random(), job());
        let good = stored(&key, &instance, &job);
        let swapped = [
            StoredJob { job: JobId::random(), ..good.clone() },
            StoredJob { message: MessageId::random(), ..good.clone() },
            StoredJob { progress: Some(good.sealed.clone()), ..good.clone() },
            StoredJob { sealed: good.progress.clone().unwrap(), ..good.clone() },
            StoredJob { sealed: Vec::new(), ..good.clone() },
            StoredJob { data_key: DataKey::random().wrap(&instance, job.message), ..good.clone() },
        ];
        for wrong in swapped {
            assert_eq!(Job::open(&instance, wrong).err(), Some(Unopened));
        }
        let (_other_directory, other) = self::instance();
        assert_eq!(Job::open(&other, good).err(), Some(Unopened));
        let sealed = key.seal_content(job.message, &Outgoing::plain(Content::from(b"x".to_vec()))).unwrap();
        assert_eq!(key.open_content(MessageId::random(), &sealed).err(), Some(Unopened));
    }

    proptest! {
        #[test]
        fn content_is_read_back(original in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let (key, message) = (DataKey::random(), MessageId::random());
            let sealed = key.seal_content(message, &Outgoing::plain(original.clone().into())).unwrap();
            prop_assert_eq!(&key.open_content(message, &sealed).unwrap().original[..], &original[..]);
        }
    }
}
