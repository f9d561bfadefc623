//! Host and path of whatever form.

use super::*;
use crate::config::http::{CheckedHttp, Policy};
use std::time::Duration;

fn site() -> Site {
    Site {
        hostname: "mail.example.org".into(),
        domains: vec!["example.org".into(), "xn--bcher-kva.example".into()],
        http: CheckedHttp {
            listeners: Vec::new(),
            wkd: true,
            autoconfig: true,
            announce: Vec::new(),
            policy: Some(Policy { text: String::new(), id: String::new() }),
            connections: 1,
            connections_per_ip: 1,
            head: Duration::ZERO,
            life: Duration::ZERO,
        },
        endpoints: Vec::new(),
    }
}

fn get(url: &str) -> Option<Page> {
    let (host, rest) = url.split_at(url.find('/').unwrap());
    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    route(host, path, query, &site())
}

const HASH: &str = "iy9q119eutrkn8s1mk4r39qejnbu3n5q";

#[test]
fn both_methods_of_the_key_directory() {
    let page = |domain: &str| Some(Page::Certificate { domain: domain.into(), hash: HASH.into() });
    for (url, domain) in [
        ("openpgpkey.example.org/.well-known/openpgpkey/example.org/hu/HASH?l=Joe.Doe", "example.org"),
        ("OPENPGPKEY.Example.Org.:443/.well-known/openpgpkey/Example.ORG/hu/HASH", "example.org"),
        ("example.org/.well-known/openpgpkey/hu/HASH", "example.org"),
        ("openpgpkey.bücher.example/.well-known/openpgpkey/xn--bcher-kva.example/hu/HASH", "xn--bcher-kva.example"),
    ] {
        assert_eq!(get(&url.replace("HASH", HASH)), page(domain), "{url}");
    }
    assert_eq!(get("example.org/.well-known/openpgpkey/policy"), Some(Page::DirectoryPolicy));
    assert_eq!(get("openpgpkey.example.org/.well-known/openpgpkey/example.org/policy"), Some(Page::DirectoryPolicy));
    for url in [
        "openpgpkey.example.org/.well-known/openpgpkey/other.example/hu/HASH",
        "openpgpkey.example.org/.well-known/openpgpkey/xn--bcher-kva.example/hu/HASH",
        "openpgpkey.example.org/.well-known/openpgpkey/hu/HASH",
        "mail.example.org/.well-known/openpgpkey/hu/HASH",
        "example.org/.well-known/openpgpkey/hu/HASH/",
        "example.org/.well-known/openpgpkey/hu/../hu/HASH",
        "example.org/.well-known/openpgpkey/hu/",
        "example.org/.well-known/openpgpkey/hu/IY9Q119EUTRKN8S1MK4R39QEJNBU3N5Q",
        "example.net/.well-known/openpgpkey/hu/HASH",
        "openpgpkey.example.net/.well-known/openpgpkey/example.net/hu/HASH",
        "127.0.0.1/.well-known/openpgpkey/hu/HASH",
        "[::1]:443/.well-known/openpgpkey/hu/HASH",
        "/.well-known/openpgpkey/hu/HASH",
    ] {
        assert_eq!(get(&url.replace("HASH", HASH)), None, "{url}");
    }
}

#[test]
fn pages_are_at_their_own_names() {
    assert_eq!(get("mta-sts.example.org/.well-known/mta-sts.txt"), Some(Page::MtaSts));
    assert_eq!(get("example.org/.well-known/mta-sts.txt"), None);
    let settings = Some(Page::Autoconfig { domain: "example.org".into() });
    assert_eq!(get("autoconfig.example.org/mail/config-v1.1.xml?emailaddress=a%40example.org"), settings);
    assert_eq!(get("example.org/.well-known/autoconfig/mail/config-v1.1.xml"), settings);
    assert_eq!(get("mail.example.org/mail/config-v1.1.xml?x=y&emailaddress=a+b%40example.org"), settings);
    assert_eq!(get("mail.example.org/mail/config-v1.1.xml?emailaddress=a%40example.net"), None);
    assert_eq!(get("mail.example.org/mail/config-v1.1.xml"), None);
    for host in ["autodiscover.example.org", "example.org", "mail.example.org"] {
        assert_eq!(get(&format!("{host}/Autodiscover/Autodiscover.xml")), Some(Page::Autodiscover));
    }
    let Some(Page::AppleProfile { address }) =
        get("mail.example.org/mail/apple.mobileconfig?emailaddress=j%C3%B6rg@example.org")
    else {
        panic!("a profile")
    };
    assert_eq!(address.to_string(), "jörg@example.org");
    for bad in ["%", "%4", "%zz", "%ff%40example.org", "a%0d%0a@example.org", &"a".repeat(3000)] {
        assert_eq!(get(&format!("mail.example.org/mail/apple.mobileconfig?emailaddress={bad}")), None, "{bad}");
    }
}

#[test]
fn what_is_turned_off_is_not_there() {
    let mut site = site();
    (site.http.wkd, site.http.autoconfig, site.http.policy) = (false, false, None);
    let off = |host, path| assert_eq!(route(host, path, None, &site), None, "{host}{path}");
    off("example.org", "/.well-known/openpgpkey/policy");
    off("mta-sts.example.org", "/.well-known/mta-sts.txt");
    off("autoconfig.example.org", "/mail/config-v1.1.xml");
    off("autodiscover.example.org", "/autodiscover/autodiscover.xml");
}

/// Pieces of hosts and paths in every order: never a panic, and a certificate only ever of a domain of ours.
#[test]
fn any_host_and_path_can_be_asked_for() {
    const PIECES: [&str; 20] = [
        "openpgpkey",
        "mta-sts",
        ".",
        "example.org",
        "mail",
        ":",
        "443",
        "[",
        "::1",
        "]",
        "/.well-known/",
        "openpgpkey/",
        "hu/",
        HASH,
        "policy",
        "..",
        "%2f",
        "é",
        "\0",
        "xn--a",
    ];
    let site = site();
    // A linear congruential generator: the same cases each time.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(state >> 33).unwrap() % bound
    };
    for _ in 0..50_000 {
        let mut text = || {
            let pieces = next(8);
            (0..pieces).map(|_| PIECES[next(PIECES.len())]).collect::<String>()
        };
        let (host, path, query) = (text(), text(), text());
        if let Some(Page::Certificate { domain, hash }) = route(&host, &path, Some(&query), &site) {
            assert!(site.domains.contains(&domain) && hash == HASH, "{host} {path}");
            assert!(host.to_lowercase().contains(&domain), "{host} {path}");
        }
    }
}
