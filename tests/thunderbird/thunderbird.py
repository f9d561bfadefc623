#!/usr/bin/env python3
"""Drives a real Thunderbird under Xvfb, by Marionette, with nothing but Python's standard library.

  thunderbird.py offline    HOST:PORT USER PASSWORD KEYFILE PICTURE   reads the first message of INBOX with the user's own secret key
  thunderbird.py autoconfig ADDRESS PASSWORD PICTURE [AUTHORITY]      sets up an account from the address alone, and reads INBOX
  thunderbird.py wizard     ADDRESS PASSWORD PICTURE [AUTHORITY]      the same through the dialog that a user sees; a picture of each of its pages

Prints one line of JSON: what Thunderbird showed. See README.md here.
"""

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

PATIENCE = 90


class Marionette:
    """Mozilla's remote protocol: JSON with its length in front, commands numbered."""

    def __init__(self, port):
        end = time.time() + PATIENCE
        while True:
            try:
                self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
                break
            except OSError:
                if time.time() > end:
                    raise
                time.sleep(0.3)
        self.number = 0
        self.buffer = b""
        self.receive()
        self.command("WebDriver:NewSession", {"capabilities": {"alwaysMatch": {"timeouts": {"script": PATIENCE * 1000}}}})
        self.command("Marionette:SetContext", {"value": "chrome"})

    def receive(self):
        while b":" not in self.buffer:
            self.more()
        length, self.buffer = self.buffer.split(b":", 1)
        while len(self.buffer) < int(length):
            self.more()
        text, self.buffer = self.buffer[: int(length)], self.buffer[int(length) :]
        return json.loads(text)

    def more(self):
        data = self.socket.recv(65536)
        if not data:
            raise EOFError("Thunderbird ended")
        self.buffer += data

    def command(self, name, parameters):
        self.number += 1
        text = json.dumps([0, self.number, name, parameters]).encode()
        self.socket.sendall(b"%d:" % len(text) + text)
        _, number, error, result = self.receive()
        assert number == self.number
        if error:
            raise RuntimeError(f"{name}: {error['message']}\n{error.get('stacktrace', '')}")
        return result

    def run(self, script, *arguments):
        """Runs the body of an asynchronous function with the rights of the program itself."""
        script = (
            "const [done, ...args] = [arguments[arguments.length - 1], ...Array.from(arguments).slice(0, -1)];"
            "(async () => {" + script + "})().then(value => done({value}), error => done({error: String(error) + ' ' + (error.stack || '')}));"
        )
        parameters = {"script": script, "args": list(arguments), "sandbox": "system", "newSandbox": False}
        answer = self.command("WebDriver:ExecuteAsyncScript", parameters)["value"] or {}
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer.get("value")


class Thunderbird:
    """A Thunderbird with a new profile on a display of its own; both end with it."""

    def __init__(self):
        self.profile = tempfile.mkdtemp(prefix="thunderbird-")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        preferences = {
            "marionette.port": port,
            "app.donation.eoy.version.viewed": 99,
            "app.update.enabled": False,
            "browser.dom.window.dump.enabled": True,
            "datareporting.policy.dataSubmissionEnabled": False,
            "mail.provider.suppress_dialog_on_startup": True,
            "mail.rights.version": 1,
            "mail.shell.checkDefaultClient": False,
            "mail.spotlight.firstRunDone": True,
            "mail.winsearch.firstRunDone": True,
            "mailnews.start_page.enabled": False,
            "mailnews.start_page_override.mstone": "ignore",
            "toolkit.telemetry.enabled": False,
        }
        with open(os.path.join(self.profile, "user.js"), "w") as file:
            for name, value in preferences.items():
                file.write(f"user_pref({json.dumps(name)}, {json.dumps(value)});\n")
        display, writer = os.pipe()
        self.screen = subprocess.Popen(
            ["Xvfb", "-displayfd", str(writer), "-screen", "0", "1280x900x24", "-nolisten", "tcp"],
            pass_fds=[writer],
            stderr=subprocess.DEVNULL,
        )
        os.close(writer)
        self.display = ":" + os.read(display, 16).decode().strip()
        environment = {**os.environ, "DISPLAY": self.display, "HOME": self.profile, "MOZ_ENABLE_WAYLAND": "0"}
        environment.pop("DBUS_SESSION_BUS_ADDRESS", None)
        self.log = open(os.path.join(self.profile, "log"), "wb")
        arguments = ["thunderbird", "--marionette", "--remote-allow-system-access", "--no-remote", "--new-instance", "--profile", self.profile]
        self.program = subprocess.Popen(arguments, env=environment, stdout=self.log, stderr=self.log)
        self.marionette = Marionette(port)
        self.run = self.marionette.run

    def picture(self, path):
        subprocess.run(["import", "-display", self.display, "-window", "root", path], check=True)

    def close(self):
        for process in (self.program, self.screen):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.profile, ignore_errors=True)


