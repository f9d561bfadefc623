//! Networks outside, the whole way: a user's own client at the exchange, the connection that the exchange holds, ngircd, and others there.

mod support;

use crate::support::{Lines, until};
use crate::tools::{run, succeed};
use std::process::Command;
use support::{Exchange, Irssi, Ngircd, Talker};

/// So slow that lines wait when the network goes.
const PACE: (u32, u32) = (10, 200);
const CHANNEL: &str = "Chat%2Fnet%2F%23chan";

/// Lines of what somebody said, by one client.
fn said(lines: &[String], text: &str) -> usize {
    lines.iter().filter(|line| line.contains("PRIVMSG") && line.ends_with(text)).count()
}

#[test]
fn lines_go_both_ways_in_a_channel_and_in_a_query() {
    let network = Ngircd::start();
    let mut eve = Talker::outside(network.port, "Eve");
    eve.send("JOIN #chan");
    eve.until(" 366 ");
    let exchange = Exchange::start(network.port, PACE);
    let mut alice = exchange.client("alice@desk", "echo-message");

    // A client that is bound to no network is in `#chan/net`, under its own nick, with the others as `nick/net`.
    assert!(alice.hears("JOIN #chan/net").starts_with(":alice!alice@"));
    let names = alice.until(" 366 ");
    let names = names.iter().find(|line| line.contains(" 353 ")).unwrap();
    assert!(names.contains("#chan/net :") && names.contains("@Eve/net") && !names.contains("alice/net"), "{names}");
    eve.hears("JOIN :#chan");

    // Both ways in the channel: once, to all of alice's clients.
    let mut bound = exchange.client("alice/net@laptop", "");
    bound.hears("JOIN #chan");
    let names = bound.hears(" 353 ");
    assert!(names.contains("#chan :") && names.contains("@Eve") && names.contains("alice"), "{names}");
    eve.send("PRIVMSG #chan :hello from outside");
    assert!(alice.hears("hello from outside").contains(":Eve/net!"));
    let heard = bound.hears("hello from outside");
    assert!(heard.contains(":Eve!") && heard.contains("PRIVMSG #chan :"), "{heard}");
    alice.send("PRIVMSG #chan/net :hello from the exchange");
    let heard = eve.hears("hello from the exchange");
    assert!(heard.starts_with(":alice!") && heard.contains("PRIVMSG #chan :"), "{heard}");
    assert!(alice.hears("hello from the exchange").contains(":alice!alice@example.org PRIVMSG #chan/net :"));
    assert!(bound.hears("hello from the exchange").contains(":alice!alice@example.org PRIVMSG #chan :"));
    bound.send("PRIVMSG #chan :\u{1}ACTION waves\u{1}");
    assert!(eve.hears("waves").ends_with("PRIVMSG #chan :\u{1}ACTION waves\u{1}"));
    assert!(alice.hears("waves").contains("PRIVMSG #chan/net :\u{1}ACTION waves"));

    // And in a query.
    eve.send("PRIVMSG alice :psst");
    assert!(alice.hears("psst").contains(":Eve/net!eve@net PRIVMSG alice :psst"));
    assert!(bound.hears("psst").contains(":Eve!"));
    alice.send("PRIVMSG eve/net :I hear you");
    // The first text carries an offer of OTR.
    let heard = eve.hears("I hear you");
    assert!(heard.to_lowercase().contains(" privmsg eve :"), "{heard}");
    assert!(alice.hears("I hear you").contains("PRIVMSG eve/net :I hear you"));
    assert!(bound.hears("I hear you").contains("PRIVMSG eve :I hear you"));

    // What is transient: joins, parts, topics, nicks, modes, questions.
    let mut frank = Talker::outside(network.port, "frank");
    frank.send("JOIN #chan");
    assert!(alice.hears("JOIN #chan/net").starts_with(":frank/net!"));
    eve.send("TOPIC #chan :of cheese");
    assert!(alice.hears("of cheese").starts_with(":Eve/net!"));
    assert!(bound.hears("of cheese").contains("TOPIC #chan :of cheese"));
    alice.send("TOPIC #chan/net");
    assert!(alice.hears(" 332 ").ends_with(" 332 alice #chan/net :of cheese"));
    alice.send("TOPIC #chan/net :of mine");
    eve.hears("TOPIC #chan :of mine");
    alice.send("MODE #chan/net +m");
    assert!(alice.hears(" 482 ").contains(" 482 alice #chan/net "));
    alice.send("NAMES #chan/net");
    let names = alice.hears(" 353 ");
    assert!(names.contains("@Eve/net") && names.contains("frank/net") && !names.contains("alice/net"), "{names}");
    alice.send("WHOIS eve/net");
    assert!(alice.hears(" 311 ").contains(" 311 alice Eve/net "));
    alice.hears(" 318 ");
    bound.send("WHOIS eve");
    assert!(bound.hears(" 311 ").contains(" 311 alice Eve "));
    frank.send("PART #chan :good night");
    assert!(alice.hears("good night").starts_with(":frank/net!"));
    alice.send("JOIN #second/net");
    assert!(alice.hears("JOIN #second/net").starts_with(":alice!alice@"));
    assert!(bound.hears("JOIN #second").starts_with(":alice!"));
    alice.send("PART #second/net");
    assert!(alice.hears("PART #second/net").starts_with(":alice!alice@"));
    // The user took another nick there: the client that is bound to no network keeps its own.
    bound.send("NICK alicia");
    assert!(bound.hears(" NICK ").ends_with("alicia"));
    eve.hears("NICK :alicia");
    alice.send("PRIVMSG #chan/net :by another nick");
    assert!(eve.hears("by another nick").starts_with(":alicia!"));
    assert!(alice.hears("by another nick").contains(":alice!"));
    // The other way to be bound.
    let mut third = exchange.bound_client("alice", "net");
    assert!(third.hears("JOIN #chan").starts_with(":alicia!"));
    third.send("PRIVMSG #chan :by BOUNCER BIND");
    eve.hears("by BOUNCER BIND");
    bound.hears("by BOUNCER BIND");
}

