//! XMPP, as a component of the operator's own server (XEP-0114): each user of ours is `NAME@COMPONENT` to people there.
#![forbid(unsafe_code)]

use mesyx_sdk::*;
use quick_xml::escape::{escape, unescape};
use quick_xml::{Reader, events::Event};
use sha1::{Digest, Sha1};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};
use tokio::io::{AsyncBufRead, AsyncReadExt, AsyncWriteExt, BufReader, Take};

/// A stanza by paths: its `name`, `@from`, `/body`, `/error@type`. Of several elements of one path the first counts.
type Stanza = BTreeMap<String, String>;
type Whatever<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The configuration.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the XMPP server takes components.
    server: SocketAddr,
    /// The component's name there, as `mesyx.example.org`; the service secret `xmpp` holds its password.
    component: String,
}

/// The bridge.
pub struct Xmpp {
    settings: Settings,
    trunk: Trunk,
}

#[async_trait]
impl Bridge for Xmpp {
    fn manifest() -> Manifest {
        let grants = vec![Grant::Accept, Grant::Deliver, Grant::Directory, Grant::Secret("xmpp".into())];
        let summary = "Brings messages to and from people on XMPP";
        Manifest::of_network::<Settings>("xmpp", env!("CARGO_PKG_VERSION"), summary, grants)
    }

    fn build(config: Config) -> Result<Self, ConfigErrors> {
        Ok(Self { settings: config.parse()?, trunk: Trunk::default() })
    }

    async fn run(&self, host: Arc<dyn Host>) -> Result<(), Fatal> {
        self.serve(&*host).await.map_err(|error| Fatal::new(format!("XMPP server {}: {error}", self.settings.server)))
    }

    /// XMPP tells only of failures, so a ping to the same server goes behind each message: its answer says that no failure came before it.
    async fn deliver(&self, host: Arc<dyn Host>, job: Delivery) -> Vec<Outcome> {
        let text: String = chat::line_of(&job.content, host.domain()).text;
        let text = text.replace(|c: char| c.is_control() && !matches!(c, '\n' | '\t'), "");
        let (text, component) = (escape(&text), escape(&self.settings.component));
        let mut outcomes = Vec::new();
        for recipient in &job.recipients {
            let (Address::Other(contact), Some(user)) = (&recipient.address, job.user()) else {
                outcomes.push(Outcome::failed("this is no message between a user and somebody on XMPP"));
                continue;
            };
            let (id, to, from) = (MessageId::random().to_string(), escape(contact.name()), escape(user));
            let server = to.rsplit('@').next().unwrap_or_default();
            let stanzas = format!(
                "<message type='chat' id='{id}' from='{from}@{component}' to='{to}'><body>{text}</body></message>\
                 <iq type='get' id='{id}' from='{component}' to='{server}'><ping xmlns='urn:xmpp:ping'/></iq>"
            );
            outcomes.push(self.trunk.ask(&id, stanzas, job.left()).await);
        }
        outcomes
    }
}

impl Xmpp {
    async fn serve(&self, host: &dyn Host) -> Whatever<()> {
        let password = host.secret("xmpp").await?;
        let (read, mut write) = tokio::net::TcpStream::connect(self.settings.server).await?.into_split();
        let mut reader = Reader::from_reader(BufReader::new(read).take(0));
        reader.config_mut().expand_empty_elements = true;
        let open = "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to=";
        write.write_all(format!("{open}'{}'>", escape(&self.settings.component)).as_bytes()).await?;
        let digest =
            Sha1::new().chain_update(get(&next(&mut reader).await?, "@id")).chain_update(password.expose()).finalize();
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        write.write_all(format!("<handshake>{digest}</handshake>").as_bytes()).await?;
        let answer = next(&mut reader).await?;
        if get(&answer, "name") != "handshake" {
            return Err(format!("it refused the component: {answer:?}").into());
        }
        let reading = async {
            host.health(Health::Ready);
            loop {
                let stanza = tokio::select! {
                    () = host.stopped() => return Ok(()),
                    stanza = next(&mut reader) => stanza?,
                };
                self.trunk.say(self.answer_to(host, &stanza).await).await;
            }
        };
        self.trunk.carry(write, reading).await
    }

