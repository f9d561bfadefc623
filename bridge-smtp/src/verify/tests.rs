//! The checks against a name server on loopback, with signatures made by mail-auth; signers that are not ours are tried in
//! `tests/mx.rs`.

#[path = "../../../net/tests/support/dns.rs"]
mod dns;

use super::*;
use dns::Zone;
use mail_auth::common::crypto::{Ed25519Key, RsaKey, Sha256};
use mail_auth::common::headers::HeaderWriter;
use mail_auth::dkim::DkimSigner;
use mesyx_sdk::ConfigErrors;

const IP: &str = "192.0.2.1";

/// A verifier whose name server knows bank.test: SPF for [`IP`] alone, a DKIM key `s`, DMARC with `p=reject`.
struct Bench {
    zone: Zone,
    verifier: Verifier,
    key: Vec<u8>,
}

fn bench() -> Bench {
    bench_with(|_| {})
}

fn bench_with(change: impl FnOnce(&mut VerifyConfig)) -> Bench {
    let zone = Zone::start();
    let key = Ed25519Key::generate_pkcs8().unwrap();
    let public = Ed25519Key::from_pkcs8_maybe_unchecked_der(&key).unwrap().public_key();
    let public = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, public);
    for domain in ["bank.test", "evil.test", "lists.test"] {
        zone.txt(&format!("s._domainkey.{domain}"), &format!("v=DKIM1; k=ed25519; p={public}"));
    }
    zone.txt("bank.test", &format!("v=spf1 ip4:{IP} -all")).txt("_dmarc.bank.test", "v=DMARC1; p=reject");
    zone.txt("_dmarc.mild.test", "v=DMARC1; p=quarantine").address("mild.test", "192.0.2.9").address("evil.test", IP);
    let mut config = VerifyConfig::default();
    change(&mut config);
    let mut errors = ConfigErrors::default();
    let checked = config.check(&mut errors);
    assert!(errors.0.is_empty());
    let verifier = Verifier::new(&checked, &zone.config(), "mail.example.org").unwrap().unwrap();
    Bench { zone, verifier, key }
}

impl Bench {
    fn sign(&self, domain: &str, headers: &[&str], message: &str) -> String {
        let key = Ed25519Key::from_pkcs8_maybe_unchecked_der(&self.key).unwrap();
        let signer = DkimSigner::from_key(key).domain(domain).selector("s").headers(headers.iter().copied());
        format!("{}{message}", signer.sign(message.as_bytes()).unwrap().to_header())
    }

    /// From a host that SPF says nothing good of.
    async fn check(&self, message: &str) -> Verdict {
        self.check_from("198.51.100.1", "a@bank.test", message).await
    }

    async fn check_from(&self, ip: &str, from: &str, message: &str) -> Verdict {
        let from = from.parse().ok();
        let peer = Peer { ip: ip.parse().unwrap(), helo: "host.test", from: from.as_ref() };
        self.verifier.check(Bytes::copy_from_slice(message.as_bytes()), peer).await
    }
}

const SIGNED: [&str; 3] = ["From", "To", "Subject"];
const MESSAGE: &str = "From: Bank <a@bank.test>\r\nTo: b@example.org\r\nSubject: hello\r\n\r\ntext\r\n";

fn refused(verdict: &Verdict) -> bool {
    matches!(verdict.action, Action::Refuse(_))
}

#[tokio::test]
async fn either_signature_or_host_speaks_for_the_domain() {
    let bench = bench();
    let signed = bench.check(&bench.sign("bank.test", &SIGNED, MESSAGE)).await;
    assert_eq!(signed.checks, ["spf=fail", "dkim=pass", "dmarc=pass"]);
    assert_eq!(signed.action, Action::Take);
    assert!(signed.field.starts_with(
        "Authentication-Results: mail.example.org;\r\n\tspf=fail smtp.mailfrom=bank.test;\r\n\tdkim=pass"
    ));
    assert!(signed.field.contains("header.from=bank.test policy.dmarc=reject"), "{}", signed.field);
    let by_host = bench.check_from(IP, "a@bank.test", MESSAGE).await;
    assert_eq!(by_host.checks, ["spf=pass", "dkim=none", "dmarc=pass"]);
    let forged = bench.check(MESSAGE).await;
    assert_eq!(forged.checks, ["spf=fail", "dkim=none", "dmarc=fail"]);
    assert!(refused(&forged), "{forged:?}");
    // Somebody else's signature and host don't speak for it.
    let other = bench.check_from(IP, "a@evil.test", &bench.sign("evil.test", &SIGNED, MESSAGE)).await;
    assert_eq!(other.checks, ["spf=none", "dkim=pass", "dmarc=fail"]);
    assert!(refused(&other));
}

