//! Lookups and fetches against servers on loopback.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/dns.rs"]
mod dns;
mod fetching;
mod signed;

use dns::Zone;
use mesyx_net::hickory_resolver::proto::rr::RecordType;
use mesyx_net::{Dns, DnsConfig, DnsError, Dnssec};
use std::net::IpAddr;

fn resolver(zone: &Zone) -> Dns {
    Dns::new(&zone.config()).unwrap()
}

#[tokio::test]
async fn every_kind_of_record_is_read() {
    let zone = Zone::start();
    zone.mx("example.net", 10, "MX1.example.net").mx("example.net", 20, "mx2.example.net").mx("null.example", 0, ".");
    zone.address("mx1.example.net", "192.0.2.1").address("mx1.example.net", "2001:db8::1");
    zone.txt("example.net", &"x".repeat(300)).tlsa("_25._tcp.mx1.example.net", 3, 1, 1, &[7; 32]);
    zone.srv("_imaps._tcp.example.net", 993, "imap.example.net");
    let dns = resolver(&zone);
    let mut mx = dns.mx("Example.NET").await.unwrap().records;
    mx.sort_by_key(|mx| mx.preference);
    assert_eq!(
        mx.iter().map(|mx| (mx.preference, &*mx.host)).collect::<Vec<_>>(),
        [(10, "mx1.example.net"), (20, "mx2.example.net")]
    );
    assert_eq!(dns.mx("null.example").await.unwrap().records[0].host, "");
    let addresses = dns.addresses("mx1.example.net").await.unwrap();
    let ips: Vec<IpAddr> = vec!["2001:db8::1".parse().unwrap(), "192.0.2.1".parse().unwrap()];
    assert_eq!(addresses.ips, ips);
    assert_eq!(dns.txt("example.net").await.unwrap().records, ["x".repeat(300)]);
    let tlsa = dns.tlsa("_25._tcp.mx1.example.net").await.unwrap().records;
    assert_eq!((tlsa[0].usage, tlsa[0].selector, tlsa[0].matching, &*tlsa[0].data), (3, 1, 1, &[7; 32][..]));
    assert_eq!(dns.srv("_imaps._tcp.example.net").await.unwrap().records[0].port, 993);
}

#[tokio::test]
async fn nothing_there_and_nothing_known_are_told_apart() {
    let zone = Zone::start();
    zone.address("host.example", "192.0.2.1").fail("broken.example", None);
    zone.address("half.example", "192.0.2.2").fail("half.example", Some(RecordType::AAAA));
    zone.mx("none.example", 10, "x.example").fail("none.example", Some(RecordType::AAAA));
    let dns = resolver(&zone);
    assert!(matches!(dns.mx("host.example").await, Err(DnsError::NoData(..))));
    assert!(matches!(dns.mx("gone.example").await, Err(DnsError::NoName(_))));
    assert!(matches!(dns.mx("broken.example").await, Err(DnsError::Temporary(..))));
    assert!(matches!(dns.addresses("broken.example").await, Err(DnsError::Temporary(..))));
    assert_eq!(dns.addresses("half.example").await.unwrap().ips.len(), 1);
    // No A record, and no telling whether there is an AAAA record.
    assert!(matches!(dns.addresses("none.example").await, Err(DnsError::Temporary(..))));
    for bad in ["", ".", "a..b", &"x".repeat(64)] {
        assert!(matches!(dns.mx(bad).await, Err(DnsError::BadName(_))), "{bad}");
    }
    // A server that does not answer at all.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let config = DnsConfig {
        servers: vec![silent.local_addr().unwrap().to_string()],
        timeout_seconds: 1,
        attempts: 0,
        ..DnsConfig::default()
    };
    assert!(matches!(Dns::new(&config).unwrap().mx("host.example").await, Err(DnsError::Temporary(..))));
}

#[tokio::test]
async fn dnssec_counts_only_where_every_step_is_vouched_for() {
    let zone = Zone::start();
    zone.secure("signed.example").address("mx.signed.example", "192.0.2.1").address("plain.example", "192.0.2.2");
    zone.alias("a.signed.example", "mx.signed.example").alias("b.signed.example", "plain.example");
    zone.alias("c.plain.example", "mx.signed.example");
    let dns = resolver(&zone);
    let found = async |name| {
        let found = dns.addresses(name).await.unwrap();
        (found.secure, found.canonical)
    };
    for _ in 0..2 {
        // The second time from memory.
        assert_eq!(found("mx.signed.example").await, (true, "mx.signed.example".to_owned()));
        assert_eq!(found("a.signed.example").await, (true, "mx.signed.example".to_owned()));
        assert_eq!(found("b.signed.example").await, (false, "plain.example".to_owned()));
        assert_eq!(found("c.plain.example").await, (false, "mx.signed.example".to_owned()));
        assert!(!found("plain.example").await.0);
    }
    assert_eq!(zone.asked("plain.example"), 2, "once for each family");
    let off = Dns::new(&DnsConfig { dnssec: Dnssec::Off, ..zone.config() }).unwrap();
    assert!(!off.addresses("mx.signed.example").await.unwrap().secure);
    let trusted = Dns::new(&DnsConfig { dnssec: Dnssec::Trust, ..zone.config() }).unwrap();
    assert!(trusted.addresses("mx.signed.example").await.unwrap().secure);
    // Who checks signatures does not take a bit for one.
    let validating = Dns::new(&DnsConfig { dnssec: Dnssec::Validate, ..zone.config() }).unwrap();
    assert!(!matches!(validating.addresses("mx.signed.example").await, Ok(found) if found.secure));
}
