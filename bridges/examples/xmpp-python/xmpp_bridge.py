"""A bridge to XMPP, as a component of the operator's own server (XEP-0114). What it does is what ../xmpp-rust does."""
import email, email.policy, hashlib, json, os, queue, re, secrets, socket, sys, threading, time
from email.utils import formatdate
from urllib.parse import quote
from xml.etree.ElementTree import XMLPullParser
from xml.sax.saxutils import escape, quoteattr

import grpc
from mesyx.bridge.v1 import bridge_pb2 as pb, bridge_pb2_grpc as rpc

KEYS = {"server": "HOST:PORT of the XMPP server's port for components", "component": "the component's name there"}
MANIFEST = {
    "name": "xmpp",
    "version": "0.1.0",
    "summary": "Brings messages to and from people on XMPP",
    "grants": ["accept", "deliver", "directory", "secret:xmpp"],
    "delivers": ["xmpp"],
    "config_schema": {
        "type": "object", "required": list(KEYS), "additionalProperties": False,
        "properties": {key: {"type": "string", "description": text} for key, text in KEYS.items()},
    },
}
LATER = {"full", "over-quota", "too-many", "unavailable"}


def spell(name):
    """A name as the local part of a mail address: docs/bridge-protocol.md."""
    out = ""
    for at, c in enumerate(name):
        dot = c == "." and out and not out.endswith(".") and at + 1 < len(name)
        out += c if re.match(r"[a-z0-9#_-]|[^\x00-\x7f]", c) or dot else "=%02x" % ord(c)
    return out if out.isascii() else "=u" + out.encode("punycode").decode()


def problems(config):
    """Everything that is wrong with a configuration, at once."""
    wrong = [(key, "there is no such key", "take it out") for key in config if key not in KEYS]
    wrong += [(key, "it is missing, or no text", f"write {what}") for key, what in KEYS.items() if not isinstance(config.get(key), str)]
    if not wrong and not re.fullmatch(r".+:\d+", config["server"]):
        wrong.append(("server", "it names no port", "write HOST:PORT"))
    return [pb.ConfigError(path=path, what=what, fix=fix) for path, what, fix in wrong]