#[tokio::test]
async fn quarantine_is_junk_and_report_and_no_policy_are_taken() {
    let bench = bench();
    let mild = MESSAGE.replace("bank.test", "mild.test");
    assert!(matches!(bench.check_from(IP, "a@mild.test", &mild).await.action, Action::Junk(_)));
    assert_eq!(bench.check_from(IP, "a@other.test", &MESSAGE.replace("bank", "other")).await.action, Action::Take);
    let report = bench_with(|config| config.dmarc = DmarcMode::Report);
    let verdict = report.check(MESSAGE).await;
    assert_eq!((verdict.action, verdict.checks.last().map(String::as_str)), (Action::Take, Some("dmarc=fail")));
}

#[tokio::test]
async fn a_second_from_is_refused_however_it_is_written() {
    let bench = bench();
    for second in ["From: x@evil.test", "from : x@evil.test", "FROM:\r\n x@evil.test", "From: a@bank.test"] {
        let signed = bench.sign("bank.test", &SIGNED, MESSAGE);
        for message in [format!("{second}\r\n{signed}"), signed.replace("\r\n\r\n", &format!("\r\n{second}\r\n\r\n"))] {
            assert!(refused(&bench.check(&message).await), "{message}");
        }
    }
    // One field with two authors: each domain must agree.
    let two = MESSAGE.replace("Bank <a@bank.test>", "x@evil.test, a@bank.test");
    assert!(refused(&bench.check_from(IP, "x@evil.test", &bench.sign("evil.test", &SIGNED, &two)).await));
    let none = MESSAGE.replace("Bank <a@bank.test>", "\"a@bank.test\" <>");
    assert!(matches!(bench.check(&none).await.action, Action::Junk(_)));
    let many = (0..6).map(|index| format!("x@d{index}.test")).collect::<Vec<_>>().join(", ");
    assert!(refused(&bench.check(&MESSAGE.replace("Bank <a@bank.test>", &many)).await));
}

#[tokio::test]
async fn a_length_limit_raises_no_trust() {
    let bench = bench();
    let signed = bench.sign("bank.test", &SIGNED, MESSAGE);
    for tag in ["l=6; ", "l=0; ", " l = 6;", "\r\n\tl=99;"] {
        let limited = signed.replacen("v=1;", &format!("v=1;{tag}"), 1);
        assert_ne!(limited, signed);
        let verdict = bench.check(&limited).await;
        assert!(verdict.field.contains("dkim=policy (it covers part of the body 'l=')"), "{}", verdict.field);
        assert!(refused(&verdict));
    }
    // It would have verified: a signer that really limits it.
    let key = Ed25519Key::from_pkcs8_maybe_unchecked_der(&bench.key).unwrap();
    let signer = DkimSigner::from_key(key).domain("bank.test").selector("s").headers(SIGNED).body_length(true);
    let limited = format!("{}{MESSAGE}and more\r\n", signer.sign(MESSAGE.as_bytes()).unwrap().to_header());
    assert!(limited.contains("l=6"), "{limited}");
    assert!(refused(&bench.check(&limited).await));
}

#[tokio::test]
async fn fields_beside_the_signed_ones_raise_no_trust() {
    let bench = bench();
    let signed = bench.sign("bank.test", &SIGNED, MESSAGE);
    for extra in ["Subject: pay now", "to: c@example.org", "Subject :x", "SUBJECT:"] {
        for message in [format!("{extra}\r\n{signed}"), signed.replacen("\r\n\r\n", &format!("\r\n{extra}\r\n\r\n"), 1)]
        {
            let verdict = bench.check(&message).await;
            assert!(
                !verdict.checks.contains(&"dkim=pass".to_owned()) && refused(&verdict),
                "{message}\n{}",
                verdict.field
            );
        }
    }
    // Two of a field that is not signed at all.
    let verdict = bench.check(&format!("Date: x\r\nDate: y\r\n{signed}")).await;
    assert!(verdict.field.contains("dkim=policy"), "{}", verdict.field);
    // A line that is no field: programs differ on where the body begins.
    let verdict = bench.check(&signed.replacen("Subject: hello\r\n", "Subject: hello\r\nno field\r\n", 1)).await;
    assert!(!verdict.checks.contains(&"dkim=pass".to_owned()), "{}", verdict.field);
    // Fields that nobody is shown may come on the way.
    assert_eq!(
        bench.check(&format!("Received: x\r\nReceived: y\r\nList-Id: z\r\n{signed}")).await.action,
        Action::Take
    );
    let without = bench.sign("bank.test", &["To", "Subject"], MESSAGE);
    assert!(bench.check(&without).await.field.contains("dkim=permerror (it does not cover From)"));
}

