//! XMPP, as a component of the operator's own server (XEP-0114): each user of ours is `NAME@COMPONENT` to people there.
#![forbid(unsafe_code)]

mod stanza;

use mesyx_sdk::*;
use sha1::{Digest, Sha1};
use stanza::{Element, Stanzas, escape};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

/// The configuration.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the XMPP server takes components.
    server: SocketAddr,
    /// The component's name there, as `mesyx.example.org`.
    component: String,
    /// The name of the service secret that holds the component's password.
    #[serde(default = "secret")]
    secret: String,
}

fn secret() -> String {
    "xmpp".to_owned()
}

/// The bridge.
pub struct Xmpp {
    settings: Settings,
    /// Deliveries that wait for the server's word, by the stanza's id; and where stanzas are handed to the connection.
    waiting: Mutex<HashMap<String, oneshot::Sender<Outcome>>>,
    link: Mutex<Option<mpsc::Sender<String>>>,
}

#[async_trait]
impl Bridge for Xmpp {
    fn manifest() -> Manifest {
        Manifest {
            name: "xmpp".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "Brings messages to and from people on XMPP".into(),
            grants: vec![Grant::Accept, Grant::Deliver, Grant::Directory, Grant::Secret("xmpp".into())],
            delivers: NetworkName::new("xmpp").map(AddressKind::Other).into_iter().collect(),
            config_schema: config::schema::<Settings>(),
        }
    }

    fn build(config: Config) -> Result<Self, ConfigErrors> {
        Ok(Self { settings: config.parse()?, waiting: Mutex::default(), link: Mutex::default() })
    }

    fn secrets(&self) -> Vec<String> {
        vec![self.settings.secret.clone()]
    }

    async fn run(&self, host: Arc<dyn Host>) -> Result<(), Fatal> {
        let lost = |what: &dyn std::fmt::Display| Fatal::new(format!("XMPP server {}: {what}", self.settings.server));
        let password = host.secret(&self.settings.secret).await.map_err(|error| lost(&error))?;
        let stream = TcpStream::connect(self.settings.server).await.map_err(|error| lost(&error))?;
        let (read, mut write) = stream.into_split();
        let open = "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to=";
        let open = format!("{open}'{}'>", escape(&self.settings.component));
        write.write_all(open.as_bytes()).await.map_err(|error| lost(&error))?;
        let mut stanzas = Stanzas::new(read);
        let id = stanzas.header().await.map_err(|error| lost(&error))?;
        let digest = Sha1::new().chain_update(&id).chain_update(password.expose()).finalize();
        let digest = digest.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        write.write_all(format!("<handshake>{digest}</handshake>").as_bytes()).await.map_err(|error| lost(&error))?;
        match stanzas.next().await.map_err(|error| lost(&error))? {
            shaken if shaken.name == "handshake" => {}
            refused => return Err(lost(&format!("it refused the component: {refused:?}"))),
        }

        let (link, mut outgoing) = mpsc::channel::<String>(64);
        *lock(&self.link) = Some(link.clone());
        host.health(Health::Ready);
        let reading = async {
            loop {
                let stanza = tokio::select! {
                    () = host.stopped() => break,
                    stanza = stanzas.next() => stanza.map_err(|error| lost(&error))?,
                };
                let _ = link.send(self.answer_to(&*host, &stanza).await).await;
            }
            // Nothing more is sent; what waits still is.
            drop((link, lock(&self.link).take()));
            Ok(())
        };
        let writing = async {
            while let Some(stanza) = outgoing.recv().await {
                write.write_all(stanza.as_bytes()).await.map_err(|error| lost(&error))?;
            }
            Ok(())
        };
        let ended = tokio::try_join!(reading, writing).map(drop);
        // Whoever still waits for the server's word hears that it will not come.
        lock(&self.link).take();
        lock(&self.waiting).clear();
        ended
    }

    async fn deliver(&self, host: Arc<dyn Host>, job: Delivery) -> Vec<Outcome> {
        let line = chat::line_of(&job.content, host.domain());
        let mut outcomes = Vec::new();
        for recipient in &job.recipients {
            outcomes.push(self.bring(&job, &recipient.address, &line.text).await);
        }
        outcomes
    }
}

impl Xmpp {
    /// One recipient's turn. XMPP tells only of failures, so a ping to the same server goes behind the message: its answer says
    /// that no failure came before it.
    async fn bring(&self, job: &Delivery, to: &Address, text: &str) -> Outcome {
        let Address::Other(contact) = to else { return failed("this is no address on XMPP") };
        let Some(from) = job.from.as_ref().and_then(Address::as_mail) else { return failed("XMPP takes no notices") };
        let (to, component) = (escape(contact.name()), escape(&self.settings.component));
        let (server, id) = (to.rsplit('@').next().unwrap_or_default(), MessageId::random());
        let from = format!("{}@{component}", escape(from.local()));
        let stanzas = format!(
            "<message type='chat' id='{id}' from='{from}' to='{to}'><body>{}</body></message>\
             <iq type='get' id='{id}' from='{component}' to='{server}'><ping xmlns='urn:xmpp:ping'/></iq>",
            escape(text)
        );
        let (told, word) = oneshot::channel();
        let link = lock(&self.link).clone();
        lock(&self.waiting).insert(id.to_string(), told);
        let sent = match link {
            Some(link) => link.send(stanzas).await.is_ok(),
            None => false,
        };
        // A second before the deadline, so that the outcome arrives in time.
        let left = u64::try_from(job.deadline.0 - Timestamp::now().0 - 1000).unwrap_or(0);
        let word = async { if sent { word.await.ok() } else { None } };
        let outcome = tokio::time::timeout(std::time::Duration::from_millis(left), word).await;
        lock(&self.waiting).remove(&id.to_string());
        outcome.ok().flatten().unwrap_or_else(|| deferred("the XMPP server did not answer", sent))
    }

