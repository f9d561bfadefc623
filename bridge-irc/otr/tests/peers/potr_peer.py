"""python3-potr behind the line protocol that libotr_peer.c describes. It speaks version 2 only.

potr was written for PyCrypto; what pycryptodome does otherwise (counter objects, raw DSA) is put in place first.
"""

import os
import sys

from Cryptodome.Cipher import AES
from Cryptodome.PublicKey import DSA
import Cryptodome.Random.random as random

import potr
from potr import compatcrypto, context, crypt
from potr.compatcrypto import pycrypto
from potr.utils import bytes_to_long, long_to_bytes


def aes_ctr(key, counter=0):
    prefix = counter.byteprefix() if isinstance(counter, pycrypto.Counter) else long_to_bytes(counter, 8)
    return AES.new(key, AES.MODE_CTR, nonce=prefix, initial_value=0)


def sign(self, data):
    p, q, g, x = (int(getattr(self.priv, name)) for name in "pqgx")
    while True:
        k = random.randrange(2, q)
        r = pow(g, k, p) % q
        s = pow(k, -1, q) * (bytes_to_long(data) + x * r) % q
        if r and s:
            return long_to_bytes(r, 20) + long_to_bytes(s, 20)


def verify(self, data, signature):
    p, q, g, y = (int(getattr(self.pub, name)) for name in "pqgy")
    r, s = bytes_to_long(signature[:20]), bytes_to_long(signature[20:])
    if not (0 < r < q and 0 < s < q):
        return False
    w = pow(s, -1, q)
    return pow(g, bytes_to_long(data) * w % q, p) * pow(y, r * w % q, p) % p % q == r


def construct(self, key=None, private=False):
    self.priv = DSA.construct(key) if private else None
    self.pub = self.priv.public_key() if private else DSA.construct(key)


def payload(key, names):
    return tuple(int(getattr(key, name)) for name in names)


def generate(cls):
    key = DSA.generate(1024)
    return cls(payload(key, "ygpqx"), private=True)


for module in (pycrypto, compatcrypto, crypt):
    module.AESCTR = aes_ctr
pycrypto.DSAKey.__init__ = construct
pycrypto.DSAKey.sign = sign
pycrypto.DSAKey.verify = verify
pycrypto.DSAKey.generate = classmethod(generate)
pycrypto.DSAKey.getPublicPayload = lambda self: payload(self.pub, "pqgy")
pycrypto.DSAKey.getPrivatePayload = lambda self: payload(self.priv, "pqgyx")

POLICY = {
    "ALLOW_V1": False,
    "ALLOW_V2": True,
    "REQUIRE_ENCRYPTION": False,
    "SEND_TAG": True,
    "WHITESPACE_START_AKE": True,
    "ERROR_START_AKE": True,
}


def report(word, data=None):
    print(word if data is None else f"{word} {data.hex() or '-'}", flush=True)


class Conversation(context.Context):
    smp_told = None

    def getPolicy(self, key):
        return POLICY[key]

    def inject(self, msg, appdata=None):
        report("line", msg)

    def setState(self, state):
        before = self.state
        super().setState(state)
        if state == context.STATE_ENCRYPTED:
            word = "refreshed" if before == context.STATE_ENCRYPTED else "private"
            report(word, self.crypto.theirPubkey.fingerprint())
        elif state == context.STATE_FINISHED:
            report("finished")


class User(context.Account):
    contextclass = Conversation

    def __init__(self, directory):
        super().__init__("peer", "irc", 0)
        self.key_file = os.path.join(directory, "potr.key")

    def loadPrivkey(self):
        if os.path.exists(self.key_file):
            with open(self.key_file, "rb") as file:
                return potr.crypt.PK.parsePrivateKey(file.read())[0]
        return None

    def savePrivkey(self):
        with open(self.key_file, "wb") as file:
            file.write(self.privkey.serializePrivateKey())

    def saveTrusts(self):
        pass


def receive(conversation, line):
    try:
        text, tlvs = conversation.receiveMessage(line)
    except context.UnencryptedMessage as error:
        report("text clear", error.args[0])
        return
    except context.NotOTRMessage as error:
        report("text clear", error.args[0])
        return
    except (context.ErrorReceived, context.NotEncryptedError, crypt.InvalidParameterError) as error:
        print(f"note {type(error).__name__}", flush=True)
        return
    if text:
        report("text private", text)
    for tlv in tlvs:
        if isinstance(tlv, potr.proto.SMP1QTLV):
            report("asked", tlv.msg)
        elif isinstance(tlv, potr.proto.SMP1TLV):
            report("asked", b"")
        elif isinstance(tlv, potr.proto.SMPABORTTLV):
            print("smp aborted", flush=True)
        elif isinstance(tlv, (potr.proto.SMP3TLV, potr.proto.SMP4TLV)):
            print("smp same" if conversation.smpIsSuccess() else "smp different", flush=True)


def main():
    user = User(sys.argv[1])
    conversation = user.getContext("us")
    report("fingerprint", user.getPrivkey().fingerprint())
    print("done", flush=True)
    for command in sys.stdin:
        word, *rest = command.split()
        if word == "fragment":
            user.maxMessageSize = int(rest[0])
            rest = []
        arguments = [bytes.fromhex("" if item == "-" else item) for item in rest]
        if word == "recv":
            receive(conversation, arguments[0])
        elif word == "say":
            left = conversation.sendMessage(context.FRAGMENT_SEND_ALL, arguments[0])
            if left is not None:
                report("line", left)
        elif word == "query":
            report("line", user.getDefaultQueryMessage(conversation.getPolicy))
        elif word == "end":
            conversation.disconnect()
        elif word == "smp":
            conversation.smpInit(arguments[0], question=arguments[1] or None)
        elif word == "answer":
            conversation.smpGotSecret(arguments[0])
        elif word == "abort":
            conversation.smpAbort()
        print("done", flush=True)


main()
