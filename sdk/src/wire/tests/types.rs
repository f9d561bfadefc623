//! Every type of the SDK round-trips: what is read from the wire's bytes is what was written.

use super::super::{convert, status, v1};
use crate::summary::{MailAddressee, PartKind};
use crate::*;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;

/// Through the bytes.
fn bytes<T: Message + Default>(message: &T) -> T {
    T::decode(message.encode_to_vec().as_slice()).unwrap()
}

fn id() -> impl Strategy<Value = [u8; 16]> {
    any::<[u8; 16]>()
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,12}"
}

fn raw() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..8)
}

fn address() -> impl Strategy<Value = Address> {
    let texts = vec![
        "ann@example.org",
        "\"a b\"@example.org",
        "ü@xn--bcher-kva.example",
        "a@[127.0.0.1]",
        "irc:libera/#rust",
        "irc:oftc/bob",
        "mesyx:ann@example.org",
        "mesyx:#demo@example.org",
    ];
    prop::sample::select(texts).prop_map(|text| text.parse().unwrap())
}

fn conversation() -> impl Strategy<Value = Conversation> {
    prop_oneof![address().prop_map(Conversation::Direct), address().prop_map(Conversation::Group)]
}

fn at() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp)
}

fn protection() -> impl Strategy<Value = Protection> {
    prop_oneof![
        Just(Protection::None),
        (text(), text()).prop_map(|(version, cipher)| Protection::Tls { version, cipher }),
        any::<bool>().prop_map(|verified| Protection::Otr { verified }),
        Just(Protection::Pgp),
    ]
}

fn origin() -> impl Strategy<Value = Origin> {
    (text(), text(), option::of(text()), protection(), option::of(id()), vec(text(), 0..3)).prop_map(
        |(bridge, network, peer, protection, user, checks)| Origin {
            bridge,
            network,
            peer,
            protection,
            authenticated: user.map(UserId),
            checks,
        },
    )
}

fn recipient() -> impl Strategy<Value = Recipient> {
    let notify = any::<(bool, bool, bool)>().prop_map(|(success, failure, delay)| Notify { success, failure, delay });
    (address(), option::of(notify), option::of(text())).prop_map(|(address, notify, original)| Recipient {
        address,
        notify,
        original,
    })
}

fn dsn() -> impl Strategy<Value = Dsn> {
    let ret = prop::sample::select(vec![None, Some(ReturnPart::Full), Some(ReturnPart::Headers)]);
    (ret, option::of(text())).prop_map(|(ret, envid)| Dsn { ret, envid })
}

fn body() -> impl Strategy<Value = Content> {
    prop_oneof![0..300_usize, Just(65_536), 65_530..65_540_usize, Just(200_000)]
        .prop_map(|size| vec![b'x'; size].into())
}

fn an_envelope() -> impl Strategy<Value = Envelope> {
    let style = prop::sample::select(vec![Style::Delayed, Style::Instant]);
    let kinds = vec![Kind::Message, Kind::Receipt, Kind::Reaction, Kind::Edit, Kind::Retraction, Kind::Event];
    let importance = prop::sample::select(vec![Importance::Low, Importance::Normal, Importance::High]);
    let one =
        (id(), option::of(raw()), style, prop::sample::select(kinds), option::of(address()), vec(recipient(), 1..4));
    let other =
        (option::of(conversation()), option::of(at()), at(), importance, body(), origin(), any::<bool>(), dsn());
    (one, other).prop_map(|(one, other)| Envelope {
        id: MessageId(one.0),
        dedup: one.1,
        style: one.2,
        kind: one.3,
        from: one.4,
        to: one.5,
        conversation: other.0,
        sent: other.1,
        received: other.2,
        importance: other.3,
        content: other.4,
        origin: other.5,
        junk: other.6,
        dsn: other.7,
    })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let scope = prop::sample::select(vec![DeferScope::Recipient, DeferScope::Host, DeferScope::Bridge]);
    let after = option::of(any::<u32>().prop_map(|millis| Duration::from_millis(millis.into())));
    prop_oneof![
        (option::of(text()), any::<bool>()).prop_map(|(remote_id, dsn)| Outcome::Delivered { remote_id, dsn }),
        (text(), after, scope, any::<bool>()).prop_map(|(why, retry_after, scope, maybe_sent)| Outcome::Deferred {
            why,
            retry_after,
            scope,
            maybe_sent
        }),
        text().prop_map(|why| Outcome::Failed { why }),
    ]
}