HELPERS = """
  const {MailServices} = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
  const {MailUtils} = ChromeUtils.importESModule("resource:///modules/MailUtils.sys.mjs");
  const {setTimeout} = ChromeUtils.importESModule("resource://gre/modules/Timer.sys.mjs");
  const sleep = time => new Promise(resolve => setTimeout(resolve, time));
  const until = async (what, test) => {
    for (let left = 300; left > 0; left--) {
      const value = await test();
      if (value) return value;
      await sleep(200);
    }
    throw new Error("never: " + what);
  };
"""

# An account with the given server, as the wizard would make it.
ACCOUNT = """
  const [host, port, user, password] = args;
  const server = MailServices.accounts.createIncomingServer(user, host, "imap");
  server.port = port;
  server.socketType = Ci.nsMsgSocketType.plain;
  server.authMethod = Ci.nsMsgAuthMethod.passwordCleartext;
  server.password = password;
  const identity = MailServices.accounts.createIdentity();
  identity.email = user + "@example.org";
  const account = MailServices.accounts.createAccount();
  account.incomingServer = server;
  account.addIdentity(identity);
  MailServices.accounts.defaultAccount = account;
"""

# The user's own secret key, without asking.
IMPORT = """
  const {RNP} = ChromeUtils.importESModule("chrome://openpgp/content/modules/RNP.sys.mjs");
  const {EnigmailCore} = ChromeUtils.importESModule("chrome://openpgp/content/modules/core.sys.mjs");
  await EnigmailCore.init?.();
  await until("OpenPGP is ready", () => { try { return EnigmailCore.getService?.() ?? true; } catch { return false; } });
  const imported = await RNP.importSecKeyBlockImpl(null, null, false, args[0], false);
  if (imported.exitCode !== 0) throw new Error("the key is not imported: " + JSON.stringify(imported));
  return imported.importedKeys ?? [];
"""

# The first message of the account's INBOX, in a window of its own, and what that shows.
READ = """
  const account = MailServices.accounts.defaultAccount;
  const root = account.incomingServer.rootFolder;
  account.incomingServer.performExpand(null);
  const inbox = await until("there is an INBOX", () => root.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox));
  const message = await until("there is a message", async () => {
    inbox.updateFolder(null);
    await sleep(500);
    const all = [...inbox.messages];
    return all[0];
  });
  const listed = message.mime2DecodedSubject;
  MailUtils.openMessageInNewWindow(message);
  const window = await until("a window with the message", () => Services.wm.getMostRecentWindow("mail:messageWindow"));
  const inner = await until("the message's pane", () => window.messageBrowser?.contentWindow);
  const pane = await until("the message's text", () => {
    const browser = inner.getMessagePaneBrowser?.();
    return browser?.contentDocument?.body?.innerText?.trim() && browser;
  });
  window.resizeTo(1240, 860);
  window.moveTo(10, 10);
  // Opening takes a moment, and shows what is outside until then.
  await sleep(4000);
  const text = id => inner.document.getElementById(id);
  return {
    listed,
    subject: text("expandedsubjectBox")?.textContent?.trim(),
    from: text("expandedfromBox")?.textContent?.replace(/\\s+/g, " ").trim(),
    encrypted: inner.document.getElementById("encryptedHdrIcon") && !inner.document.getElementById("encryptedHdrIcon").hidden,
    text: pane.contentDocument.body.innerText.trim().slice(0, 2000),
    attachments: [...inner.document.querySelectorAll("#attachmentList .attachmentcell-name")].map(cell => cell.textContent),
  };
"""

# An authority to be trusted for certificates of servers.
TRUST = """
  const database = Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB);
  database.addCertFromBase64(args[0].replace(/-----[^-]*-----/g, "").replace(/\\s/g, ""), "CT,,");
"""

# What the wizard does with an address: looks for a configuration, and makes the account of it.
AUTOCONFIG = """
  const [address, password] = args;
  const {FindConfig} = ChromeUtils.importESModule("resource:///modules/accountcreation/FindConfig.sys.mjs");
  const {AccountConfig} = ChromeUtils.importESModule("resource:///modules/accountcreation/AccountConfig.sys.mjs");
  const {CreateInBackend} = ChromeUtils.importESModule("resource:///modules/accountcreation/CreateInBackend.sys.mjs");
  const domain = address.split("@")[1];
  const abort = new (Services.wm.getMostRecentWindow("mail:3pane").AbortController)();
  const { value: config } = await FindConfig.parallelAutoDiscovery(domain, address, abort.signal, password).next();
  if (!config?.incoming) throw new Error("no configuration is found");
  AccountConfig.replaceVariables(config, "Somebody", address, password);
  config.rememberPassword = true;
  const show = server => ({ host: server.hostname, port: server.port, socket: server.socketType, auth: server.auth, user: server.username });
  const found = { source: config.source, incoming: show(config.incoming), outgoing: show(config.outgoing) };
  const account = await CreateInBackend.createAccountInBackend(config);
  MailServices.accounts.defaultAccount = account;
  return found;
"""