    /// What the server's stanza is answered with; nothing where nothing is to be said.
    async fn answer_to(&self, host: &dyn Host, stanza: &Stanza) -> String {
        let [name, kind, id] = ["name", "@type", "@id"].map(|path| get(stanza, path));
        if matches!(kind, "error" | "result") {
            // A ping may be refused as well as answered: either way the message went before it.
            let condition = stanza.keys().filter_map(|path| path.strip_prefix("/error/")).find(|name| *name != "text");
            let why = condition.unwrap_or("refused");
            let outcome = match get(stanza, "/error@type") {
                _ if name != "message" => Outcome::delivered(),
                "wait" => Outcome::deferred(why, false),
                _ => Outcome::failed(why),
            };
            self.trunk.tell(id, outcome);
            return String::new();
        }
        let [id, from, to] = ["@id", "@from", "@to"].map(|path| escape(get(stanza, path)));
        let reply = |kind: &str, inner: &str| {
            format!("<{name} type='{kind}' id='{id}' from='{to}' to='{from}'>{inner}</{name}>")
        };
        let error = |kind: &str, what: &str| {
            reply(
                "error",
                &format!("<error type='{kind}'><{what} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"),
            )
        };
        match (name, kind) {
            ("message", _) => match self.take(host, stanza).await {
                Ok(()) => String::new(),
                Err(why) if why.kind().is_temporary() => error("wait", "resource-constraint"),
                Err(why) if why.kind() == ErrorKind::NotFound => error("cancel", "item-not-found"),
                Err(_) => error("cancel", "not-acceptable"),
            },
            // Whether a user of ours is there: always, for messages are kept. Nobody else ever is (RFC 6121, 3.1.3 and 4.3.2).
            ("presence", "subscribe" | "probe") => match chat::user(host, local(get(stanza, "@to"))).await {
                Ok(_) if kind == "probe" => format!("<presence from='{to}' to='{from}'/>"),
                Ok(_) => reply("subscribed", ""),
                Err(why) if why.kind().is_temporary() => error("wait", "resource-constraint"),
                Err(_) => reply("unsubscribed", ""),
            },
            ("iq", "get") if stanza.contains_key("/ping") => reply("result", ""),
            ("iq", _) => error("cancel", "service-unavailable"),
            _ => String::new(),
        }
    }

    /// Brings in what somebody on XMPP says. What has no body is a notice of typing or the like.
    async fn take(&self, host: &dyn Host, stanza: &Stanza) -> Result<(), Error> {
        let Some(text) = stanza.get("/body") else { return Ok(()) };
        let user = chat::user(host, local(get(stanza, "@to"))).await?;
        let bare = get(stanza, "@from").split('/').next().unwrap_or_default().to_lowercase();
        let contact = OtherAddress::new(NetworkName::new("xmpp")?, &bare)?;
        let _reserved = host.budget().room_for(text.len())?;
        let envelope = Line::say(text).to_envelope(contact, local(&bare), user, host.domain())?;
        host.accept(vec![envelope]).await.remove(0).map(drop)
    }
}

/// The name before the `@`; empty where there is none.
fn local(jid: &str) -> &str {
    jid.split_once('@').map_or("", |(local, _)| local)
}

/// What stands there; empty where nothing does.
fn get<'a>(stanza: &'a Stanza, path: &str) -> &'a str {
    stanza.get(path).map_or("", String::as_str)
}

/// The next stanza, of at most 1 MiB, or the stream's header. When its future is dropped, the stream can't be read on.
async fn next<R: AsyncBufRead + Unpin>(reader: &mut Reader<Take<R>>) -> Whatever<Stanza> {
    reader.get_mut().set_limit(1 << 20);
    let (mut stanza, mut open): (_, Vec<String>) = (Stanza::new(), Vec::new());
    while open.is_empty() == stanza.is_empty() && get(&stanza, "name") != "stream" {
        let path = open.last().cloned().unwrap_or_default();
        match reader.read_event_into_async(&mut Vec::new()).await? {
            Event::Start(start) if open.len() < 32 => {
                let name = start.local_name().as_ref().to_owned();
                let path = if open.is_empty() { path } else { format!("{path}/{name}") };
                let path = if stanza.contains_key(&path) { "/again".to_owned() } else { path };
                for attribute in start.attributes() {
                    let (key, value) = attribute.map(|attribute| (attribute.key, attribute.value))?;
                    stanza.insert(format!("{path}@{}", key.as_ref()), unescape(&value)?.into_owned());
                }
                stanza.entry(path.clone()).or_default();
                stanza.entry("name".to_owned()).or_insert(name);
                open.push(path);
            }
            Event::End(_) => drop(open.pop()),
            Event::Text(text) if !open.is_empty() => stanza.entry(path).or_default().push_str(&text.xml10_content()),
            Event::GeneralRef(name) => {
                stanza.entry(path).or_default().push_str(&unescape(&format!("&{};", name.xml10_content()))?);
            }
            Event::Eof | Event::Start(_) => return Err("it closed the stream".into()),
            _ => {}
        }
    }
    Ok(stanza)
}