fn flag() -> impl Strategy<Value = Flag> {
    prop::sample::select(&["\\Seen", "\\Deleted", "\\Answered", "\\Draft", "\\Flagged", "$Junk", "work"][..])
        .prop_map(|flag| Flag::new(flag).unwrap())
}

fn entry() -> impl Strategy<Value = Entry> {
    (any::<(u32, u64, u64)>(), id(), vec(flag(), 0..4), at()).prop_map(
        |((uid, modseq, padded_size), id, flags, day)| Entry {
            uid,
            message: MessageId(id),
            modseq,
            flags: flags.into_iter().collect(),
            padded_size,
            day,
        },
    )
}

fn query() -> impl Strategy<Value = Query> {
    let ranges = vec(any::<(u32, u32)>().prop_map(|(first, last)| first..=last), 0..3);
    let leaf = prop_oneof![
        Just(Query::All),
        ranges.prop_map(Query::Uids),
        flag().prop_map(Query::Flag),
        (text(), text()).prop_map(|(name, text)| Query::Header(name, text)),
        text().prop_map(Query::Body),
        text().prop_map(Query::Text),
        (0..6_u8, any::<i32>()).prop_map(|(which, day)| match which {
            0 => Query::Before(day),
            1 => Query::On(day),
            2 => Query::Since(day),
            3 => Query::SentBefore(day),
            4 => Query::SentOn(day),
            _ => Query::SentSince(day),
        }),
        any::<u64>().prop_map(Query::Larger),
        any::<u64>().prop_map(Query::Smaller),
        any::<u64>().prop_map(Query::ModSeq),
        id().prop_map(|id| Query::Message(MessageId(id))),
    ];
    leaf.prop_recursive(6, 60, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Query::And),
            vec(inner.clone(), 0..4).prop_map(Query::Or),
            inner.prop_map(|inner| Query::Not(Box::new(inner))),
        ]
    })
}

fn addressee() -> impl Strategy<Value = MailAddressee> {
    prop_oneof![
        (option::of(raw()), option::of(raw()), raw(), raw())
            .prop_map(|(name, route, local, domain)| MailAddressee::Mailbox { name, route, local, domain }),
        raw().prop_map(MailAddressee::GroupStart),
        Just(MailAddressee::GroupEnd),
    ]
}

fn fields() -> impl Strategy<Value = MailFields> {
    let list = || vec(addressee(), 0..3);
    let raws = (option::of(raw()), option::of(raw()), option::of(raw()), option::of(raw()));
    (raws, list(), list(), list(), list(), list(), list()).prop_map(|(raws, from, sender, reply_to, to, cc, bcc)| {
        let (date, subject, in_reply_to, message_id) = raws;
        MailFields { date, subject, from, sender, reply_to, to, cc, bcc, in_reply_to, message_id }
    })
}

fn part() -> impl Strategy<Value = Part> {
    let parameters = || vec((raw(), raw()), 0..2);
    let ranges = any::<[u64; 4]>();
    let one = ((raw(), raw()), parameters(), option::of(raw()), option::of(raw()), raw(), option::of(raw()));
    let other = (option::of((raw(), parameters())), vec(raw(), 0..2), option::of(raw()), ranges, any::<u32>());
    let leaf = (one, other).prop_map(|(one, other)| Part {
        content_type: one.0,
        parameters: one.1,
        id: one.2,
        description: one.3,
        encoding: one.4,
        md5: one.5,
        disposition: other.0,
        language: other.1,
        location: other.2,
        header: other.3[0]..other.3[1],
        body: other.3[2]..other.3[3],
        lines: other.4,
        kind: PartKind::Leaf,
    });
    let leaf = leaf.boxed();
    leaf.clone().prop_recursive(5, 20, 3, move |inner| {
        let kind = prop_oneof![
            vec(inner.clone(), 1..4).prop_map(PartKind::Multipart),
            (fields(), inner).prop_map(|(fields, inner)| PartKind::Message(Box::new(fields), Box::new(inner))),
        ];
        (leaf.clone(), kind).prop_map(|(part, kind)| Part { kind, ..part })
    })
}

