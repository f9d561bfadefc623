use super::*;

fn identity(n: usize) -> Arc<Identity> {
    static MADE: std::sync::OnceLock<[Arc<Identity>; 3]> = std::sync::OnceLock::new();
    MADE.get_or_init(|| std::array::from_fn(|_| Arc::new(Identity::generate().unwrap())))[n].clone()
}

fn desk(n: usize) -> Desk {
    let mut desk = Desk::new("net", "al@example.org", OtrConfig::default(), OtrPolicy::Opportunistic);
    desk.set_identity(identity(n));
    desk
}

/// A user's desk against a client of bob's; everything is delivered.
struct Pair {
    desk: Desk,
    bob: Session,
    told: Vec<Told>,
    bobs: Vec<Event>,
    now: Instant,
}

impl Pair {
    fn new(desk: Desk, bob: usize) -> Self {
        let bob = Session::new(identity(bob), Config::default());
        Self { desk, bob, told: Vec::new(), bobs: Vec::new(), now: Instant::now() }
    }

    async fn run(&mut self, told: Vec<Told>) {
        let mut to_bob: Vec<Vec<u8>> = Vec::new();
        let mut next = told;
        loop {
            for told in next.drain(..) {
                if let Told::Lines { lines, .. } = &told {
                    to_bob.extend(lines.clone());
                }
                self.told.push(told);
            }
            if to_bob.is_empty() {
                return;
            }
            let mut to_us = Vec::new();
            for line in to_bob.drain(..) {
                let out = self.bob.receive(&line, self.now);
                to_us.extend(out.lines);
                self.bobs.extend(out.events);
            }
            for line in to_us {
                next.extend(self.desk.receive("Bob", &line, 400, self.now).await);
            }
        }
    }

    async fn say(&mut self, text: &str, id: u64) -> Took {
        let (took, told) = self.desk.send("Bob", text, false, id, 400, self.now).unwrap();
        self.run(told).await;
        took
    }

    async fn bob_says(&mut self, text: &str) {
        let (_, out) = self.bob.send(text.as_bytes(), self.now).unwrap();
        for line in out.lines {
            let told = self.desk.receive("Bob", &line, 400, self.now).await;
            self.run(told).await;
        }
    }

    async fn command(&mut self, text: &str) -> String {
        let (lines, told) = self.desk.command(text, 400, self.now).await;
        self.run(told).await;
        lines.join("\n")
    }

    fn words(&mut self) -> String {
        let words =
            self.told.drain(..).filter_map(|told| if let Told::Word { text, .. } = told { Some(text) } else { None });
        words.collect::<Vec<_>>().join("\n")
    }
}

#[tokio::test]
async fn a_conversation_becomes_private_is_verified_and_ends_without_leaking() {
    let mut pair = Pair::new(desk(0), 1);
    assert_eq!(pair.say("hello", 1).await, Took::Clear);
    assert!(pair.words().contains("NOT VERIFIED"));
    assert_eq!(pair.say("secret", 2).await, Took::Encrypted);
    assert!(matches!(pair.bobs.last(), Some(Event::Private { text, .. }) if **text == *b"secret"));
    pair.bob_says("answer").await;
    assert!(matches!(pair.told.last(), Some(Told::Text { private: Some(false), text, .. }) if text == b"answer"));

    assert!(pair.command("verify Bob \"where?\" here").await.contains("wait"));
    let out = pair.bob.smp_answer(b"there", pair.now).unwrap();
    for line in out.lines {
        let told = pair.desk.receive("Bob", &line, 400, pair.now).await;
        pair.run(told).await;
    }
    assert!(pair.words().contains("VERIFICATION FAILED"));
    pair.command("verify Bob \"where?\" here").await;
    let out = pair.bob.smp_answer(b"here", pair.now).unwrap();
    for line in out.lines {
        let told = pair.desk.receive("Bob", &line, 400, pair.now).await;
        pair.run(told).await;
    }
    assert!(pair.words().contains("Verified"));
    pair.bob_says("again").await;
    assert!(matches!(pair.told.last(), Some(Told::Text { private: Some(true), .. })));
    assert!(pair.command("status").await.contains("verified by a shared secret"));

    for line in pair.bob.end(pair.now).lines {
        let told = pair.desk.receive("Bob", &line, 400, pair.now).await;
        pair.run(told).await;
    }
    assert!(pair.words().contains("ended the private conversation"));
    let refused = pair.desk.send("bob", "leak?", false, 9, 400, pair.now).unwrap_err();
    assert!(refused.contains("not sent"), "{refused}");
    pair.command("end bob").await;
    assert!(pair.desk.send("Bob", "in the clear", false, 10, 400, pair.now).is_ok());
}