#[test]
fn mail_and_channel_are_one_and_nothing_comes_twice() {
    let network = Ngircd::start();
    let mut eve = Talker::outside(network.port, "eve");
    eve.send("JOIN #chan");
    eve.until(" 366 ");
    let exchange = Exchange::start(network.port, PACE);
    let mut alice = exchange.client("alice/net@desk", "echo-message");
    alice.hears("JOIN #chan");
    eve.hears("JOIN :#chan");
    eve.send("PRIVMSG #chan :a line for the mail program");
    alice.hears("a line for the mail program");

    // The mailbox, and the line in it, once; an answer goes to the channel.
    let list = exchange.imap("alice", "", Some("LIST \"\" \"Chat/*\""));
    assert!(list.contains("Chat/net/#chan"), "{list}");
    let line = exchange.imap("alice", &format!("{CHANNEL};MAILINDEX=1"), None);
    assert!(line.contains("a line for the mail program"), "{line}");
    assert!(line.contains("From: eve <eve@net.irc.example.org>"), "{line}");
    assert!(line.contains("Reply-To: <#chan@net.irc.example.org>"), "{line}");
    assert_eq!(exchange.count("alice", CHANNEL, "a line for the mail program"), 1);

    // A mail to the channel is said in it: once there, once in the client, once in the mailbox.
    exchange.mail("alice", "#chan@net.irc.example.org", "said by mail");
    let heard = eve.hears("said by mail");
    assert!(heard.starts_with(":alice!") && heard.ends_with("PRIVMSG #chan :said by mail"), "{heard}");
    assert!(alice.hears("said by mail").contains("PRIVMSG #chan :said by mail"));
    // And one to a nick.
    exchange.mail("alice", "eve@net.irc.example.org", "to you alone");
    assert!(eve.hears("to you alone").contains(" PRIVMSG eve :"));
    alice.hears("to you alone");
    // Whatever would come back is there before this.
    eve.send("PRIVMSG #chan :the end");
    let heard = alice.until("the end");
    assert_eq!((said(&heard, "said by mail"), said(&heard, "to you alone")), (0, 0), "{heard:#?}");
    let heard = eve.rest("eve-is-here");
    assert_eq!((said(&heard, "said by mail"), said(&heard, "to you alone")), (0, 0), "{heard:#?}");
    assert_eq!(exchange.count("alice", CHANNEL, "said by mail"), 1);
    assert_eq!(exchange.count("alice", "Chat%2Fnet%2Feve", "to you alone"), 1);
    for mailbox in ["INBOX", "Sent"] {
        assert_eq!(exchange.count("alice", mailbox, "said by mail"), 0, "{mailbox}");
    }

    // Bob is on the network by a connection of his own, and hears what alice says there as anybody does.
    let mut bob = exchange.client("bob/net@desk", "");
    bob.hears("JOIN #chan");
    alice.hears(":bob!");
    alice.send("PRIVMSG #chan :to everybody");
    assert!(bob.hears("to everybody").contains(":alice!alice@net PRIVMSG #chan"));
    assert_eq!(exchange.count("bob", CHANNEL, "to everybody"), 1);

    // Strangers don't speak on IRC, nor does one user by another's name.
    let mut stranger = Lines::connect(exchange.at("smtp", "mx"));
    stranger.smtp_reply();
    stranger.smtp("EHLO peer.example.net");
    stranger.smtp("MAIL FROM:<joe@example.net>");
    for to in ["#chan@net.irc.example.org", "eve@net.irc.example.org", "nobody@net.irc.example.org"] {
        let reply = stranger.smtp(&format!("RCPT TO:<{to}>"));
        assert!(reply.starts_with("550 5.7.1"), "{to}: {reply}");
    }
    let server = exchange.at("submission", "submission").to_string();
    let login = ["--auth", "PLAIN", "--auth-user", "bob", "--auth-password", exchange.password("bob")];
    let mail =
        ["--server", &server, "--from", "alice@example.org", "--to", "#chan@net.irc.example.org", "--body", "forged"];
    assert!(!run(Command::new("swaks").args(login).args(mail), b"").status.success());
}