fn line() -> impl Strategy<Value = ChatLine> {
    let verbs =
        vec![Verb::Say, Verb::Notice, Verb::Action, Verb::Topic, Verb::Join, Verb::Part, Verb::Kick, Verb::Mode];
    let line = (prop::sample::select(verbs), vec(text(), 0..3), "[\\PC\\n]{0,20}")
        .prop_map(|(verb, args, text)| Line { verb, args, text });
    (id(), id(), any::<(u32, bool, bool)>(), at(), address(), text(), line, protection()).prop_map(
        |(mailbox, id, (uid, own, seen), at, from, nick, line, protection)| ChatLine {
            mailbox: MailboxId(mailbox),
            uid,
            id: MessageId(id),
            at,
            from,
            nick,
            own,
            seen,
            line,
            protection,
        },
    )
}

fn rank() -> impl Strategy<Value = Rank> {
    prop::sample::select(vec![Rank::Member, Rank::Voice, Rank::Operator, Rank::Founder])
}

fn group() -> impl Strategy<Value = Group> {
    let member = (id(), text(), rank()).prop_map(|(user, name, rank)| GroupMember { user: UserId(user), name, rank });
    let lists = btree_map(any::<char>(), vec((text(), text(), at()), 1..3), 0..3);
    let modes = btree_map(any::<char>(), text(), 0..3);
    (address(), text(), at(), option::of((text(), text(), at())), vec(member, 0..3), modes, lists).prop_map(
        |(address, name, created, topic, members, modes, lists)| Group {
            address,
            name,
            created,
            topic,
            members,
            modes,
            lists,
        },
    )
}

fn group_change() -> impl Strategy<Value = GroupChange> {
    prop_oneof![
        option::of(text()).prop_map(|key| GroupChange::Join { key }),
        text().prop_map(|reason| GroupChange::Leave { reason }),
        text().prop_map(GroupChange::Topic),
        (any::<bool>(), any::<char>(), option::of(text())).prop_map(|(set, mode, parameter)| GroupChange::Mode {
            set,
            mode,
            parameter
        }),
        (any::<bool>(), any::<char>(), text()).prop_map(|(add, mode, mask)| GroupChange::List { add, mode, mask }),
        (text(), rank()).prop_map(|(member, rank)| GroupChange::Rank { member, rank }),
        text().prop_map(|user| GroupChange::Invite { user }),
        (text(), text()).prop_map(|(member, reason)| GroupChange::Kick { member, reason }),
    ]
}

fn signal() -> impl Strategy<Value = Signal> {
    let to = prop_oneof![id().prop_map(|user| SignalTo::User(UserId(user))), address().prop_map(SignalTo::Group)];
    (to, text(), option::of(conversation()), option::of(address()), "[a-z-]{1,32}", vec(text(), 0..4))
        .prop_map(|(to, bridge, conversation, from, name, args)| Signal { to, bridge, conversation, from, name, args })
}

fn user() -> impl Strategy<Value = User> {
    (id(), text()).prop_map(|(id, name)| User { id: UserId(id), name, address: "ann@example.org".parse().unwrap() })
}

fn anchor() -> impl Strategy<Value = Anchor> {
    prop_oneof![at().prop_map(Anchor::Time), id().prop_map(|id| Anchor::Message(MessageId(id)))]
}

fn history() -> impl Strategy<Value = History> {
    prop_oneof![
        option::of(anchor()).prop_map(History::Latest),
        anchor().prop_map(History::Before),
        anchor().prop_map(History::After),
        anchor().prop_map(History::Around),
        (anchor(), anchor()).prop_map(|(from, until)| History::Between(from, until)),
    ]
}