#[tokio::test]
async fn a_changed_body_or_field_fails() {
    let bench = bench();
    let signed = bench.sign("bank.test", &SIGNED, MESSAGE);
    for changed in [signed.replace("text", "more"), signed.replace("hello", "help"), format!("{signed}more\r\n")] {
        let verdict = bench.check(&changed).await;
        assert!(verdict.checks.contains(&"dkim=fail".to_owned()) && refused(&verdict), "{}", verdict.field);
    }
}

#[tokio::test]
async fn what_can_not_be_told_refuses_nothing() {
    let bench = bench();
    bench.zone.fail("s._domainkey.bank.test", None);
    let verdict = bench.check(&bench.sign("bank.test", &SIGNED, MESSAGE)).await;
    assert_eq!(verdict.checks, ["spf=fail", "dkim=temperror", "dmarc=temperror"]);
    assert_eq!(verdict.action, Action::Take);
    bench.zone.fail("_dmarc.bank.test", None).fail("bank.test", None);
    bench.verifier.resolver.resolver().clear_cache();
    let verdict = bench.check(MESSAGE).await;
    assert_eq!(verdict.checks, ["spf=temperror", "dkim=none", "dmarc=temperror"]);
    assert_eq!(verdict.action, Action::Take);
}

#[tokio::test]
async fn a_silent_name_server_is_waited_for_so_long() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let dns = DnsConfig {
        servers: vec![silent.local_addr().unwrap().to_string()],
        timeout_seconds: 60,
        ..DnsConfig::default()
    };
    let config = VerifyConfig { seconds: 1, ..VerifyConfig::default() };
    let checked = config.check(&mut ConfigErrors::default());
    let verifier = Verifier::new(&checked, &dns, "mail.example.org").unwrap().unwrap();
    let bench = Bench { verifier, ..bench() };
    let signed = bench.sign("bank.test", &SIGNED, MESSAGE);
    let verdict = bench.check(&signed).await;
    assert_eq!(verdict.checks, ["spf=temperror", "dkim=temperror", "dmarc=temperror"]);
    assert_eq!(verdict.action, Action::Take);
}

/// A sender whose records use up what may be asked, or whose name server is silent, does not keep the author's policy from being
/// asked for; nor does one author's domain for the next one's.
#[tokio::test]
async fn each_authors_policy_has_time_and_questions_of_its_own() {
    let bench = bench_with(|config| {
        config.lookups = 20;
        config.seconds = 2;
    });
    let terms: String = (0..9).map(|index| format!("mx:m{index}.evil.test ")).collect();
    bench.zone.txt("evil.test", &format!("v=spf1 {terms}-all"));
    for index in 0..9 {
        for host in 0..9 {
            bench.zone.mx(&format!("m{index}.evil.test"), 10, &format!("h{host}.m{index}.evil.test"));
            bench.zone.address(&format!("h{host}.m{index}.evil.test"), "203.0.113.1");
        }
    }
    let verdict = bench.check_from("198.51.100.1", "a@evil.test", MESSAGE).await;
    assert_eq!(verdict.checks, ["spf=permerror", "dkim=none", "dmarc=fail"]);
    assert!(refused(&verdict));
    // The sender's record is behind a server that says nothing for longer than all checks may take.
    bench.zone.silent("slow.test");
    let verdict = bench.check_from("198.51.100.1", "a@slow.test", MESSAGE).await;
    assert_eq!(verdict.checks, ["spf=temperror", "dkim=none", "dmarc=fail"]);
    assert!(refused(&verdict));
    // And so is the policy of the first of two authors.
    bench.zone.silent("_dmarc.slow.test");
    let two = MESSAGE.replace("From: Bank <a@bank.test>", "From: a@slow.test, a@bank.test");
    let verdict = bench.check(&two).await;
    assert!(refused(&verdict), "{verdict:?}");
}

#[tokio::test]
async fn a_thousand_signatures_cost_as_much_as_ten() {
    let bench = bench();
    let signed = bench.sign("bank.test", &SIGNED, MESSAGE);
    let (field, _) = signed.split_once("From:").unwrap();
    let hostile: String =
        (0..1000).map(|index| field.replace("d=bank.test", &format!("d=d{index}.evil.test"))).collect();
    let verdict = bench.check(&format!("{hostile}{signed}")).await;
    // The author's own is looked at, wherever it stands.
    assert!(verdict.checks.contains(&"dkim=pass".to_owned()) && verdict.action == Action::Take, "{}", verdict.field);
    let asked: usize = (0..1000).map(|index| bench.zone.asked(&format!("s._domainkey.d{index}.evil.test"))).sum();
    assert!((1..=9).contains(&asked), "{asked} keys were asked for");
    assert!(verdict.field.len() < 4096, "{} bytes of results", verdict.field.len());
}