#[test]
fn lines_wait_for_the_network_and_go_out_in_order() {
    let mut network = Ngircd::start();
    let mut exchange = Exchange::start(network.port, PACE);
    let mut alice = exchange.client("alice/net@desk", "echo-message");
    alice.hears("JOIN #chan");
    // Some are on their way when the network goes.
    for n in 0..20 {
        alice.send(&format!("PRIVMSG #chan :line {n:02}"));
    }
    alice.hears("line 03");
    network.end();
    alice.hears("Disconnected from net");
    for n in 20..30 {
        alice.send(&format!("PRIVMSG #chan :line {n:02}"));
    }
    alice.hears("line 29");
    // And a restart of the exchange before the network is back.
    exchange.stop();
    exchange.run();
    let mut alice = exchange.client("alice/net@desk", "echo-message");
    for n in 30..35 {
        alice.send(&format!("PRIVMSG #chan :line {n:02}"));
    }
    alice.hears("line 34");
    network.run();
    let mut eve = Talker::outside(network.port, "eve");
    eve.send("JOIN #chan");
    eve.until(" 366 ");
    let mut heard: Vec<String> = Vec::new();
    while heard.last().is_none_or(|last| last != "line 34") {
        let line = eve.hears("PRIVMSG #chan :line ");
        heard.push(line.rsplit_once(" :").unwrap().1.to_owned());
    }
    // What was being written when the network went may come again; nothing else does, and nothing is lost.
    let mut once = heard.clone();
    once.dedup();
    assert!(heard.len() <= once.len() + 1, "{heard:?}");
    let all: Vec<String> = (0..35).map(|n| format!("line {n:02}")).collect();
    assert_eq!(once[..], all[35 - once.len()..], "{heard:?}");
    // Those before had been said while nobody else was there to hear.
    assert!(once.len() >= 15, "{heard:?}");
    assert_eq!(exchange.count("alice", CHANNEL, "line"), 35);
}