fn error() -> impl Strategy<Value = Error> {
    use ErrorKind::*;
    let kinds = vec![
        NotFound,
        Exists,
        LoginFailed,
        Forbidden,
        NotGranted,
        Invalid,
        TooLarge,
        OverQuota,
        Full,
        TooMany,
        Unavailable,
        Unreadable,
    ];
    (prop::sample::select(kinds), text(), option::of(0..600_000_u64)).prop_map(|(kind, text, after)| {
        let error = Error::new(kind, text);
        match after {
            Some(after) => error.retry_after(Duration::from_millis(after)),
            None => error,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn envelopes(envelope in an_envelope()) {
        let (first, rest) = convert::pieces(&envelope.content);
        let mut wire = bytes(&<v1::Envelope as From<_>>::from(&envelope));
        prop_assert_eq!((wire.size, &wire.body), (envelope.content.len() as u64, &first));
        let mut body = std::mem::take(&mut wire.body).to_vec();
        for piece in rest {
            prop_assert!((1..=65_536).contains(&piece.len()));
            body.extend_from_slice(&piece);
        }
        let read = convert::envelope(wire, Content::from(body)).unwrap();
        prop_assert_eq!(format!("{read:?}"), format!("{envelope:?}"));
        prop_assert!(read.content == envelope.content);
    }

    #[test]
    fn deliveries(envelope in an_envelope(), number in any::<u64>(), deadline in at(), outcomes in vec(outcome(), 1..4)) {
        let job = Delivery::of(&envelope, deadline);
        let wire: v1::Deliver = (number, &job).into();
        let mut wire = bytes(&wire);
        prop_assert_eq!(wire.job, number);
        wire.body.clear();
        let read = convert::delivery(wire, job.content.clone()).unwrap();
        prop_assert_eq!(format!("{read:?}"), format!("{job:?}"));
        for outcome in outcomes {
            prop_assert_eq!(Outcome::from(bytes(&v1::Outcome::from(&outcome))), outcome);
        }
    }

    #[test]
    fn queries(query in query()) {
        let request = v1::SearchRequest { query: convert::terms(&query), ..Default::default() };
        prop_assert_eq!(convert::query(bytes(&request).query).unwrap(), query);
    }

    #[test]
    fn summaries(fields in fields(), structure in part(), origin in option::of(origin()), headers in raw(), at in at()) {
        let summary = Summary { internal_date: at, size: 7, headers: headers.into(), fields, structure, origin };
        prop_assert_eq!(Summary::try_from(bytes(&v1::Summary::from(&summary))).unwrap(), summary);
    }

    #[test]
    fn lists_of_uids(uids in vec(prop_oneof![0..20_u32, any::<u32>()], 0..50), many in 0..2000_u32) {
        let wire = bytes(&v1::Uids::from(uids.as_slice()));
        prop_assert_eq!(wire.count().unwrap(), uids.len());
        prop_assert_eq!(Vec::<u32>::try_from(wire).unwrap(), uids);
        let run: Vec<u32> = (1..=many).collect();
        prop_assert!(v1::Uids::from(run.as_slice()).runs.len() <= 2);
    }

    #[test]
    fn any_list_of_uids_is_read_or_refused(runs in vec(prop_oneof![0..5_u32, any::<u32>()], 0..6)) {
        let list = v1::Uids { runs };
        if let Ok(count) = list.count() && count < 1 << 20 {
            prop_assert_eq!(Vec::<u32>::try_from(list).unwrap().len(), count);
        }
    }

    #[test]
    fn mailboxes(entries in vec(entry(), 0..4), numbers in any::<(u32, u32, u64, u32)>(), gone in vec(any::<u32>(), 0..5)) {
        for entry in &entries {
            prop_assert_eq!(&Entry::try_from(bytes(&v1::Entry::from(entry))).unwrap(), entry);
        }
        let (uid_validity, uid_next, highest_modseq, recent_from) = numbers;
        let snapshot = Snapshot { uid_validity, uid_next, highest_modseq, recent_from, entries: entries.clone() };
        let pages: Vec<_> = convert::snapshot_pages(&snapshot).collect();
        prop_assert!(pages.iter().all(|page| page.uid_next == uid_next) && !pages.is_empty());
        let changes = Changes { highest_modseq, uid_next, changed: entries, vanished: gone.clone(), deleted: true };
        let mut vanished = Vec::new();
        for page in convert::changes_pages(&changes) {
            vanished.extend(Vec::<u32>::try_from(bytes(&page).vanished.unwrap()).unwrap());
        }
        prop_assert_eq!(&vanished, &gone);
        let copied = Copied { uid_validity, uids: gone.iter().map(|uid| (*uid, uid.wrapping_mul(3))).collect() };
        prop_assert_eq!(Copied::try_from(bytes(&v1::CopyReply::from(&copied))).unwrap(), copied);
        let status = MailboxStatus {
            messages: uid_next, unseen: 1, recent: 2, uid_next, uid_validity, highest_modseq, size: highest_modseq,
        };
        prop_assert_eq!(MailboxStatus::from(bytes(&v1::StatusReply::from(&status))), status);
    }

    #[test]
    fn conversations(line in line(), group in group(), change in group_change(), signal in signal(), of in conversation(),
                     wanted in history(), user in option::of(user()), args in vec(text(), 0..4), mailbox in id()) {
        prop_assert_eq!(&ChatLine::try_from(bytes(&v1::ChatLine::from(&line))).unwrap(), &line);
        prop_assert_eq!(&Group::try_from(bytes(&v1::Group::from(&group))).unwrap(), &group);
        prop_assert_eq!(GroupChange::try_from(bytes(&v1::GroupChange::from(&change))).unwrap(), change);
        prop_assert_eq!(&Signal::try_from(bytes(&<v1::Signal as From<_>>::from(&signal))).unwrap(), &signal);
        let info = ConversationInfo { mailbox: MailboxId(mailbox), conversation: of, last: 7, read: 3 };
        prop_assert_eq!(ConversationInfo::try_from(bytes(&v1::ConversationInfo::from(&info))).unwrap(), info);
        let (sort, anchor, until) = convert::places(&wanted);
        prop_assert_eq!(convert::history(sort.into(), anchor, until).unwrap(), wanted);
        let question = Question { bridge: "a".into(), asker: "b".into(), user, name: "c".into(), args: args.clone() };
        prop_assert_eq!(Question::try_from(bytes(&v1::Question::from(&question))).unwrap(), question);
        let answer = Answer { rows: vec![args, vec![]] };
        prop_assert_eq!(Answer::try_from(bytes(&v1::Answer::from(answer.clone()))).unwrap(), answer);
        for event in [
            ChatEvent::Line(Arc::new(line)),
            ChatEvent::Read { mailbox: MailboxId(mailbox), up_to: 9 },
            ChatEvent::Group(Arc::new(group)),
            ChatEvent::Signal(Arc::new(signal)),
            ChatEvent::Lagged,
            ChatEvent::Ended("x".into()),
        ] {
            let read = convert::event(bytes(&v1::ChatEvent::from(&event))).unwrap().unwrap();
            prop_assert_eq!(format!("{read:?}"), format!("{event:?}"));
        }
    }

    #[test]
    fn errors(error in error()) {
        prop_assert_eq!(&status::from_status(&status::to_status(&error)), &error);
        prop_assert_eq!(&status::told(&bytes(&v1::Error::from(&error))), &error);
        let result: v1::AcceptResult = Err(error.clone()).into();
        prop_assert_eq!(Accepted::try_from(bytes(&result)), Err(error));
    }

    #[test]
    fn any_bytes_are_read_or_refused(any in vec(any::<u8>(), 0..200)) {
        // Nothing panics, whatever a bridge sends.
        if let Ok(wire) = v1::Envelope::decode(&*any) {
            let _ = convert::envelope(wire, Content::default());
        }
        if let Ok(wire) = v1::SearchRequest::decode(&*any) {
            let _ = convert::query(wire.query);
        }
        if let Ok(wire) = v1::Summary::decode(&*any) {
            let _ = Summary::try_from(wire);
        }
        if let Ok(wire) = v1::Uids::decode(&*any) {
            let _ = wire.count();
        }
        if let Ok(wire) = v1::Outcome::decode(&*any) {
            let _ = Outcome::from(wire);
        }
    }
}

#[test]
fn what_has_few_values() {
    for status in [
        RecipientStatus::Local,
        RecipientStatus::Unknown,
        RecipientStatus::Foreign,
        RecipientStatus::Remote,
        RecipientStatus::Refused("no".into()),
    ] {
        assert_eq!(RecipientStatus::from(bytes(&v1::RecipientReply::from(status.clone()))), status);
    }
    for role in [
        None,
        Some(Role::Inbox),
        Some(Role::Archive),
        Some(Role::Drafts),
        Some(Role::Junk),
        Some(Role::Sent),
        Some(Role::Trash),
    ] {
        let mailbox =
            Mailbox { id: MailboxId([3; 16]), name: MailboxName::new("a/b").unwrap(), role, selectable: true };
        assert_eq!(Mailbox::try_from(bytes(&v1::Mailbox::from(&mailbox))).unwrap(), mailbox);
    }
    for change in
        [Change::Mailbox(MailboxId([1; 16]), 7), Change::MailboxList, Change::Lagged, Change::Ended("x".into())]
    {
        assert_eq!(Change::try_from(bytes(&v1::Change::from(&change))).unwrap(), change);
    }
    for sender in [Sender::Stranger, Sender::User(UserId([9; 16]))] {
        assert_eq!(convert::sender(convert::asking(&sender)).unwrap(), sender);
    }
    let address = "[::1]:25".parse().unwrap();
    for health in [Health::Ready, Health::Degraded("x".into()), Health::Listening { name: "mx".into(), address }] {
        assert_eq!(convert::health(bytes(&v1::HealthRequest::from(&health))).unwrap(), Some(health));
    }
    for flags in [FlagChange::Set(vec![]), FlagChange::Add(vec![Flag::Seen]), FlagChange::Remove(vec![Flag::Draft])] {
        let (FlagChange::Set(words) | FlagChange::Add(words) | FlagChange::Remove(words)) = &flags;
        assert_eq!(convert::flag_change(v1::FlagChange::from(&flags).into(), convert::words(words)).unwrap(), flags);
    }
    let client = ClientInfo { ip: "2001:db8::1".parse().unwrap(), protocol: "imap".into(), tls: true };
    let credentials =
        Credentials { name: "ann".into(), password: Secret::from("x".to_owned()), client: client.clone() };
    let read = Credentials::try_from(bytes(&v1::LoginRequest::from(&credentials))).unwrap();
    assert_eq!((read.name.as_str(), read.password.expose(), read.client), ("ann", &b"x"[..], client));
    let wrong = ConfigError { path: "a[0]".into(), what: "b".into(), fix: "c".into() };
    assert_eq!(ConfigError::from(bytes(&v1::ConfigError::from(&wrong))), wrong);
    let manifest = Manifest {
        name: "x".into(),
        version: "1".into(),
        summary: String::new(),
        grants: vec![Grant::Listen(0), Grant::Secret("a.*".into())],
        delivers: vec![AddressKind::Mail, "xmpp".parse().unwrap()],
        config_schema: serde_json::json!({ "type": "object" }),
    };
    assert_eq!(Manifest::from_json(&manifest.to_json()), Ok(manifest));
}

/// A tree as deep as the reader of MIME makes them: deeper than a decoder of protocol buffers goes.
#[test]
fn deep_trees_are_flat_on_the_wire() {
    let mut message = b"Content-Type: text/plain\r\n\r\nx\r\n".to_vec();
    for level in 0..60 {
        let boundary = format!("b{level}");
        message = [
            format!("Content-Type: multipart/mixed; boundary={boundary}\r\n\r\n--{boundary}\r\n").into_bytes(),
            message,
            format!("\r\n--{boundary}--\r\n").into_bytes(),
        ]
        .concat();
    }
    let summary = mime::summarize(&message.into(), Timestamp(0), None).unwrap();
    assert_eq!(Summary::try_from(bytes(&v1::Summary::from(&summary))).unwrap(), summary);
    let mut query = Query::All;
    for _ in 0..Query::MAX_DEPTH {
        query = Query::Not(Box::new(query));
    }
    assert_eq!(convert::query(convert::terms(&query)).unwrap(), query);
    assert!(convert::query(convert::terms(&Query::Not(Box::new(query)))).is_err());
}