#[tokio::test]
async fn endless_names_in_a_signature_are_not_looked_for() {
    let bench = bench();
    let signed = bench.sign("bank.test", &SIGNED, MESSAGE);
    let long = signed.replacen("h=", &format!("h={}", "x:".repeat(300)), 1);
    assert_ne!(long, signed);
    assert!(bench.check(&long).await.field.contains("dkim=permerror (it names too many fields)"));
    let longer = signed.replacen("v=1;", &format!("v=1; z={};", "y".repeat(20_000)), 1);
    assert!(bench.check(&longer).await.field.contains("dkim=permerror (the signature is too long)"));
}

#[tokio::test]
async fn spf_asks_so_much_and_no_more() {
    let bench = bench_with(|config| config.lookups = 20);
    let terms: String = (0..9).map(|index| format!("mx:m{index}.bank.test ")).collect();
    bench.zone.remove("bank.test").txt("bank.test", &format!("v=spf1 {terms}-all"));
    for index in 0..9 {
        for host in 0..9 {
            bench.zone.mx(&format!("m{index}.bank.test"), 10, &format!("h{host}.m{index}.bank.test"));
            bench.zone.address(&format!("h{host}.m{index}.bank.test"), "203.0.113.1");
        }
    }
    let verdict = bench.check(MESSAGE).await;
    assert_eq!(verdict.checks[0], "spf=permerror");
    let hosts = (0..81).map(|n| bench.zone.asked(&format!("h{}.m{}.bank.test", n % 9, n / 9))).sum::<usize>();
    assert!(hosts <= 20, "{hosts} questions");
    // `exists` beyond the last question is no pass.
    let terms: String = (0..9).map(|index| format!("mx:m{index}.bank.test ")).collect();
    bench.zone.remove("bank.test").txt("bank.test", &format!("v=spf1 {terms}exists:nothing.test -all"));
    bench.verifier.resolver.resolver().clear_cache();
    assert_eq!(bench.check(MESSAGE).await.checks[0], "spf=permerror");
}

#[tokio::test]
async fn the_null_sender_is_the_host_that_speaks() {
    let bench = bench();
    bench.zone.txt("host.test", &format!("v=spf1 ip4:{IP} -all"));
    let verdict = bench.check_from(IP, "", MESSAGE).await;
    assert!(verdict.field.contains("spf=pass smtp.helo=host.test"), "{}", verdict.field);
}

#[test]
fn no_text_of_a_message_makes_a_second_result() {
    let evil = "x;\r\n\tdmarc=pass header.from=bank.test (\"";
    let signature = mail_auth::dkim::Signature { d: evil.into(), s: evil.into(), ..Default::default() };
    let found = dkim::DkimFound { word: dkim::Word::Fail, why: "no", signature: Some(signature) };
    let spf = SpfFound { result: SpfResult::None };
    let peer = Peer { ip: "2001:db8::1".parse().unwrap(), helo: evil, from: None };
    let arc = ArcFound { sets: 1, sealer: Some(evil.into()), ..ArcFound::none() };
    let (written, _) = report::write("mail.example.org", peer, &spf, &[found], &[], &arc, &Action::Take);
    assert_eq!(written.matches("dmarc=").count(), 1, "{written}");
    assert_eq!(written.lines().count(), 6, "{written}");
    assert!(!claim::says(written.as_bytes(), "dmarc", "pass"));
}

#[tokio::test]
async fn an_rsa_key_of_usual_size_verifies() {
    let pem = std::process::Command::new("openssl").args(["genrsa", "-traditional", "2048"]).output().unwrap().stdout;
    let key = RsaKey::<Sha256>::from_key_der(rustls_pki_types::pem::PemObject::from_pem_slice(&pem).unwrap()).unwrap();
    let public = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, key.public_key());
    let bench = bench();
    bench.zone.txt("r._domainkey.bank.test", &format!("v=DKIM1; k=rsa; p={public}"));
    let signer = DkimSigner::from_key(key).domain("bank.test").selector("r").headers(SIGNED);
    let message = format!("{}{MESSAGE}", signer.sign(MESSAGE.as_bytes()).unwrap().to_header());
    assert!(bench.check(&message).await.checks.contains(&"dkim=pass".to_owned()));
}
