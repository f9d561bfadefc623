// Opens what the core seals with OpenPGP.js, which nobody here wrote and which knows version 6 (RFC 9580):
//
//     npm install openpgp@6
//     MESYX_SAMPLES=DIR cargo test -p mesyx-core --test openpgp -- --ignored
//     node core/tests/openpgpjs.mjs DIR [v4 v6]
//
// No part of the tests that run by themselves, since Debian has no package of it.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const openpgp = createRequire(join(process.cwd(), "x"))("openpgp");
const [dir, ...kinds] = process.argv.slice(2);
const mail = readFileSync(join(dir, "mail"));
for (const kind of kinds.length ? kinds : ["v4", "v6"]) {
  const file = (name) => new Uint8Array(readFileSync(join(dir, `${kind}.${name}`)));
  const decryptionKeys = await openpgp.readPrivateKey({ binaryKey: file("key") });
  const message = await openpgp.readMessage({ binaryMessage: file("message") });
  const { data } = await openpgp.decrypt({ message, decryptionKeys, format: "binary" });
  if (!Buffer.from(data).includes(mail)) throw new Error(`${kind}: the exact bytes are not in it`);
  console.log(`${kind}: opened, key version ${decryptionKeys.keyPacket.version}`);
}
