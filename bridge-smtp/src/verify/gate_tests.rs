use super::*;
use crate::verify::VerifyConfig;
use mesyx_sdk::ConfigErrors;

const START: i64 = 1_800_000_000_000;

fn gate(change: impl FnOnce(&mut VerifyConfig)) -> Gate {
    let mut config = VerifyConfig::default();
    change(&mut config);
    let mut errors = ConfigErrors::default();
    let checked = config.check(&mut errors);
    assert!(errors.0.is_empty());
    Gate::new(&checked)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp(START + seconds * 1000)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn the_first_message_waits_and_the_rest_do_not() {
    let gate = gate(|config| config.greylist.enabled = true);
    let (from, to): (MailAddress, Address) = ("a@example.net".parse().unwrap(), "b@example.org".parse().unwrap());
    let comes = |ip: IpAddr, second: i64| gate.recipient(ip, Some(&from), &to, at(second)).is_ok();
    let (one, same_network, other) = (ip("192.0.2.1"), ip("192.0.2.200"), ip("198.51.100.1"));
    assert!(!comes(one, 0) && !comes(one, 299));
    let error = gate.recipient(one, Some(&from), &to, at(200)).unwrap_err();
    assert_eq!((error.kind(), error.wait()), (ErrorKind::TooMany, Some(Duration::from_secs(100))));
    assert!(comes(same_network, 300) && comes(one, 301) && !comes(other, 301));
    // Another sender, and the null one, are others.
    assert!(gate.recipient(one, None, &to, at(302)).is_err());
    // Remembered for 35 days after the last message, and no longer.
    assert!(comes(one, 301 + 35 * 86_400) && !comes(one, 302 + 70 * 86_400));
    // Who comes again only after two days is new.
    assert!(!comes(other, 301 + 2 * 86_400 + 1) && comes(other, 302 + 2 * 86_400 + 300));
    assert!(gate.recipient(ip("127.0.0.1"), Some(&from), &to, at(0)).is_ok());
}

#[test]
fn the_table_is_bounded() {
    let gate = gate(|config| {
        config.greylist.enabled = true;
        config.greylist.entries = 100;
    });
    let to: Address = "b@example.org".parse().unwrap();
    for index in 0..1000 {
        let from: MailAddress = format!("a{index}@example.net").parse().unwrap();
        assert!(gate.recipient(ip("192.0.2.1"), Some(&from), &to, at(index)).is_err());
    }
    let seen = lock(&gate.seen);
    assert_eq!((seen.entries.len(), seen.order.len()), (100, 100));
}

#[test]
fn a_network_sends_so_much_a_minute() {
    let gate = gate(|config| (config.rate.messages_per_minute, config.rate.recipients_per_minute) = (2, 3));
    let to: Address = "b@example.org".parse().unwrap();
    let messages: Vec<bool> = (0..3).map(|_| gate.message(ip("192.0.2.1"), at(0)).is_ok()).collect();
    assert_eq!(messages, [true, true, false]);
    assert!(gate.message(ip("198.51.100.1"), at(0)).is_ok());
    assert!(gate.message(ip("192.0.2.9"), at(60)).is_ok());
    let recipients: Vec<bool> = (0..4).map(|_| gate.recipient(ip("2001:db8::1"), None, &to, at(0)).is_ok()).collect();
    assert_eq!(recipients, [true, true, true, false]);
    assert!(gate.recipient(ip("2001:db8::ffff"), None, &to, at(0)).is_err());
    assert!(gate.recipient(ip("2001:db8:0:1::1"), None, &to, at(0)).is_ok());
    assert!((0..100).all(|_| gate.message(ip("::1"), at(0)).is_ok()));
}

#[test]
fn counting_is_bounded() {
    let mut counts = Counts::default();
    for index in 0..2 * MOST_NETWORKS as u64 + 1 {
        assert!(counts.take((index, 0), 1, at(0)));
    }
    assert!(counts.counts.len() <= MOST_NETWORKS);
}
