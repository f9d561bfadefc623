//! Two of our own sessions, over a perfect line: the state machine, step by step.

mod common;

use common::{Pair, alice, bob, clear_texts, private_texts};
use mesyx_otr::{Config, Error, Event, Identity, Policy, Rejection, Sent, Session, SessionState, Version, limits};
use std::sync::Arc;
use std::time::Duration;

fn require() -> Config {
    Config { policy: Policy::Require, ..Config::default() }
}

fn knows(identity: &Identity) -> Config {
    Config { known: vec![identity.fingerprint()], ..Config::default() }
}

#[test]
fn the_first_text_offers_and_the_conversation_turns_private() {
    let mut pair = Pair::new(Config::default(), Config::default());
    assert_eq!(pair.a_says(b"hello"), Sent::Clear);
    let (a, b) = pair.take();
    assert_eq!(clear_texts(&b), [(b"hello".to_vec(), false)]);
    assert!(matches!(&a[..], [Event::Established(e)] if e.version == Version::V3 && !e.changed && !e.refreshed));
    assert_eq!(pair.a.state(), SessionState::Private(bob().fingerprint()));
    assert_eq!(pair.a_says(b"secret"), Sent::Encrypted);
    assert_eq!(pair.b_says(b"answer"), Sent::Encrypted);
    let (a, b) = pair.take();
    assert_eq!((private_texts(&a), private_texts(&b)), (vec![b"answer".to_vec()], vec![b"secret".to_vec()]));
    assert!(!pair.lines.iter().any(|(_, line)| line.windows(6).any(|w| w == b"secret" || w == b"answer")));
}