    /// What the server's stanza is answered with; nothing where nothing is to be said.
    async fn answer_to(&self, host: &dyn Host, stanza: &Element) -> String {
        let (from, to, kind) = (stanza.get("from"), stanza.get("to"), stanza.get("type"));
        if matches!(kind, "error" | "result") {
            let told = lock(&self.waiting).remove(stanza.get("id"));
            if let Some(told) = told {
                // A ping may be refused as well as answered: either way the message went before it.
                let _ = told.send(match stanza.child("error").filter(|_| stanza.name == "message") {
                    None => Outcome::Delivered { remote_id: None, dsn: false },
                    Some(error) if error.get("type") == "wait" => deferred(&error.first(), false),
                    Some(error) => failed(&error.first()),
                });
            }
            return String::new();
        }
        // Answered from the very address that was written to.
        let reply = |name: &str, kind: &str, inner: &str| {
            let id = escape(stanza.get("id"));
            format!("<{name} type='{kind}' id='{id}' from='{}' to='{}'>{inner}</{name}>", escape(to), escape(from))
        };
        let error = |kind: &str, condition: &str| {
            let condition = format!("<{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>");
            reply(&stanza.name, "error", &format!("<error type='{kind}'>{condition}</error>"))
        };
        match (stanza.name.as_str(), kind) {
            ("message", _) => match self.take(host, from, to, stanza.child("body")).await {
                Ok(()) => String::new(),
                Err(why) if why.kind().is_temporary() => error("wait", "resource-constraint"),
                Err(why) if why.kind() == ErrorKind::NotFound => error("cancel", "item-not-found"),
                Err(_) => error("cancel", "not-acceptable"),
            },
            // Somebody wants to see whether a user of ours is there: always, for messages are kept. Nobody else ever is (RFC 6121, 3.1.3 and 4.3.2).
            ("presence", "subscribe" | "probe") => match (self.user(host, to).await, kind) {
                (Ok(_), "probe") => format!("<presence from='{}' to='{}'/>", escape(to), escape(from)),
                (Ok(_), _) => reply("presence", "subscribed", ""),
                (Err(why), _) if why.kind().is_temporary() => error("wait", "resource-constraint"),
                (Err(_), _) => reply("presence", "unsubscribed", ""),
            },
            ("iq", "get") if stanza.child("ping").is_some() => reply("iq", "result", ""),
            ("iq", _) => error("cancel", "service-unavailable"),
            _ => String::new(),
        }
    }

    /// The user behind `NAME@COMPONENT`.
    async fn user(&self, host: &dyn Host, jid: &str) -> Result<Address, Error> {
        let nobody = || Error::new(ErrorKind::NotFound, "there is no such user");
        let local = jid.split_once('@').map(|(local, _)| local).ok_or_else(nobody)?;
        let user = Address::Mail(MailAddress::new(local, host.domain().clone()).map_err(|_| nobody())?);
        match host.recipient(&user, &Sender::Stranger).await? {
            RecipientStatus::Local => Ok(user),
            _ => Err(nobody()),
        }
    }

    /// Brings in what somebody on XMPP says.
    async fn take(&self, host: &dyn Host, from: &str, to: &str, body: Option<&Element>) -> Result<(), Error> {
        // What has no body is a notice of typing or the like.
        let Some(body) = body else { return Ok(()) };
        let invalid = |error: AddressError| Error::new(ErrorKind::Invalid, error.to_string());
        let user = self.user(host, to).await?;
        let bare = from.split('/').next().unwrap_or_default().to_lowercase();
        let contact = OtherAddress::new(NetworkName::new("xmpp").map_err(invalid)?, &bare).map_err(invalid)?;
        let full = || Error::new(ErrorKind::Full, "too much is under way");
        let _reserved = host.budget().reserve(body.text.len()).ok_or_else(full)?;
        let (id, at, nick) =
            (MessageId::random(), Timestamp::now(), bare.split('@').next().unwrap_or_default().to_owned());
        let headers = LineHeaders { id, from: contact.clone().into(), nick, to: user.clone(), at };
        let content = Line::say(&body.text).to_content(&headers, host.domain()).map_err(invalid)?;
        let mut envelope = memory::envelope(Some(contact.clone().into()), vec![user], content);
        (envelope.id, envelope.style, envelope.sent) = (id, Style::Instant, Some(at));
        envelope.conversation = Some(Conversation::Direct(contact.into()));
        envelope.origin.network = "xmpp".into();
        host.accept(vec![envelope]).await.remove(0).map(drop)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(why: &str) -> Outcome {
    Outcome::Failed { why: why.to_owned() }
}

fn deferred(why: &str, maybe_sent: bool) -> Outcome {
    Outcome::Deferred { why: why.to_owned(), retry_after: None, scope: DeferScope::Recipient, maybe_sent }
}
