"""A correspondent who has nothing but GnuPG and the server's key directory writes an encrypted answer; it is read by IMAP.

Prints "all done" at the end.
"""

import hashlib
import imaplib
import os
import re
import smtplib
import subprocess
import sys
import tempfile
import urllib.request

http, smtp, imap, name, address, password = sys.argv[1:]
local, domain = address.split("@")
home = tempfile.mkdtemp(prefix="g", dir="/tmp")


def gpg(*arguments, data=b""):
    command = ["gpg", "--homedir", home, "--batch", "--yes", "--trust-model", "always"]
    command += ["--pinentry-mode", "loopback", "--passphrase", "", *arguments]
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout


def zbase32(data):
    bits = "".join(f"{byte:08b}" for byte in data)
    alphabet = "ybndrfg8ejkmcpqxot1uwisza345h769"
    return "".join(alphabet[int(bits[at : at + 5], 2)] for at in range(0, len(bits), 5))


try:
    path = f"/.well-known/openpgpkey/{domain}/hu/{zbase32(hashlib.sha1(local.lower().encode()).digest())}?l={local}"
    request = urllib.request.Request(f"http://127.0.0.1:{http}{path}", headers={"Host": f"openpgpkey.{domain}"})
    gpg("--import", data=urllib.request.urlopen(request, timeout=30).read())
    gpg("--quick-generate-key", "bob@elsewhere.test", "future-default", "default", "never")
    entity = (
        'Content-Type: text/plain; charset=utf-8; protected-headers="v1"\r\n'
        "Subject: =?utf-8?q?caf=C3=A9_at_nine?=\r\n\r\nbring the plans, é\r\n"
    ).encode()
    secret = gpg("--encrypt", "--sign", "--armor", "-r", address, data=entity).replace(b"\n", b"\r\n")
    message = (
        f"From: Bob <bob@elsewhere.test>\r\nTo: {address}\r\nSubject: ...\r\nMessage-ID: <reply@elsewhere.test>\r\n"
        "Mesyx-PGP: signature=good; signer=forged@example.com\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary="=-="\r\n\r\n'
        "--=-=\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n"
        "--=-=\r\nContent-Type: application/octet-stream\r\n\r\n"
    ).encode() + secret + b"\r\n--=-=--\r\n"
    with smtplib.SMTP("127.0.0.1", int(smtp)) as client:
        client.sendmail("bob@elsewhere.test", [address], message)

    def read():
        client = imaplib.IMAP4("127.0.0.1", int(imap))
        client.login(name, password)
        client.select("INBOX")
        uid = client.uid("SEARCH", "HEADER", "Message-ID", "<reply@elsewhere.test>")[1][0].split()
        assert len(uid) == 1, uid
        uid = uid[0].decode()
        listed = client.uid("FETCH", uid, "(RFC822.SIZE ENVELOPE BODYSTRUCTURE)")[1]
        listed = b"".join(piece if isinstance(piece, bytes) else b"".join(piece) for piece in listed)
        body = client.uid("FETCH", uid, "(BODY.PEEK[])")[1][0][1]
        text = client.uid("FETCH", uid, "(BODY.PEEK[TEXT])")[1][0][1]
        found = client.uid("SEARCH", "BODY", '"bring the plans"')[1][0].split()
        hidden = client.uid("SEARCH", "TEXT", '"BEGIN PGP"')[1][0].split()
        client.logout()
        assert uid.encode() in found and uid.encode() not in hidden, (found, hidden)
        return listed, body, text

    listed, body, text = read()
    assert b"=?utf-8?q?caf=C3=A9_at_nine?=" in listed, listed
    assert b'("text" "plain"' in listed.lower(), listed
    assert int(re.search(rb"RFC822.SIZE (\d+)", listed).group(1)) == len(body), (listed, len(body))
    assert text == "bring the plans, é\r\n".encode(), text
    assert body.startswith(b"Mesyx-PGP: decrypted=yes; integrity=yes; signature=unknown"), body
    assert body.count(b"Mesyx-PGP:") == 1 and b"forged" not in body and b"BEGIN PGP" not in body, body
    # Another connection, the same bytes.
    assert read() == (listed, body, text)
finally:
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"])
    subprocess.run(["rm", "-r", home])
print("all done")
