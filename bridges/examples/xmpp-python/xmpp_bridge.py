"""A bridge to XMPP, as a component of the operator's own server (XEP-0114). What it does is what ../xmpp-rust does."""
import contextlib, email, email.policy, email.utils, hashlib, json, os, queue, re, secrets, socket, sys, threading, time
from urllib.parse import quote
from xml.etree.ElementTree import iterparse
from xml.sax.saxutils import escape, quoteattr

import grpc
from mesyx.bridge.v1 import bridge_pb2 as pb, bridge_pb2_grpc as rpc

KEYS = {"server": "HOST:PORT of the XMPP server's port for components", "component": "the component's name there"}
MANIFEST = {
    "name": "xmpp", "version": "0.1.0", "summary": "Brings messages to and from people on XMPP",
    "grants": ["accept", "deliver", "directory", "secret:xmpp"], "delivers": ["xmpp"],
    "config_schema": {
        "type": "object", "required": list(KEYS), "additionalProperties": False,
        "properties": {key: {"type": "string", "description": text} for key, text in KEYS.items()},
    },
}
# What a refusal by the host is to XMPP (RFC 6120, section 8.3.3): these pass by themselves, all others do not.
LATER = dict.fromkeys(["full", "over-quota", "too-many", "unavailable"], ("wait", "resource-constraint"))


def spell(name):
    """A name as the local part of a mail address: docs/bridge-protocol.md."""
    out = ""
    for at, c in enumerate(name):
        dot = c == "." and out and not out.endswith(".") and at + 1 < len(name)
        out += c if re.match(r"[a-z0-9#_-]|[^\x00-\x7f]", c) or dot else "=%02x" % ord(c)
    return out if out.isascii() else "=u" + out.encode("punycode").decode()