class Bridge:
    def __init__(self, channel):
        self.life, self.host = rpc.LifeStub(channel), rpc.HostStub(channel)
        self.config, self.run, self.waiting, self.stopping = {}, None, {}, False
        self.xmpp, self.writes = None, threading.Lock()

    def live(self, token):
        """One life: what the host wants, until it wants an end."""
        hello = pb.Hello(minor=0, sdk="xmpp-python 0.1.0", token=token, manifest=json.dumps(MANIFEST))
        for event in self.life.Live(hello):
            what = event.WhichOneof("event")
            if what == "build":
                self.config = json.loads(event.build.config)
                self.life.Built(pb.BuiltRequest(errors=problems(self.config), secrets=["xmpp"]), timeout=60)
            elif what == "run":
                self.run = event.run
                threading.Thread(target=self.serve, daemon=True).start()
            elif what == "deliver":
                threading.Thread(target=self.deliver, args=[event.deliver], daemon=True).start()
            elif what == "stop":
                self.stopping = True
                return self.end()

    def serve(self):
        """The XMPP side, until its connection ends."""
        try:
            self.connect()
        except Exception as error:
            if not self.stopping:
                self.end(fatal=f"XMPP server {self.config['server']}: {error}")

    def end(self, **why):
        try:
            self.life.Ended(pb.EndedRequest(**why), timeout=10)
        except grpc.RpcError:
            pass  # The host closes the connection once it has heard it, perhaps before its answer is here.

    def connect(self):
        server, port = self.config["server"].rsplit(":", 1)
        self.xmpp = socket.create_connection((server, int(port)))
        self.send(f"<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' "
                  f"to={quoteattr(self.config['component'])}>")
        parser, depth, root = XMLPullParser(["start", "end"]), 0, None
        while data := self.xmpp.recv(65536):
            parser.feed(data)
            for event, element in parser.read_events():
                depth += 1 if event == "start" else -1
                if event == "start" and depth == 1:
                    root = element
                    password = self.host.Secret(pb.SecretRequest(name="xmpp"), timeout=60).secret
                    digest = hashlib.sha1(element.get("id").encode() + password).hexdigest()
                    self.send(f"<handshake>{digest}</handshake>")
                elif event == "end" and depth == 1:
                    self.answer(element)
                    root.clear()
        raise ConnectionError("it closed the stream")

    def send(self, text):
        with self.writes:
            self.xmpp.sendall(text.encode())

    def answer(self, stanza):
        """What the server's stanza is answered with."""
        name, kind = stanza.tag.split("}")[-1], stanza.get("type", "")
        to, sender = stanza.get("to", ""), stanza.get("from", "")
        child = lambda tag: next((c for c in stanza if c.tag.split("}")[-1] == tag), None)

        def reply(kind, inner="", name=name):
            self.send(f"<{name} type='{kind}' id={quoteattr(stanza.get('id', ''))} from={quoteattr(to)} to={quoteattr(sender)}>{inner}</{name}>")

        def error(kind, condition):
            reply("error", f"<error type='{kind}'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>")

        if name == "handshake":
            self.host.Health(pb.HealthRequest(ready=pb.Ready()), timeout=60)
        elif name == "error":
            raise ConnectionError("it refused the component: " + ", ".join(c.tag.split("}")[-1] for c in stanza))
        elif kind in ("error", "result"):
            if told := self.waiting.pop(stanza.get("id"), None):
                problem = child("error") if name == "message" else None
                told.put("" if problem is None else problem.get("type") + " " + problem[0].tag.split("}")[-1])
        elif name == "message":
            body = child("body")
            refusal = None if body is None else self.take(sender, to, body.text or "")
            if refusal:
                error(*("wait", "resource-constraint") if refusal in LATER else
                      ("cancel", "item-not-found" if refusal == "not-found" else "not-acceptable"))
        elif name == "presence" and kind in ("subscribe", "probe"):
            if not self.user(to):
                reply("unsubscribed")
            elif kind == "probe":
                self.send(f"<presence from={quoteattr(to)} to={quoteattr(sender)}/>")
            else:
                reply("subscribed")
        elif name == "iq":
            reply("result") if kind == "get" and child("ping") is not None else error("cancel", "service-unavailable")

    def user(self, jid):
        """The mail address behind NAME@COMPONENT, where it is ours."""
        address = jid.split("@")[0] + "@" + self.run.domain
        try:
            status = self.host.Recipient(pb.RecipientRequest(address=address), timeout=60).status
        except grpc.RpcError:
            return None
        return address if "@" in jid and status == pb.RECIPIENT_STATUS_LOCAL else None

    def take(self, sender, to, text):
        """Brings a line in; the kind of the error where that fails."""
        user, bare, now, id = self.user(to), sender.split("/")[0].lower(), int(time.time() * 1000), secrets.token_bytes(16)
        if not user:
            return "not-found"
        nick = bare.split("@")[0]
        content = "\r\n".join([
            f"From: <{spell(bare)}@xmpp.x.{self.run.domain}>", f"To: <{user}>", f"Date: {formatdate(now / 1000)}",
            f"Message-ID: <{id.hex()}@irc.{self.run.domain}>", f"Subject: {nick}".encode("ascii", "replace").decode(),
            f"Mesyx-Line: say; at={now}; nick={quote(nick, safe='#-_.')}", "MIME-Version: 1.0",
            "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit", "",
            text.replace("\r", " ").replace("\n", "\r\n"), ""]).encode()
        envelope = pb.Envelope(
            id=id, style=pb.STYLE_INSTANT, **{"from": "xmpp:" + bare}, to=[pb.Recipient(address=user)], sent=now, received=now,
            conversation=pb.ConversationOf(direct="xmpp:" + bare), origin=pb.Origin(network="xmpp"), size=len(content), body=content[:65536])
        chunks = (pb.Upload(chunk=content[at:at + 65536]) for at in range(65536, len(content), 65536))
        try:
            reply = self.host.Accept((part for parts in ([pb.Upload(envelope=envelope)], chunks) for part in parts), timeout=300)
            return reply.results[0].error.kind
        except grpc.RpcError:
            return "unavailable"

    def deliver(self, job):
        body = job.body
        if len(body) < job.size:
            body += b"".join(chunk.data for chunk in self.life.Body(pb.BodyRequest(job=job.job), timeout=60))
        part = email.message_from_bytes(body, policy=email.policy.default).get_body(("plain",))
        text = (part.get_content() if part else "").replace("\r\n", "\n").split("\n-- \n")[0].strip()
        outcomes = [self.bring(getattr(job, "from"), recipient.address, text, job.deadline) for recipient in job.recipients]
        self.life.Outcomes(pb.OutcomesRequest(job=job.job, outcomes=outcomes), timeout=60)

    def bring(self, sender, address, text, deadline):
        """One recipient's turn. XMPP tells only of failures: the answer to a ping behind the message says that none came before it."""
        network, _, to = address.partition(":")
        if network != "xmpp" or "@" not in sender:
            return pb.Outcome(failed=pb.Failed(why="this is no message between a user and somebody on XMPP"))
        id, told, component = secrets.token_hex(8), queue.Queue(), self.config["component"]
        self.waiting[id] = told
        text = escape(re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", text))
        try:
            self.send(f"<message type='chat' id='{id}' from={quoteattr(sender.rsplit('@', 1)[0] + '@' + component)} to={quoteattr(to)}>"
                      f"<body>{text}</body></message><iq type='get' id='{id}' from={quoteattr(component)} "
                      f"to={quoteattr(to.split('@')[-1])}><ping xmlns='urn:xmpp:ping'/></iq>")
            problem = told.get(timeout=max(0, deadline / 1000 - time.time() - 1))
        except (OSError, queue.Empty, AttributeError):
            return pb.Outcome(deferred=pb.Deferred(why="the XMPP server did not answer", scope=pb.DEFER_SCOPE_RECIPIENT, maybe_sent=True))
        finally:
            self.waiting.pop(id, None)
        if not problem:
            return pb.Outcome(delivered=pb.Delivered())
        if problem.startswith("wait"):
            return pb.Outcome(deferred=pb.Deferred(why=problem, scope=pb.DEFER_SCOPE_RECIPIENT))
        return pb.Outcome(failed=pb.Failed(why=problem))


if __name__ == "__main__":
    if sys.argv[1:] == ["--manifest"]:
        print(json.dumps(MANIFEST))
    else:
        # Unless told otherwise, grpcio takes the socket's path for the host's name, which HTTP/2 refuses.
        options = [("grpc.default_authority", "localhost")]
        with grpc.insecure_channel(os.environ["MESYX_BRIDGE"], options) as channel:
            try:
                Bridge(channel).live(os.environ.get("MESYX_BRIDGE_TOKEN", "").encode())
            except grpc.RpcError as error:
                sys.exit(f"the connection to Mesyx has ended: {error.details()}")