#[test]
fn both_see_the_same_session_id() {
    let mut pair = Pair::new(Config::default(), Config::default());
    pair.a_says(b"hello");
    let ids: Vec<_> = pair
        .a_events
        .iter()
        .chain(&pair.b_events)
        .filter_map(|event| if let Event::Established(e) = event { Some(e.session_id) } else { None })
        .collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn an_untagged_answer_ends_the_offers() {
    let mut pair = Pair::new(Config::default(), Config { policy: Policy::Off, ..Config::default() });
    pair.a_says(b"one");
    pair.b_says(b"no otr here");
    pair.now += limits::TAG_INTERVAL;
    pair.a_says(b"two");
    let from_a: Vec<_> = pair.lines.iter().filter(|(who, _)| *who == 'a').map(|(_, line)| &line[..]).collect();
    assert!(from_a[0].len() > 3 && from_a[0].ends_with(b"one"));
    assert_eq!(from_a[1], b"two");
}

#[test]
fn an_unanswered_offer_is_not_repeated_with_every_text() {
    let mut a = Session::new(alice(), Config::default());
    let now = std::time::Instant::now();
    let line = |a: &mut Session, at| a.send(b"x", at).unwrap().1.lines.remove(0).len();
    assert_eq!([line(&mut a, now), line(&mut a, now), line(&mut a, now + limits::TAG_INTERVAL)], [33, 1, 33]);
}

#[test]
fn ctcp_and_indented_texts_carry_no_offer() {
    for text in [&b"\x01ACTION waves\x01"[..], b"  indented", b"\tindented"] {
        let mut a = Session::new(alice(), Config::default());
        assert_eq!(a.send(text, std::time::Instant::now()).unwrap().1.lines, [text]);
    }
}

#[test]
fn bursts_and_answers_rotate_keys() {
    let mut pair = Pair::private(Config::default(), Config::default());
    for round in 0..12 {
        for burst in 0..3 {
            let text = format!("{round} {burst}");
            pair.a_says(text.as_bytes());
            if round % 3 != 0 {
                pair.b_says(text.as_bytes());
            }
        }
    }
    let (a, b) = pair.take();
    assert_eq!((private_texts(&a).len(), private_texts(&b).len()), (24, 36));
    assert_eq!(private_texts(&b).last().unwrap(), b"11 2");
}

#[test]
fn long_texts_go_in_fragments_of_the_asked_length() {
    let config = || Config { max_line: Some(400), ..Config::default() };
    let mut pair = Pair::private(config(), config());
    let text = vec![b'x'; 3000];
    pair.a_says(&text);
    assert_eq!(private_texts(&pair.take().1), [text]);
    assert!(pair.lines.iter().all(|(_, line)| line.len() <= 400));
    assert!(pair.lines.iter().filter(|(_, line)| line.starts_with(b"?OTR|")).count() > 10);
}

#[test]
fn required_texts_wait_for_the_private_conversation() {
    let mut pair = Pair::new(require(), Config::default());
    let sent = pair.a_says(b"secret");
    let Sent::Held(id) = sent else { panic!("{sent:?}") };
    let (a, b) = pair.take();
    assert_eq!(private_texts(&b), [b"secret"]);
    assert!(a.contains(&Event::HeldSent(id)));
    assert!(clear_texts(&b).is_empty());
}

#[test]
fn held_texts_expire_unsent() {
    let mut a = Session::new(alice(), knows(&bob()));
    let now = std::time::Instant::now();
    let (Sent::Held(id), out) = a.send(b"secret", now).unwrap() else { panic!("not held") };
    assert!(out.lines[0].starts_with(b"?OTRv23?") && out.lines.len() == 1);
    assert_eq!(a.next_deadline(), Some(now + limits::HOLD_TIME));
    assert!(a.tick(now + limits::HOLD_TIME - Duration::from_secs(1)).events.is_empty());
    let out = a.tick(now + limits::HOLD_TIME);
    assert!(out.lines.is_empty());
    assert!(matches!(&out.events[..], [Event::HeldExpired { id: i, text }] if *i == id && **text == *b"secret"));
    assert_eq!(a.send_clear(b"never mind").unwrap().lines, [b"never mind"]);
}

#[test]
fn held_texts_are_bounded() {
    let mut a = Session::new(alice(), require());
    let now = std::time::Instant::now();
    for _ in 0..limits::MAX_HELD {
        a.send(b"x", now).unwrap();
    }
    assert_eq!(a.send(b"x", now).err(), Some(Error::HeldFull));
    assert_eq!(a.send_clear(b"x").err(), Some(Error::ClearTextForbidden));
}

#[test]
fn a_changed_fingerprint_is_reported_and_held_texts_wait_for_the_user() {
    let mut pair = Pair::new(knows(&alice()), Config::default());
    let Sent::Held(id) = pair.a_says(b"for the old key only") else { panic!("not held") };
    let (a, b) = pair.take();
    assert!(
        a.iter()
            .any(|event| matches!(event, Event::Established(e) if e.changed && e.fingerprint == bob().fingerprint()))
    );
    assert!(private_texts(&b).is_empty());
    let out = pair.a.release_held(pair.now).unwrap();
    pair.a_sends(out);
    let (a, b) = pair.take();
    assert!(a.contains(&Event::HeldSent(id)));
    assert_eq!(private_texts(&b), [b"for the old key only"]);
}

#[test]
fn after_the_peer_ended_nothing_goes_out_in_the_clear() {
    let mut pair = Pair::private(Config::default(), Config::default());
    let out = pair.b.end(pair.now);
    pair.b_sends(out);
    assert_eq!(pair.take().0, [Event::EndedByPeer]);
    assert_eq!(pair.a.state(), SessionState::Finished);
    assert_eq!(pair.a.send(b"secret", pair.now).err(), Some(Error::Finished));
    assert_eq!(pair.a.send_clear(b"secret").err(), Some(Error::ClearTextForbidden));
    // The peer talks on in the clear: marked.
    pair.b_says(b"clear");
    assert_eq!(clear_texts(&pair.take().0), [(b"clear".to_vec(), true)]);
    // The user decides: either private again ...
    let out = pair.a.start(pair.now).unwrap();
    pair.a_sends(out);
    assert_eq!(pair.a_says(b"again"), Sent::Encrypted);
    // ... or in the clear.
    let out = pair.a.end(pair.now);
    pair.a_sends(out);
    pair.take();
    assert_eq!(pair.a.send(b"plain", pair.now).unwrap().1.lines, [b"plain"]);
}

#[test]
fn after_our_end_a_late_message_does_not_begin_the_conversation_again() {
    let mut pair = Pair::private(Config::default(), Config::default());
    let late = pair.b.send(b"late", pair.now).unwrap().1.lines.remove(0);
    pair.a.end(pair.now);
    let out = pair.a.receive(&late, pair.now);
    assert_eq!((out.events, out.lines.len()), (vec![Event::Unreadable(Rejection::UnknownKeys)], 0));
}

#[test]
fn tags_of_version_2_are_answered_once() {
    let mut b = Session::new(bob(), Config::default());
    let line = b"\x20\t\x20\x20\t\t\t\t\x20\t\x20\t\x20\t\x20\x20\x20\x20\t\t\x20\x20\t\x20hi";
    let now = std::time::Instant::now();
    assert_eq!((0..5).map(|_| b.receive(line, now).lines.len()).sum::<usize>(), 1);
}

#[test]
fn a_start_after_the_end_holds_texts_until_the_peer_answers() {
    let mut pair = Pair::private(Config::default(), Config::default());
    let out = pair.b.end(pair.now);
    pair.b_sends(out);
    let query = pair.a.start(pair.now).unwrap();
    let (sent, out) = pair.a.send(b"secret", pair.now).unwrap();
    assert!(matches!(sent, Sent::Held(_)) && out.lines.is_empty());
    pair.a_sends(query);
    assert_eq!(private_texts(&pair.take().1), [b"secret"]);
}

#[test]
fn a_start_while_keys_are_exchanged_asks_for_no_second_exchange() {
    let mut pair = Pair::new(Config::default(), Config::default());
    let (_, offer) = pair.a.send(b"hello", pair.now).unwrap();
    let commitment = pair.b.receive(&offer.lines[0], pair.now);
    let key = pair.a.receive(&commitment.lines[0], pair.now);
    assert!(pair.a.start(pair.now).unwrap().lines.is_empty());
    // An exchange that stands still is given up for another.
    assert_eq!(pair.a.start(pair.now + limits::QUERY_INTERVAL).unwrap().lines.len(), 1);
    pair.a_sends(key);
    assert!(matches!(pair.a.state(), SessionState::Private(_)));
}

#[test]
fn refreshing_keeps_the_conversation() {
    let mut pair = Pair::private(Config::default(), Config::default());
    pair.a_says(b"one");
    for side in 0..8 {
        let session = if side % 2 == 0 { &mut pair.a } else { &mut pair.b };
        let by_commitment = side >= 4;
        let out = if by_commitment { session.refresh(pair.now) } else { session.start(pair.now) }.unwrap();
        assert_eq!(out.lines[0].starts_with(b"?OTRv"), !by_commitment);
        if side % 2 == 0 {
            pair.a_sends(out)
        } else {
            pair.b_sends(out)
        }
        let (a, b) = pair.take();
        assert!(a.iter().any(|event| matches!(event, Event::Established(e) if e.refreshed)));
        assert!(b.iter().any(|event| matches!(event, Event::Established(e) if e.refreshed)));
        pair.a_says(b"two");
        pair.b_says(b"three");
        let (a, b) = pair.take();
        assert_eq!((private_texts(&a), private_texts(&b)), (vec![b"three".to_vec()], vec![b"two".to_vec()]));
    }
}

#[test]
fn there_is_nothing_to_refresh_without_a_conversation() {
    let (mut a, now) = (Session::new(alice(), Config::default()), std::time::Instant::now());
    assert!(a.refresh(now).unwrap().lines[0].starts_with(b"?OTRv"));
    let mut off = Session::new(alice(), Config { policy: Policy::Off, ..Config::default() });
    assert_eq!(off.refresh(now).err(), Some(Error::PolicyOff));
}

/// Between our Reveal Signature message and the peer's answer, the peer already has the new keys and we have not.
#[test]
fn texts_wait_while_keys_change() {
    let mut pair = Pair::private(Config::default(), Config::default());
    let commit = pair.a.receive(b"?OTRv3?", pair.now);
    let key = pair.b.receive(&commit.lines[0], pair.now);
    let early = pair.b.send(b"under the old keys", pair.now).unwrap().1;
    let reveal = pair.a.receive(&key.lines[0], pair.now);
    let (sent, out) = pair.a.send(b"under the new keys", pair.now).unwrap();
    assert!(matches!(sent, Sent::Held(_)) && out.lines.is_empty());
    pair.b_sends(early);
    assert_eq!(private_texts(&pair.take().0), [b"under the old keys"]);
    pair.a_sends(reveal);
    assert_eq!(private_texts(&pair.take().1), [b"under the new keys"]);
}

/// Two clients of one peer get every line; each takes its own.
#[test]
fn a_peer_may_have_two_clients() {
    let mut bytes = bob().to_bytes();
    bytes[1..5].copy_from_slice(&0x1234_u32.to_be_bytes());
    let second = Arc::new(Identity::from_bytes(&bytes).unwrap());
    let now = std::time::Instant::now();
    let mut clients = [Session::new(bob(), Config::default()), Session::new(second, Config::default())];
    let mut a = Session::new(alice(), Config::default());
    let mut events = [vec![], vec![], vec![]];
    let mut run = |a: &mut Session, clients: &mut [Session; 2], mut lines: Vec<Vec<u8>>| {
        while !lines.is_empty() {
            let mut answers = vec![];
            for line in lines {
                for (at, client) in clients.iter_mut().enumerate() {
                    let out = client.receive(&line, now);
                    events[at].extend(out.events);
                    answers.extend(out.lines);
                }
            }
            lines = vec![];
            for line in answers {
                let out = a.receive(&line, now);
                events[2].extend(out.events);
                lines.extend(out.lines);
            }
        }
        std::mem::take(&mut events)
    };
    let query = a.start(now).unwrap().lines;
    let [one, two, ours] = run(&mut a, &mut clients, query);
    let begun = |events: &[Event]| events.iter().filter(|event| matches!(event, Event::Established(_))).count();
    assert_eq!((begun(&one), begun(&two), begun(&ours)), (1, 1, 2));
    // Our texts go to the client that spoke last.
    for speaker in [0, 1, 0] {
        let line = clients[speaker].send(b"from a client", now).unwrap().1.lines.remove(0);
        assert_eq!(private_texts(&a.receive(&line, now).events), [b"from a client"]);
        let lines = a.send(b"answer", now).unwrap().1.lines;
        let heard = run(&mut a, &mut clients, lines);
        assert_eq!(private_texts(&heard[speaker]), [b"answer"]);
        assert_eq!(heard[1 - speaker], []);
    }
    // The one that we talk with leaves; the other must not get what was meant for it.
    let line = clients[0].end(now).lines.remove(0);
    assert_eq!(a.receive(&line, now).events, [Event::EndedByPeer]);
    assert_eq!(a.send(b"to the first", now).err(), Some(Error::Finished));
}

#[test]
fn both_may_begin_at_once() {
    for first in 0..8 {
        let mut pair = Pair::new(Config::default(), Config::default());
        let (qa, qb) = (pair.a.start(pair.now).unwrap(), pair.b.start(pair.now).unwrap());
        // Both queries cross, so that both commit, and the commitments cross as well.
        let (ca, cb) = (pair.a.receive(&qb.lines[0], pair.now), pair.b.receive(&qa.lines[0], pair.now));
        if first % 2 == 0 {
            pair.a_sends(ca);
            pair.b_sends(cb);
        } else {
            pair.b_sends(cb);
            pair.a_sends(ca);
        }
        pair.take();
        pair.a_says(b"one");
        pair.b_says(b"two");
        let (a, b) = pair.take();
        assert_eq!((private_texts(&a), private_texts(&b)), (vec![b"two".to_vec()], vec![b"one".to_vec()]));
    }
}

#[test]
fn a_peer_that_lost_its_keys_is_told_and_gets_new_ones() {
    let mut pair = Pair::private(Config::default(), Config::default());
    pair.b = Session::new(bob(), Config::default());
    pair.a_says(b"lost");
    let (a, b) = pair.take();
    assert!(b.contains(&Event::Unreadable(Rejection::UnknownKeys)));
    assert!(a.iter().any(|event| matches!(event, Event::PeerError(_))));
    assert!(a.iter().any(|event| matches!(event, Event::Established(e) if !e.changed)), "{a:?}");
    pair.a_says(b"found");
    assert_eq!(private_texts(&pair.take().1), [b"found"]);
}

#[test]
fn answers_to_errors_and_garbage_are_bounded() {
    let mut pair = Pair::private(Config::default(), Config::default());
    let line = pair.a.send(b"x", pair.now).unwrap().1.lines.remove(0);
    let mut stranger = Session::new(alice(), Config::default());
    let mut b = Session::new(bob(), Config::default());
    let (mut errors, mut queries) = (0, 0);
    for _ in 0..50 {
        errors += b.receive(&line, pair.now).lines.len();
        stranger.start(pair.now).ok();
        queries += stranger.receive(b"?OTR Error: what?", pair.now).lines.len();
    }
    assert_eq!(errors, limits::MAX_REPLIES);
    assert!(queries <= limits::MAX_REPLIES);
}

#[test]
fn sessions_can_go_to_other_threads() {
    fn is_send<T: Send>() {}
    is_send::<Session>();
}

/// Each commitment that is answered costs a new key.
#[test]
fn commitments_are_answered_only_so_often() {
    let (mut b, now) = (Session::new(bob(), Config::default()), std::time::Instant::now());
    let commitment = || Session::new(alice(), Config::default()).receive(b"?OTRv3?", now).lines.remove(0);
    let answered = (0..2 * limits::MAX_AKE).filter(|_| !b.receive(&commitment(), now).lines.is_empty()).count();
    assert_eq!(answered, limits::MAX_AKE);
    let later = now + limits::AKE_WINDOW;
    assert_eq!(b.receive(&commitment(), later).lines.len(), 1);
}

/// Whoever is on the network can answer a commitment under any number of tags.
#[test]
fn keys_under_many_tags_are_bounded() {
    let mut b = Session::new(bob(), Config::default());
    let now = std::time::Instant::now();
    b.receive(b"?OTRv3?", now);
    let answered = (0x100..0x200u32)
        .filter(|tag| {
            let mut message = vec![0, 3, 0x0a];
            message.extend(tag.to_be_bytes());
            message.extend(bob().tag().value().to_be_bytes());
            message.extend([0, 0, 0, 1, 5]);
            let line = format!("?OTR:{}.", base64::Engine::encode(&base64::engine::general_purpose::STANDARD, message));
            !b.receive(line.as_bytes(), now).lines.is_empty()
        })
        .count();
    assert!((1..=limits::MAX_AKE).contains(&answered), "{answered}");
}

#[test]
fn key_exchanges_are_bounded() {
    let mut b = Session::new(bob(), Config::default());
    let now = std::time::Instant::now();
    let answered = (0..100).filter(|_| !b.receive(b"?OTRv23?", now).lines.is_empty()).count();
    assert_eq!(answered, limits::MAX_AKE);
    assert!(!b.receive(b"?OTRv23?", now + limits::AKE_WINDOW).lines.is_empty());
}

#[test]
fn version_1_is_refused() {
    let mut b = Session::new(bob(), Config::default());
    let now = std::time::Instant::now();
    for line in [&b"?OTR?"[..], b"?OTR:AAEKAAAA.", b"?OTRv?"] {
        let out = b.receive(line, now);
        assert!(out.lines.is_empty());
        assert_eq!(out.events, [Event::Rejected(Rejection::Version)]);
    }
}

#[test]
fn clear_text_in_a_private_conversation_is_marked() {
    let mut pair = Pair::private(Config::default(), Config::default());
    let out = pair.a.receive(b"forged", pair.now);
    assert_eq!(clear_texts(&out.events), [(b"forged".to_vec(), true)]);
}

#[test]
fn copies_are_read_once_and_not_answered() {
    let mut pair = Pair::private(Config::default(), Config::default());
    let line = pair.a.send(b"once", pair.now).unwrap().1.lines.remove(0);
    assert_eq!(private_texts(&pair.b.receive(&line, pair.now).events), [b"once"]);
    let out = pair.b.receive(&line, pair.now);
    assert_eq!((out.events, out.lines.len()), (vec![Event::Rejected(Rejection::Replayed)], 0));
}

#[test]
fn our_own_lines_coming_back_are_harmless() {
    let mut pair = Pair::private(Config::default(), Config::default());
    let line = pair.a.send(b"echo", pair.now).unwrap().1.lines.remove(0);
    assert_eq!(pair.a.receive(&line, pair.now).events, [Event::Rejected(Rejection::Reflected)]);
    let mut alone = Session::new(alice(), Config::default());
    let commit = alone.receive(b"?OTRv2?", pair.now).lines.remove(0);
    assert_eq!(alone.receive(&commit, pair.now).events, [Event::Rejected(Rejection::Reflected)]);
}

#[test]
fn one_sided_talk_is_answered_with_a_heartbeat() {
    let mut pair = Pair::private(Config::default(), Config::default());
    pair.now += limits::HEARTBEAT_INTERVAL;
    pair.a_says(b"are you there");
    let from_b = pair.lines.iter().filter(|(who, _)| *who == 'b').count();
    pair.a_says(b"hello?");
    assert_eq!(pair.lines.iter().filter(|(who, _)| *who == 'b').count(), from_b);
    assert_eq!(pair.lines.last().unwrap().0, 'a');
    assert_eq!(pair.take().0, []);
}

#[test]
fn texts_that_otr_cannot_carry_are_refused() {
    let mut pair = Pair::private(Config::default(), Config::default());
    assert_eq!(pair.a.send(b"a\0b", pair.now).err(), Some(Error::ZeroByte));
    assert_eq!(pair.a.send(&vec![b'x'; limits::MAX_TEXT + 1], pair.now).err(), Some(Error::TooLong));
    let most = vec![b'x'; limits::MAX_TEXT];
    pair.a_says(&most);
    assert_eq!(private_texts(&pair.take().1), [most]);
}

#[test]
fn switched_off_everything_passes_as_it_is() {
    let mut a = Session::new(alice(), Config { policy: Policy::Off, ..Config::default() });
    let now = std::time::Instant::now();
    let out = a.receive(b"?OTRv23?", now);
    assert_eq!((clear_texts(&out.events), out.lines.len()), (vec![(b"?OTRv23?".to_vec(), false)], 0));
    assert_eq!(a.send(b"x", now).unwrap().1.lines, [b"x"]);
    assert_eq!(a.start(now).err(), Some(Error::PolicyOff));
}

#[test]
fn switching_off_does_not_open_a_private_conversation() {
    let mut pair = Pair::private(Config::default(), Config::default());
    pair.a.set_policy(Policy::Off);
    assert_eq!(pair.a.send(b"secret", pair.now).err(), Some(Error::PolicyOff));
    pair.a.end(pair.now);
    assert_eq!(pair.a.send(b"plain", pair.now).unwrap().1.lines, [b"plain"]);
}

#[test]
fn an_identity_survives_storage_and_shows_no_secret() {
    let identity = Identity::generate().unwrap();
    let bytes = identity.to_bytes();
    let back = Identity::from_bytes(&bytes).unwrap();
    assert_eq!((back.fingerprint(), back.tag()), (identity.fingerprint(), identity.tag()));
    assert_eq!(back.to_bytes(), bytes);
    for cut in 0..bytes.len() {
        assert!(Identity::from_bytes(&bytes[..cut]).is_err());
    }
    let mut wrong = bytes.clone();
    *wrong.last_mut().unwrap() ^= 1;
    assert!(Identity::from_bytes(&wrong).is_err());
    let shown = format!("{identity:?}");
    assert!(shown.contains(&identity.fingerprint().to_string()) && shown.len() < 120, "{shown}");
}
