"""Drives the server with Python's imaplib: python3 imaplib_client.py PORT STARTTLS_PORT"""

import imaplib
import ssl
import sys
import time

port, tls_port = int(sys.argv[1]), int(sys.argv[2])


def ok(answer):
    status, data = answer
    assert status == "OK", answer
    return data


client = imaplib.IMAP4("127.0.0.1", port)
ok(client.login("ann", "secret"))
assert ok(client.select("INBOX")) == [b"1"]
data = ok(client.fetch("1", "(UID FLAGS RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[])"))
assert data[0][1].startswith(b"From: Bob <bob@example.net>\r\n"), data
assert ok(client.search(None, "SUBJECT", '"lunch"')) == [b"1"]

message = b"From: carol@example.net\r\nSubject: second\r\n\r\n" + b"x" * 200000 + b"\r\n"
ok(client.append("INBOX", "(\\Flagged)", imaplib.Time2Internaldate(time.time()), message))
ok(client.noop())
data = ok(client.uid("FETCH", "2", "(BODY[])"))
assert data[0][1] == message
assert len(ok(client.fetch("2", "(BODY[TEXT]<10.100>)"))[0][1]) == 100

ok(client.create("Work/2026"))
assert any(b"Work/2026" in line for line in ok(client.list()))
ok(client.uid("COPY", "1:2", "Work/2026"))
ok(client.store("1", "+FLAGS", "(\\Deleted $Later)"))
assert ok(client.expunge()) == [b"1"]
ok(client.uid("MOVE", "2", "Trash"))
assert ok(client.select("Work/2026")) == [b"2"]
assert ok(client.status("Trash", "(MESSAGES UIDNEXT UNSEEN)"))[0] == b'"Trash" (MESSAGES 1 UIDNEXT 2 UNSEEN 0)'
ok(client.rename("Work", "Play"))
ok(client.subscribe("Play/2026"))
assert any(b"Play/2026" in line for line in ok(client.lsub()))
ok(client.close())
ok(client.delete("Play/2026"))
assert client.select("Play/2026")[0] == "NO"
ok(client.namespace())
client.logout()

context = ssl._create_unverified_context()
secure = imaplib.IMAP4("127.0.0.1", tls_port)
ok(secure.starttls(context))
ok(secure.authenticate("PLAIN", lambda _: b"\0ann\0secret"))
ok(secure.select("INBOX", readonly=True))
try:
    secure.login("ann", "secret")
    raise SystemExit("a second login went through")
except imaplib.IMAP4.error:
    pass
secure.logout()
