//! The bridge `imap` over a host that keeps everything in memory, with some mails to look at.
//!
//! ```sh
//! cargo run -p mesyx-bridge-imap --example memory -- 1143 1993
//! curl --user ann:secret imap://127.0.0.1:1143/INBOX
//! ```
//!
//! With a third argument, so many mails of 4 KiB are put into the mailbox `Many`.

use mesyx_bridge_imap::Imap;
use mesyx_sdk::{Append, Bridge, Certificates, Config, Content, Flag, Host, MailboxName, MemoryHost, TlsIdentity};
use serde_json::json;
use std::error::Error;
use std::sync::Arc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u16>());
    let plain = arguments.next().transpose()?.unwrap_or(1143);
    let tls = arguments.next().transpose()?.unwrap_or(1993);
    let many = arguments.next().transpose()?.unwrap_or(0);

    let host = MemoryHost::new("example.org".parse()?);
    host.add_user("ann", "secret")?;
    host.set_certificates(self_signed()?);
    fill(&host, many).await?;

    let imap = Imap::build(Config::new(json!({
        "listeners": [
            {
                "name": "imap",
                "address": format!("127.0.0.1:{plain}"),
                "tls": "starttls",
                "plain_auth_without_tls": true,
            },
            { "name": "imaps", "address": format!("127.0.0.1:{tls}"), "tls": "implicit" },
        ],
        "limits": { "connections_per_ip": 10_000 },
    })))?;
    println!(
        "user ann, password secret, at 127.0.0.1:{plain} (STARTTLS or plain) and 127.0.0.1:{tls} (TLS); Ctrl-C ends"
    );
    let stopper = host.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stopper.stop();
    });
    let host: Arc<dyn Host> = Arc::new(host);
    imap.run(host).await?;
    Ok(())
}

fn self_signed() -> Result<Certificates, Box<dyn Error>> {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names)?;
    let key = made.signing_key.serialize_der().try_into()?;
    Ok(Certificates(vec![TlsIdentity { names: vec!["localhost".into()], chain: vec![made.cert.der().clone()], key }]))
}

async fn fill(host: &MemoryHost, many: u16) -> Result<(), Box<dyn Error>> {
    let session = host.session("ann")?;
    let inbox = session.mailboxes().await?.into_iter().find(|mailbox| mailbox.name.is_inbox());
    let inbox = inbox.ok_or("every user has an INBOX")?.id;
    let mail = |flags: Vec<Flag>, text: &str| Append {
        flags,
        internal_date: None,
        content: Content::from(text.replace('\n', "\r\n").into_bytes()),
    };
    let mails = vec![mail(vec![], PLAIN), mail(vec![Flag::Seen], MULTIPART), mail(vec![Flag::Flagged], FORWARDED)];
    session.append(inbox, mails).await?;
    if many > 0 {
        let target = session.create_mailbox(&MailboxName::new("Many")?, None).await?;
        let body = "Sixty-three characters of text stand on this line, and so on.\n".repeat(60);
        let text = |number| format!("From: bob@example.net\nTo: ann@example.org\nSubject: number {number}\n\n{body}");
        session.append(target, (0..many).map(|number| mail(vec![], &text(number))).collect()).await?;
    }
    Ok(())
}

const PLAIN: &str = "From: Bob <bob@example.net>
To: ann@example.org
Subject: Lunch?
Date: Mon, 2 Mar 2026 11:05:00 +0100
Message-ID: <1@example.net>

At noon, by the river?
";

const MULTIPART: &str = "From: \"Carol C.\" <carol@example.net>
To: Ann <ann@example.org>, team: bob@example.net, dan@example.net;
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=
Date: Tue, 3 Mar 2026 09:00:00 +0000
Message-ID: <2@example.net>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=\"xx\"

--xx
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Sch=C3=B6ne Gr=C3=BC=C3=9Fe
--xx
Content-Type: application/octet-stream; name=\"a.bin\"
Content-Disposition: attachment; filename=\"a.bin\"
Content-Transfer-Encoding: base64

AAECAwQFBgc=
--xx--
";

const FORWARDED: &str = "From: dan@example.net
To: ann@example.org
Subject: Fwd: Lunch?
Date: Wed, 4 Mar 2026 10:00:00 +0000
Message-ID: <3@example.net>
MIME-Version: 1.0
Content-Type: message/rfc822

From: Bob <bob@example.net>
To: dan@example.net
Subject: Lunch?

At noon?
";
