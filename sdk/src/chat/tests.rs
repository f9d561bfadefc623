use super::{Line, LineHeaders, Verb, from_mail, to_mail};
use crate::address::CaseMapping;
use crate::{
    Address, Content, Domain, IrcAddress, MailAddress, MessageId, MesyxAddress, NetworkName, OtherAddress, Timestamp,
    mime,
};
use proptest::prelude::*;

fn domain() -> Domain {
    "example.org".parse().unwrap()
}

fn someone() -> impl Strategy<Value = Address> {
    let user = "#?[a-z0-9_.+-]{1,20}".prop_filter_map("a name", |local| {
        let user = MailAddress::new(&local, domain()).ok()?;
        Some(Address::Mesyx(MesyxAddress { user }))
    });
    let irc = "[#a-zA-Zé{}\\[\\]^|_-]{1,12}".prop_filter_map("a name on IRC", |name| {
        IrcAddress::new("libera", &name, CaseMapping::Rfc1459).ok().map(Address::Irc)
    });
    let other = "[a-zA-Z0-9é@.=/ #-]{1,16}".prop_filter_map("a name elsewhere", |name| {
        OtherAddress::new(NetworkName::new("xmpp").ok()?, &name).ok().map(Address::Other)
    });
    prop_oneof![user, irc, other]
}

fn verb() -> impl Strategy<Value = Verb> {
    let all = [Verb::Say, Verb::Notice, Verb::Action, Verb::Topic, Verb::Join, Verb::Part, Verb::Kick, Verb::Mode];
    prop::sample::select(all.to_vec())
}

proptest! {
    /// Whatever is said comes back as it was said, and stands in a MIME entity that has no other headers than ours.
    #[test]
    fn a_line_comes_back_as_it_was_said(
        (from, to) in (someone(), someone()),
        nick in "[^\\x00-\\x1f\\x7f]{1,40}",
        verb in verb(),
        args in prop::collection::vec("[^\r\n\0]{0,30}", 0..4),
        text in prop_oneof!["[^\r\0]{0,200}", "[a-zé =]{1500,1600}", "(.{0,5}\n){0,9}"],
        at in 0_i64..4_000_000_000_000,
    ) {
        prop_assume!(!text.contains(['\r', '\0']));
        let headers = LineHeaders { id: MessageId::random(), from, nick, to, at: Timestamp(at) };
        let line = Line { verb, args, text };
        let Ok(content) = line.to_content(&headers, &domain()) else { return Ok(()) };
        prop_assert_eq!(Line::from_content(&content, &domain()), Some((headers, line)));
        let block = &content[..content.windows(4).position(|end| end == b"\r\n\r\n").unwrap()];
        prop_assert!(block.is_ascii());
        let names: Vec<_> = mime::fields(&content).map(|field| String::from_utf8(field.name.to_vec()).unwrap()).collect();
        let ours = [
            "From", "To", "Date", "Message-ID", "Subject", "Mesyx-Line", "MIME-Version", "Content-Type",
            "Content-Transfer-Encoding",
        ];
        prop_assert_eq!(names, ours);
        let lines = content.split(|&byte| byte == b'\n');
        prop_assert!(lines.map(<[u8]>::len).max().unwrap_or(0) <= 1000);
    }

    #[test]
    fn chat_addresses_have_one_spelling_in_mail(address in someone()) {
        let Ok(mail) = to_mail(&address, &domain()) else { return Ok(()) };
        prop_assert!(mail.to_string().is_ascii());
        prop_assert_eq!(from_mail(&mail, &domain()), Some(address));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut message = b"Mesyx-Line: say; at=1; nick=%6".to_vec();
        message.extend(&bytes);
        let _ = Line::from_content(&Content::from(message), &domain());
        let _ = Line::from_content(&Content::from(bytes), &domain());
    }
}

#[test]
fn other_mail_addresses_are_nobody_in_the_chat_world() {
    for mail in ["bob@example.org", "bob@irc.example.com", "bob@x.y.irc.example.org", "a=2eb=zz@irc.example.org"] {
        assert_eq!(from_mail(&mail.parse().unwrap(), &domain()), None, "{mail}");
    }
}