def problems(config):
    """What is wrong with a configuration beyond what the schema says, which the host checks."""
    good = re.fullmatch(r".+:\d+", config["server"])
    return [] if good else [pb.ConfigError(path="server", what="it names no port", fix="write HOST:PORT")]


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

    def end(self, **why):
        with contextlib.suppress(grpc.RpcError):  # The host closes the connection, perhaps before its answer is here.
            self.life.Ended(pb.EndedRequest(**why), timeout=10)

    def serve(self):
        """The XMPP side, until its connection ends."""
        try:
            self.connect()
        except Exception as error:
            if not self.stopping:
                self.end(fatal=f"XMPP server {self.config['server']}: {error}")

    def connect(self):
        server, port = self.config["server"].rsplit(":", 1)
        self.xmpp = socket.create_connection((server, int(port)))
        self.send(f"<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' "
                  f"to={quoteattr(self.config['component'])}>")
        depth, root = 0, None
        for event, element in iterparse(self.xmpp.makefile("rb", 0), ["start", "end"]):
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
        addresses = f"id={quoteattr(stanza.get('id', ''))} from={quoteattr(to)} to={quoteattr(sender)}"

        def reply(kind, inner=""):
            self.send(f"<{name} type='{kind}' {addresses}>{inner}</{name}>")
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
        elif name == "message" and child("body") is not None:
            if refusal := self.take(sender, to, child("body").text or ""):
                error(*{**LATER, "not-found": ("cancel", "item-not-found")}.get(refusal, ("cancel", "not-acceptable")))
        elif name == "presence" and kind in ("subscribe", "probe"):
            there = self.user(to)
            if there and kind == "probe":
                self.send(f"<presence {addresses}/>")
            else:
                reply("subscribed" if there else "unsubscribed")
        elif name == "iq" and kind == "get" and child("ping") is not None:
            reply("result")
        elif name == "iq":
            error("cancel", "service-unavailable")

    def user(self, jid):
        """The mail address behind NAME@COMPONENT, where it is ours."""
        request = pb.RecipientRequest(address=jid.split("@")[0] + "@" + self.run.domain)
        with contextlib.suppress(grpc.RpcError):
            status = self.host.Recipient(request, timeout=60).status
            return request.address if "@" in jid and status == pb.RECIPIENT_STATUS_LOCAL else None

    def take(self, sender, to, text):
        """Brings a line in; the kind of the error where that fails."""
        user, now, id = self.user(to), int(time.time() * 1000), secrets.token_bytes(16)
        if not user:
            return "not-found"
        bare = sender.split("/")[0].lower()
        nick, contact = bare.split("@")[0], "xmpp:" + bare
        content = "\r\n".join([
            f"From: <{spell(bare)}@xmpp.x.{self.run.domain}>", f"To: <{user}>",
            f"Date: {email.utils.formatdate(now / 1000)}", f"Message-ID: <{id.hex()}@irc.{self.run.domain}>",
            f"Subject: {nick}".encode("ascii", "replace").decode(), "MIME-Version: 1.0",
            f"Mesyx-Line: say; at={now}; nick={quote(nick, safe='#-_.')}", "Content-Type: text/plain; charset=utf-8",
            "Content-Transfer-Encoding: 8bit", "", text.replace("\r", " ").replace("\n", "\r\n"), ""]).encode()
        envelope = pb.Envelope(
            id=id, style=pb.STYLE_INSTANT, **{"from": contact}, to=[pb.Recipient(address=user)], sent=now, received=now,
            conversation=pb.ConversationOf(direct=contact), origin=pb.Origin(network="xmpp"),
            size=len(content), body=content[:65536])
        chunks = [pb.Upload(chunk=content[at:at + 65536]) for at in range(65536, len(content), 65536)]
        with contextlib.suppress(grpc.RpcError):
            return self.host.Accept(iter([pb.Upload(envelope=envelope)] + chunks), timeout=300).results[0].error.kind
        return "unavailable"

    def deliver(self, job):
        body = job.body
        if len(body) < job.size:
            body += b"".join(chunk.data for chunk in self.life.Body(pb.BodyRequest(job=job.job), timeout=60))
        part = email.message_from_bytes(body, policy=email.policy.default).get_body(("plain",))
        text = (part.get_content() if part else "").replace("\r\n", "\n").split("\n-- \n")[0].strip()
        sender = getattr(job, "from").removeprefix("mesyx:").rpartition("@")[0]
        outcomes = [self.bring(sender, recipient.address, text, job.deadline) for recipient in job.recipients]
        self.life.Outcomes(pb.OutcomesRequest(job=job.job, outcomes=outcomes), timeout=60)

    def bring(self, sender, address, text, deadline):
        """One recipient's turn. XMPP tells only of failures: a ping's answer says that none came before it."""
        network, _, to = address.partition(":")
        if network != "xmpp" or not sender:
            return pb.Outcome(failed=pb.Failed(why="this is no message between a user and somebody on XMPP"))
        id, told, component = secrets.token_hex(8), queue.Queue(), quoteattr(self.config["component"])
        self.waiting[id], sender = told, quoteattr(sender + "@" + self.config["component"])
        later = lambda why, **more: pb.Outcome(deferred=pb.Deferred(why=why, scope=pb.DEFER_SCOPE_RECIPIENT, **more))
        text = escape(re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", text))
        try:
            self.send(f"<message type='chat' id='{id}' from={sender} to={quoteattr(to)}><body>{text}</body></message>"
                      f"<iq type='get' id='{id}' from={component} to={quoteattr(to.rpartition('@')[2])}>"
                      "<ping xmlns='urn:xmpp:ping'/></iq>")
            problem = told.get(timeout=max(0, deadline / 1000 - time.time() - 1))
        except (OSError, queue.Empty, AttributeError):
            return later("the XMPP server did not answer", maybe_sent=True)
        finally:
            self.waiting.pop(id, None)
        if problem.startswith("wait"):
            return later(problem)
        return pb.Outcome(failed=pb.Failed(why=problem)) if problem else pb.Outcome(delivered=pb.Delivered())


if __name__ == "__main__":
    if sys.argv[1:] == ["--manifest"]:
        sys.exit(print(json.dumps(MANIFEST)))
    # Unless told otherwise, grpcio takes the socket's path for the host's name, which HTTP/2 refuses.
    with grpc.insecure_channel(os.environ["MESYX_BRIDGE"], [("grpc.default_authority", "localhost")]) as channel:
        try:
            Bridge(channel).live(os.environ.get("MESYX_BRIDGE_TOKEN", "").encode())
        except grpc.RpcError as error:
            sys.exit(f"the connection to Mesyx has ended: {error.details()}")