#[test]
fn irssi_is_on_the_network_through_the_exchange() {
    let network = Ngircd::start();
    let mut eve = Talker::outside(network.port, "eve");
    eve.send("JOIN #chan");
    eve.until(" 366 ");
    let exchange = Exchange::start(network.port, PACE);
    let at = exchange.at("irc-client", "irc");
    let login = |login: &str| {
        let password = exchange.password("alice");
        let (ip, port) = (at.ip(), at.port());
        Irssi::start("", &[&format!("--connect={ip} --port={port} --nick=alice --password={login}:{password}")])
    };
    let bound = login("alice/net@desk");
    bound.see("[Act: 2]");
    bound.type_line("/window 2");
    bound.see("[2:");
    bound.type_line("hello from irssi");
    eve.hears(":hello from irssi");
    eve.send("PRIVMSG #chan :hello irssi");
    bound.see("eve> hello irssi");
    let unbound = login("alice@laptop");
    unbound.see("[Act: 2]");
    unbound.type_line("/window 2");
    unbound.see("#chan/net");
    eve.send("PRIVMSG #chan :hello again");
    unbound.see("eve/net> hello again");
    unbound.type_line("from the laptop");
    eve.hears(":from the laptop");
    bound.see("from the laptop");
    unbound.type_line("/msg eve/net by query");
    eve.hears("by query");
    unbound.type_line("/msg *otr status");
    for window in ["/window 1", "/window 3", "/window 4"] {
        unbound.type_line(window);
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    unbound.see("No private conversations on net");
}

/// What is to be done for a peer in irssi with its OTR plugin, called bob, on the network.
fn irssi_with_otr(network: &Ngircd) -> Irssi {
    let startup = format!("load otr\nconnect -nocap 127.0.0.1 {}", network.port);
    let home = tempfile::tempdir().unwrap();
    let core = "real_name = \"peer\"; user_name = \"peer\"; nick = \"peer\";";
    std::fs::write(home.path().join("config"), format!("settings = {{ core = {{ {core} }}; }};\n")).unwrap();
    let irssi = Irssi::at(home, &startup, &[]);
    let mut look = Talker::outside(network.port, "look");
    until("irssi connects", || {
        look.send("ISON peer");
        look.hears(" 303 ").contains("peer")
    });
    // The plugin has its keys under irssi's name for the connection: what stands before the first dot of the address.
    irssi.type_line("/otr genkey 127");
    irssi.see("completed");
    irssi
}

/// Asks the service nick until its answer holds a text.
fn ask(client: &mut Talker, command: &str, wanted: &str) -> String {
    loop {
        client.send(&format!("PRIVMSG *otr :{command}\r\nPING :asked"));
        let answers = client.until(" PONG ");
        let answers: Vec<_> = answers.iter().filter(|line| line.contains(":*otr!")).cloned().collect();
        assert!(answers.iter().all(|line| line.contains(" NOTICE ")), "{answers:#?}");
        let all = answers.join("\n");
        if all.contains(wanted) {
            return all;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

#[test]
fn otr_is_driven_from_the_users_own_client_to_irssi_outside() {
    let network = Ngircd::start();
    let mut exchange = Exchange::start(network.port, (50, 20));
    let mut alice = exchange.client("alice/net@desk", "echo-message");
    alice.hears("JOIN #chan");
    ask(&mut alice, "help", "status [NICK]");
    ask(&mut alice, "status", "No private conversations on net");
    until("the key is made", || !ask(&mut alice, "fingerprints", "Yours on net").contains("not made"));
    let own = |all: String| all.lines().find(|line| line.contains("Yours on net")).unwrap().to_owned();
    let fingerprint = own(ask(&mut alice, "fingerprints", "Yours on net"));
    let peer = irssi_with_otr(&network);

    alice.send("PRIVMSG peer :in the clear");
    peer.type_line("/query alice");
    peer.see("in the clear");
    // The plugin takes up the offer that came with it.
    assert!(alice.hears("NOT VERIFIED").contains(":*otr!otr@"));
    ask(&mut alice, "status peer", "peer: private, not verified");
    // Once irssi reads what is encrypted, it encrypts.
    alice.send("PRIVMSG peer :for the peer");
    peer.see("for the peer");
    peer.type_line("from the peer");
    let line = alice.hears("from the peer");
    assert!(line.contains("mesyx.org/otr=unverified") && line.contains(":peer!"), "{line}");

    // Verification with the wrong secret, and with the right one. What else there is in such a life is tried with irssi, libotr and
    // python3-potr in the bridge's own tests.
    ask(&mut alice, "verify peer sesame", "is asked for the secret");
    peer.see("/otr auth");
    peer.type_line("/otr auth mustard");
    alice.hears("VERIFICATION FAILED");
    ask(&mut alice, "verify peer sesame", "is asked for the secret");
    until("the peer is asked again", || peer.screen().matches("wants to authenticate").count() == 2);
    peer.type_line("/otr auth sesame");
    alice.hears("Verified: peer knows the same secret");
    peer.type_line("now verified");
    assert!(alice.hears("now verified").contains("mesyx.org/otr=verified"));
    alice.send("PRIVMSG *otr :refresh peer");
    alice.hears("has fresh keys");
    peer.type_line("by the new keys");
    let line = alice.hears("by the new keys");
    assert!(line.contains("mesyx.org/otr=verified"), "{line}");

    // The peer ends it: what alice says then goes nowhere, and she is told.
    peer.type_line("/otr finish");
    alice.hears("ended the private conversation");
    alice.send("PRIVMSG peer :LEAK");
    alice.hears("To peer: not sent: peer ended the private conversation");
    peer.type_line("/otr init");
    alice.hears("Private conversation with peer (OTR), verified");
    alice.send("PRIVMSG peer :private again");
    peer.see("private again");
    assert!(!peer.screen().contains("LEAK"));

    // The exchange starts anew, with the same key: a text waits until it is private.
    exchange.stop();
    exchange.run();
    let mut alice = exchange.client("alice/net@desk", "echo-message");
    alice.hears("JOIN #chan");
    assert_eq!(own(ask(&mut alice, "fingerprints", "Yours on net")), fingerprint);
    alice.send("PRIVMSG peer :private from the start");
    peer.see("private from the start");
    ask(&mut alice, "status peer", "peer: private, verified by a shared secret");

    // A mail program sees what was protected: by a header that nobody else can set.
    let mut eve = Talker::outside(network.port, "eve");
    eve.send("PRIVMSG alice :as anybody can read");
    alice.hears("as anybody can read");
    let header = |nick: &str, text: &str| {
        let mail = exchange.message("alice", &format!("Chat%2Fnet%2F{nick}"), text);
        mail.lines().find(|line| line.starts_with("Mesyx-Protection:")).map(|line| line.trim_end().to_owned())
    };
    assert_eq!(header("peer", "from the peer").as_deref(), Some("Mesyx-Protection: otr"));
    assert_eq!(header("peer", "now verified").as_deref(), Some("Mesyx-Protection: otr; verified"));
    assert_eq!(header("eve", "as anybody can read"), None);
    let server = exchange.at("smtp", "mx").to_string();
    let forged = ["--header", "Mesyx-Protection: otr; verified", "--header", "Subject: a forgery"];
    let mail = ["--server", &server, "--from", "joe@example.net", "--to", "alice@example.org", "--body", "forged text"];
    succeed(Command::new("swaks").args(mail).args(forged), b"");
    until("the mail is there", || exchange.count("alice", "INBOX", "forged text") == 1);
    let mail = exchange.message("alice", "INBOX", "forged text");
    assert!(mail.contains("Subject: a forgery") && !mail.contains("Mesyx-Protection"), "{mail}");
}

#[test]
fn a_relay_ties_a_group_to_a_channel_outside() {
    const GROUP: &str = "Chat%2F%23x";
    let network = Ngircd::start();
    let mut eve = Talker::outside(network.port, "eve");
    eve.send("JOIN #x");
    eve.until(" 366 ");
    let relay = "relay = { nick = \"mesyx\", channels = [{ name = \"#x\", group = \"#x\" }] }\nconnect = false\n";
    let mut exchange = Exchange::with(network.port, PACE, relay);
    eve.hears("JOIN :#x");
    let irssi = |exchange: &Exchange, name: &str| {
        let at = exchange.at("irc-client", "irc");
        let password = exchange.password(name);
        let (ip, port) = (at.ip(), at.port());
        let arguments = format!("--connect={ip} --port={port} --nick={name} --password={name}:{password}");
        let irssi = Irssi::start("", &[&arguments]);
        irssi.see("hello");
        irssi
    };
    let (alice, bob) = (irssi(&exchange, "alice"), irssi(&exchange, "bob"));
    for (client, name) in [(&alice, "alice"), (&bob, "bob")] {
        client.type_line("/join #x");
        client.see(&format!("{name} [{name}@example.org] has joined #x"));
    }

    // The channel has not allowed it.
    alice.type_line("for nobody outside");
    bob.see("for nobody outside");
    eve.send("PRIVMSG #x :for nobody inside");
    eve.send("PRIVMSG mesyx :hello?");
    let mut heard = eve.until(" NOTICE eve :#x ");
    assert!(heard.last().unwrap().contains("#x is not relayed"), "{heard:#?}");
    // It does, and both sides see so.
    eve.send("MODE #x +v mesyx");
    heard.extend(eve.until("NOTICE #x :I am a relay"));
    assert!(!heard.iter().any(|line| line.contains("for nobody outside")), "{heard:#?}");
    alice.see("This group is relayed to #x on the IRC network net");
    bob.see("This group is relayed to #x");

    alice.type_line("hello from alice");
    assert!(eve.hears("hello from alice").ends_with("PRIVMSG #x :<alice> hello from alice"));
    bob.see("alice> hello from alice");
    bob.type_line("/me waves");
    assert!(eve.hears("waves").ends_with("PRIVMSG #x :* bob waves"));
    eve.send("PRIVMSG #x :hello from outside");
    alice.see("eve/net> hello from outside");
    bob.see("eve/net> hello from outside");
    // By mail, too.
    exchange.mail("bob", "#x@irc.example.org", "said by mail");
    assert!(eve.hears("said by mail").ends_with("PRIVMSG #x :<bob> said by mail"));
    alice.see("bob> said by mail");

    // In the members' mail, once each, under names that can be answered; what was not allowed has not come in, and no echo.
    eve.send("PRIVMSG #x :the end");
    alice.see("eve/net> the end");
    for name in ["alice", "bob"] {
        for text in ["hello from alice", "hello from outside", "said by mail", "the end", "This group is relayed"] {
            assert_eq!(exchange.count(name, GROUP, text), 1, "{name}: {text}");
        }
        assert_eq!(exchange.count(name, GROUP, "for nobody inside"), 0);
    }
    let last = exchange.imap("alice", &format!("{GROUP};MAILINDEX=*"), None);
    assert!(last.contains("From: eve <eve@net.irc.example.org>"), "{last}");
    assert!(last.contains("Reply-To: <#x@irc.example.org>"), "{last}");

    // The next life of the exchange goes on where this one was: nobody has to allow it again, and nothing is told twice.
    exchange.stop();
    exchange.run();
    let mut alice = exchange.client("alice", "");
    eve.hears("JOIN :#x");
    alice.send("PRIVMSG #x :after the restart");
    let heard = eve.until("<alice> after the restart");
    assert!(!heard.iter().any(|line| line.contains("NOTICE #x")), "{heard:#?}");
    eve.send("PRIVMSG #x :welcome back");
    assert!(alice.hears("welcome back").contains(":eve/net!eve@net PRIVMSG #x :"));
    // An operator ends it.
    eve.send("KICK #x mesyx :enough");
    assert!(alice.hears("is not relayed to #x").contains(":*relay!relay@net NOTICE #x :"));
    alice.send("PRIVMSG #x :among us again");
    alice.rest("alice-is-here");
    let heard = eve.rest("eve-is-here");
    assert_eq!(said(&heard, "among us again"), 0, "{heard:#?}");
    for text in ["after the restart", "welcome back"] {
        assert_eq!(exchange.count("bob", GROUP, text), 1, "{text}");
    }
}