# The dialog in which a user adds an account: opened, and its first page filled in.
WIZARD_ADDRESS = """
  const window = Services.wm.getMostRecentWindow("mail:3pane");
  window.resizeTo(1240, 860);
  window.moveTo(10, 10);
  await window.openAccountHub("MAIL");
  const hub = await until("the dialog", () => window.document.querySelector("account-hub-container")?.shadowRoot.querySelector("account-hub-email"));
  const page = await until("its first page", () => hub.querySelector("#emailAutoConfigSubview #email") && hub);
  for (const [id, value] of [["realName", "Somebody"], ["email", args[0]]]) {
    const input = page.querySelector("#emailAutoConfigSubview #" + id);
    input.focus();
    input.value = value;
    input.dispatchEvent(new window.Event("input", { bubbles: true }));
  }
"""

# The button that leads on, once it may be pressed; the page that comes then, with what is to be read on it.
WIZARD_ON = """
  const [next, password] = args;
  const window = Services.wm.getMostRecentWindow("mail:3pane");
  const hub = window.document.querySelector("account-hub-container").shadowRoot.querySelector("account-hub-email");
  const visible = id => { const page = hub.querySelector("#" + id); return page && !page.hidden && page.checkVisibility() && page; };
  if (password) {
    const input = hub.querySelector("#emailPasswordSubview #password");
    input.focus();
    input.value = password;
    input.dispatchEvent(new window.Event("input", { bubbles: true }));
  }
  const button = await until("a button that leads on", () => {
    const found = hub.querySelector("account-hub-footer #forward");
    return found && !found.disabled && !found.hidden && found;
  });
  button.click();
  const wanted = next.split(" ");
  const id = await until("the page " + next, () => wanted.find(visible));
  await sleep(1500);
  return { page: id, text: visible(id).innerText.replace(/\\s+/g, " ").trim().slice(0, 600) };
"""

# Leaves the dialog; the account that it made.
WIZARD_END = """
  const window = Services.wm.getMostRecentWindow("mail:3pane");
  const account = await until("an account", () => MailServices.accounts.accounts.find(one => one.incomingServer.type == "imap"));
  MailServices.accounts.defaultAccount = account;
  const server = account.incomingServer;
  const outgoing = MailServices.outgoingServer.defaultServer;
  return {
    incoming: { host: server.hostName || server.realHostName, port: server.port, socket: server.socketType, user: server.username },
    outgoing: outgoing.serverURI.spec,
  };
"""


def wizard(thunderbird, address, password, picture):
    """Goes through the dialog page by page, as a user who knows no more than address and password."""
    name, kind = os.path.splitext(picture)
    thunderbird.run(HELPERS + WIZARD_ADDRESS, address)
    thunderbird.picture(f"{name}-address{kind}")
    pages = []
    try:
        pages.append(thunderbird.run(HELPERS + WIZARD_ON, "emailConfigFoundSubview"))
        thunderbird.picture(f"{name}-found{kind}")
        pages.append(thunderbird.run(HELPERS + WIZARD_ON, "emailPasswordSubview"))
        pages.append(thunderbird.run(HELPERS + WIZARD_ON, "emailAddedSuccessSubview emailSyncAccountsSubview", password))
    finally:
        thunderbird.picture(f"{name}-done{kind}")
    return {"pages": pages, **thunderbird.run(HELPERS + WIZARD_END)}


def main():
    what = sys.argv[1]
    thunderbird = Thunderbird()
    try:
        thunderbird.run(HELPERS + 'await until("a window", () => Services.wm.getMostRecentWindow("mail:3pane"));')
        shown = {"version": thunderbird.run("return Services.appinfo.version;")}
        if what == "offline":
            host, user, password, key, picture = sys.argv[2:]
            host, port = host.rsplit(":", 1)
            with open(key, "rb") as file:
                key = file.read()
            if not key.startswith(b"-----"):
                lines = base64.encodebytes(key).decode()
                key = f"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{lines}-----END PGP PRIVATE KEY BLOCK-----\n".encode()
            shown["imported"] = thunderbird.run(HELPERS + IMPORT, key.decode())
            thunderbird.run(HELPERS + ACCOUNT, host, int(port), user, password)
        elif what in ("autoconfig", "wizard"):
            address, password, picture = sys.argv[2:5]
            for authority in sys.argv[5:]:
                with open(authority) as file:
                    thunderbird.run(TRUST, file.read())
            if what == "wizard":
                shown["found"] = wizard(thunderbird, address, password, picture)
            else:
                shown["found"] = thunderbird.run(HELPERS + AUTOCONFIG, address, password)
        else:
            sys.exit(__doc__)
        try:
            shown.update(thunderbird.run(HELPERS + READ))
        finally:
            thunderbird.picture(picture)
        print(json.dumps(shown))
    finally:
        thunderbird.close()


if __name__ == "__main__":
    main()
