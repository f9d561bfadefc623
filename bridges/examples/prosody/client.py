"""A person on XMPP, for the tests: does what lines of JSON on standard input say, and tells on standard output what happens."""
import asyncio, json, sys
import slixmpp

PORT, JID, PASSWORD = int(sys.argv[1]), sys.argv[2], sys.argv[3]


def tell(**what):
    print(json.dumps(what), flush=True)


class Person(slixmpp.ClientXMPP):
    def __init__(self):
        super().__init__(JID, PASSWORD)
        self.register_plugin("xep_0199")
        self["feature_mechanisms"].unencrypted_plain = True
        self.auto_authorize = self.auto_subscribe = None
        for event in ["message", "message_error", "presence_subscribed", "presence_unsubscribed", "presence_available", "presence_error"]:
            self.add_event_handler(event, self.happened)
        self.add_event_handler("session_start", self.started)
        self.add_event_handler("failed_auth", lambda _: tell(event="failed"))

    async def started(self, _):
        # Who asked for the roster is told of subscriptions (RFC 6121, section 2.1.6).
        await self.get_roster()
        self.send_presence()
        tell(event="ready")
        reader = asyncio.StreamReader()
        await self.loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            await self.do(json.loads(line))
        self.disconnect()

    async def do(self, what):
        if "say" in what:
            message = self.make_message(mto=what["to"], mbody=what["say"], mtype="chat")
            message.send()
            # What the component had to say of the message comes before its answer to this.
            try:
                await self["xep_0199"].send_ping(what["to"].split("@")[-1], timeout=15)
                tell(event="settled", id=message["id"])
            except slixmpp.exceptions.IqTimeout:
                tell(event="silence", id=message["id"])
            except slixmpp.exceptions.IqError:
                tell(event="settled", id=message["id"])
        elif "presence" in what:
            self.send_presence(pto=what["to"], ptype=what["presence"])

    def happened(self, stanza):
        if stanza["from"].bare == self.boundjid.bare:
            return
        error = stanza["error"]["type"] + " " + stanza["error"]["condition"] if stanza["type"] == "error" else ""
        tell(event=stanza.name, kind=stanza["type"], sender=stanza["from"].bare, id=stanza["id"], error=error,
             body=stanza["body"] if stanza.name == "message" else "")


person = Person()
person.connect(("127.0.0.1", PORT), disable_starttls=True)
person.process(forever=False)