#[tokio::test]
async fn a_peer_who_had_otr_gets_no_clear_text_and_a_changed_key_is_loud() {
    let mut pair = Pair::new(desk(0), 1);
    pair.say("hello", 1).await;
    pair.command("trust Bob").await;
    let kept = pair.desk.save().unwrap();
    assert!(pair.desk.save().is_none());

    // After a restart, to the same bob: held, then encrypted.
    let mut again = desk(2);
    again.load(&kept).unwrap();
    assert_eq!(again.identity.as_ref().unwrap().fingerprint(), identity(0).fingerprint());
    let mut pair = Pair::new(again, 1);
    assert_eq!(pair.say("secret", 5).await, Took::Held);
    assert!(pair.told.iter().any(|told| matches!(told, Told::Lines { says, .. } if says == &[5])));
    assert!(matches!(pair.bobs.last(), Some(Event::Private { text, .. }) if **text == *b"secret"));
    assert!(pair.words().contains("verified"));

    // To a bob with another key: the warning, and nothing is sent until the user says so.
    let mut again = desk(2);
    again.load(&kept).unwrap();
    let mut pair = Pair::new(again, 2);
    assert_eq!(pair.say("secret", 6).await, Took::Held);
    assert!(!pair.bobs.iter().any(|event| matches!(event, Event::Private { .. } | Event::Clear { .. })));
    let warned = |told: &Told| matches!(told, Told::Word { text, lasting: true, .. } if text.contains("HAS CHANGED") && text.contains("VERIFIED"));
    assert!(pair.told.iter().any(warned), "{:?}", pair.told);
    pair.command("trust Bob").await;
    assert!(matches!(pair.bobs.last(), Some(Event::Private { text, .. }) if **text == *b"secret"));

    // To a bob who does not answer: given back, not sent.
    let mut again = desk(2);
    again.load(&kept).unwrap();
    let now = Instant::now();
    let (took, told) = again.send("bob", "secret", false, 7, 400, now).unwrap();
    assert_eq!(took, Took::Held);
    assert!(!format!("{told:?}").contains("secret"));
    let told = again.tick(now + Duration::from_secs(46));
    assert!(matches!(&told[..], [Told::Failed { say: 7, why }] if why.contains("not sent")));
}

#[tokio::test]
async fn policies_hold() {
    let mut pair = Pair::new(desk(0), 1);
    pair.command("policy require").await;
    assert_eq!(pair.say("secret", 1).await, Took::Held);
    assert!(matches!(pair.bobs.last(), Some(Event::Private { .. })));
    let mut pair = Pair::new(desk(0), 1);
    pair.command("policy Bob off").await;
    assert_eq!(pair.say("hello", 1).await, Took::Clear);
    assert!(pair.told.is_empty(), "no line with an offer");
    let told = pair.desk.receive("bob", b"?OTRv23?", 400, pair.now).await;
    assert!(matches!(&told[..], [Told::Text { private: None, .. }]));
    // Without a key nothing that must be private is sent.
    let mut bare = Desk::new("net", "al", OtrConfig::default(), OtrPolicy::Require);
    assert!(bare.send("bob", "secret", false, 1, 400, pair.now).is_err());
    assert!(pair.command("policy bob sometimes").await.contains("no policy"));
    assert!(pair.command("nonsense").await.contains("status"));
}

#[tokio::test]
async fn a_burst_in_a_private_conversation_is_read_whole_and_what_is_too_much_is_told() {
    let mut pair = Pair::new(desk(0), 1);
    pair.say("hello", 1).await;
    // Strangers used up what is for them: that takes nothing from those who are in a private conversation.
    for n in 0..50 {
        pair.desk.receive(&format!("stranger{n}"), b"?OTRv23?", 400, pair.now).await;
    }
    assert!(pair.desk.receive("another", b"?OTRv23?", 400, pair.now).await.is_empty());
    pair.told.clear();
    for n in 0..PRIVATE_AT_ONCE {
        pair.bob_says(&format!("text {n}")).await;
    }
    let texts = |told: &[Told]| told.iter().filter(|told| matches!(told, Told::Text { private: Some(_), .. })).count();
    assert!(texts(&pair.told) >= 190, "{} and {:?}", texts(&pair.told), pair.told.last());
    pair.told.clear();
    for n in 0..20 {
        pair.bob_says(&format!("more {n}")).await;
    }
    let lost = pair
        .told
        .iter()
        .filter(|told| matches!(told, Told::Word { text, lasting: true, .. } if text.contains("is lost")));
    assert_eq!(texts(&pair.told) + lost.count(), 20);
    assert!(texts(&pair.told) < 20);
    pair.now += Duration::from_secs(20);
    pair.told.clear();
    pair.bob_says("later").await;
    assert_eq!(texts(&pair.told), 1);
}
