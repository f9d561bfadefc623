"""Drives every command that Python's imaplib knows; prints "all done" at the end."""

import imaplib
import re
import ssl
import sys

port, tls_port, ca, name, password = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)


def ok(answer):
    kind, data = answer
    assert kind == "OK", answer
    return data


def refused(call, *arguments):
    try:
        kind, data = call(*arguments)
    except imaplib.IMAP4.error as error:
        return str(error)
    assert kind == "NO", (kind, data)
    return str(data)


# STARTTLS, implicit TLS, AUTHENTICATE PLAIN, wrong passwords.
imap = imaplib.IMAP4("127.0.0.1", int(port))
ok(imap.starttls(context))
assert "AUTHENTICATIONFAILED" in refused(imap.login, name, "wrong")
assert "AUTHENTICATIONFAILED" in refused(imap.login, "nobody", "wrong")
ok(imap.authenticate("PLAIN", lambda _: f"\0{name}\0{password}".encode()))
imap.logout()
imap = imaplib.IMAP4_SSL("localhost", int(tls_port), ssl_context=context)
imap.login(name, password)
ok(imap.noop())
ok(imap.namespace())
for word in "IDLE NAMESPACE ID UIDPLUS MOVE SPECIAL-USE UNSELECT CHILDREN ENABLE CONDSTORE LITERAL+ SASL-IR".split():
    assert word in imap.capabilities or word in ok(imap.capability())[0].decode().split(), word

# Mailboxes, hierarchy, subscriptions, names beyond ASCII.
names = {re.search(rb'"?([^" ]+)"?$', line).group(1).decode() for line in ok(imap.list())}
assert {"INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"} <= names, names
ok(imap.create("Work/Plans/2026"))
ok(imap.create("B&APw-cher"))
assert "ALREADYEXISTS" in refused(imap.create, "Work/Plans/2026")
listed = b"\n".join(ok(imap.list('""', "*")))
assert b"B&APw-cher" in listed and b"Work/Plans/2026" in listed
assert b"Noselect" in b"\n".join(line for line in ok(imap.list('""', "%")) if b"Work" in line)
ok(imap.rename("Work/Plans", "Work/Ideas"))
assert b"Work/Ideas/2026" in b"\n".join(ok(imap.list('""', "*")))
ok(imap.subscribe("Work/Ideas/2026"))
assert b"Work/Ideas/2026" in b"\n".join(ok(imap.lsub('""', "*")))
ok(imap.unsubscribe("Work/Ideas/2026"))
ok(imap.delete("Work/Ideas/2026"))
assert "NONEXISTENT" in refused(imap.delete, "Work/Ideas/2026")
refused(imap.delete, "INBOX")

# APPEND, FETCH in every shape.
message = (
    b"From: =?utf-8?q?J=C3=B6rg?= <jorg@example.net>\r\nTo: Alice <alice@example.org>, bob@example.org\r\n"
    b"Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\nDate: Tue, 03 Mar 2026 10:11:12 +0100\r\nMessage-ID: <1@example.net>\r\n"
    b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\npreamble\r\n--b\r\n'
    b"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nH=E4user\r\n"
    b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nFrom: x@example.net\r\n\r\ninner text\r\n--b--\r\nepilogue\r\n"
)
date = imaplib.Time2Internaldate(1772530000)
ok(imap.create("Box"))
data = ok(imap.append("Box", r"(\Seen $Label)", date, message))
assert re.search(rb"APPENDUID \d+ 1\]", data[0]), data
assert "TRYCREATE" in refused(imap.append, "Nowhere", None, None, message)
assert ok(imap.select("Box"))[0] == b"1"
assert imap.response("UIDVALIDITY")[1][0].isdigit()


def fetch(what, numbers="1"):
    data = ok(imap.fetch(numbers, f"({what})"))
    return b"".join(part if isinstance(part, bytes) else b"".join(part) for part in data if part)


def literal(what):
    [found] = [part[1] for part in ok(imap.fetch("1", f"({what})")) if isinstance(part, tuple)]
    return found


assert literal("BODY.PEEK[]") == message
assert literal("RFC822") == message
header, _, text = message.partition(b"\r\n\r\n")
assert literal("BODY.PEEK[HEADER]") == header + b"\r\n\r\n"
assert literal("RFC822.HEADER") == header + b"\r\n\r\n"
assert literal("BODY.PEEK[TEXT]") == text
assert literal("BODY.PEEK[HEADER.FIELDS (SUBJECT)]") == b"Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\n\r\n"
assert b"Subject" not in literal("BODY.PEEK[HEADER.FIELDS.NOT (SUBJECT)]")
assert b"H=E4user" in fetch("BODY.PEEK[1]")
assert b"iso-8859-1" in literal("BODY.PEEK[1.MIME]")
assert literal("BODY.PEEK[2]") == b"Subject: inner\r\nFrom: x@example.net\r\n\r\ninner text"
assert literal("BODY.PEEK[2.HEADER]") == b"Subject: inner\r\nFrom: x@example.net\r\n\r\n"
assert b"inner text" in fetch("BODY.PEEK[2.TEXT]")
assert b"BODY[]<5>" in fetch("BODY.PEEK[]<5.7>") and message[5:12] in fetch("BODY.PEEK[]<5.7>")
everything = fetch("UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE")
assert b"RFC822.SIZE %d" % len(message) in everything, everything
assert b'"jorg" "example.net"' in everything and b"=?utf-8?b?R3LDvMOfZQ==?=" in everything
assert b'" 3-Mar-2026 09:26:40 +0000"' in everything, everything
assert rb"\Seen" in everything and b"$Label" in everything
assert b'("message" "rfc822"' in everything.lower() and b'"mixed"' in everything.lower()
for macro in ("ALL", "FAST", "FULL"):
    ok(imap.fetch("1", macro))

# SEARCH.
def search(*terms, charset=None):
    return ok(imap.search(charset, *terms))[0].split()


for terms in (
    ("ALL",), ("SEEN",), ("KEYWORD", "$Label"), ("UNDELETED",), ("SUBJECT", '"GRÜßE"'.encode()), ("FROM", "jorg@"), ("TO", "bob"),
    ("HEADER", "Message-ID", '"<1@example.net>"'), ("BODY", '"häuser"'.encode()), ("TEXT", "inner"), ("SENTON", "3-Mar-2026"),
    ("SENTSINCE", "1-Mar-2026"), ("SENTBEFORE", "4-Mar-2026"), ("ON", "3-Mar-2026"), ("SINCE", "3-Mar-2026"), ("BEFORE", "4-Mar-2026"),
    ("LARGER", "10"), ("SMALLER", "100000"), ("UID", "1:*"), ("1:*",), ("OR", "UNSEEN", "SEEN"), ("NOT", "FLAGGED"),
    ("(SEEN (UNFLAGGED))",), ("RECENT",), ("UNKEYWORD", "other"),
):
    charset = "UTF-8" if any(isinstance(term, bytes) for term in terms) else None
    found = search(*terms, charset=charset)
    assert found == [b"1"], (terms, found)
for terms in (("UNSEEN",), ("OLD",), ("FLAGGED",), ("SUBJECT", "absent"), ("LARGER", "100000"), ("SENTBEFORE", "3-Mar-2026"), ("NOT", "ALL")):
    assert search(*terms) == [], terms
assert "BADCHARSET" in refused(imap.search, "X-NOWHERE", "ALL")

# STORE, COPY, MOVE, EXPUNGE, UID commands.
ok(imap.store("1", "+FLAGS", r"(\Flagged)"))
ok(imap.store("1", "-FLAGS.SILENT", r"(\Seen)"))
assert rb"\Flagged" in fetch("FLAGS") and rb"\Seen" not in fetch("FLAGS")
fetch("BODY[TEXT]")
assert rb"\Seen" in fetch("FLAGS"), "reading marks as seen"
data = ok(imap.copy("1", "Archive"))
assert re.search(rb"COPYUID \d+ 1 1\]", data[0]), data
ok(imap.uid("STORE", "1", "+FLAGS", r"(\Deleted)"))
assert ok(imap.expunge()) == [b"1"]
ok(imap.select("Archive"))
assert rb"\Flagged" in fetch("FLAGS")
kind, data = imap.uid("MOVE", "1", "Trash")
assert kind == "OK", data
assert ok(imap.select("Trash"))[0] == b"1" and ok(imap.select("Archive"))[0] == b"0"
data = ok(imap.status("Trash", "(MESSAGES UNSEEN UIDNEXT UIDVALIDITY RECENT)"))
assert b"MESSAGES 1" in data[0], data
ok(imap.select("Trash", readonly=True))
refused(imap.store, "1", "+FLAGS", r"(\Answered)")
ok(imap.select("Trash"))
ok(imap.check())
ok(imap.store("1", "+FLAGS", r"(\Deleted)"))
ok(imap.close())
assert b"MESSAGES 0" in ok(imap.status("Trash", "(MESSAGES)"))[0]

# Changes by one connection are seen at once by another that idles.
watching = imaplib.IMAP4("127.0.0.1", int(port))
watching.login(name, password)
watching.select("Box")
watching.send(b"x IDLE\r\n")
assert watching.readline().startswith(b"+")
ok(imap.append("Box", None, None, b"Subject: live\r\n\r\nx\r\n"))
lines = [watching.readline()]
while b"EXISTS" not in lines[-1]:
    lines.append(watching.readline())
ok(imap.select("Box"))
ok(imap.store("1", "+FLAGS", r"(\Answered)"))
while not (b"FETCH" in lines[-1] and rb"\Answered" in lines[-1]):
    lines.append(watching.readline())
ok(imap.store("1", "+FLAGS", r"(\Deleted)"))
ok(imap.expunge())
while b"EXPUNGE" not in lines[-1]:
    lines.append(watching.readline())
watching.send(b"DONE\r\n")
while not watching.readline().startswith(b"x OK"):
    pass
watching.logout()
imap.logout()
print("all done")
