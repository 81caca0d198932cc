// Checks that a fresh build gives the creation bytecode whose hashes are committed in artifacts.sha256.
//
//     node tools/artifacts.mjs            check
//     node tools/artifacts.mjs --update   take over what was built
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const CONTRACTS = ["Authority", "Registrar", "Checkpoints", "Vault", "TaskResults", "Slasher"];

const hashes = CONTRACTS.map((name) => {
  const { bytecode } = JSON.parse(readFileSync(join(root, `out/${name}.sol/${name}.json`), "utf8"));
  const hash = createHash("sha256").update(Buffer.from(bytecode.object.slice(2), "hex")).digest("hex");
  return `${hash}  ${name}\n`;
});

const committed = join(root, "artifacts.sha256");
if (process.argv.includes("--update")) writeFileSync(committed, hashes.join(""));
const expected = readFileSync(committed, "utf8");
const wrong = hashes.filter((line) => !expected.includes(line));
for (const line of wrong) console.error(`the build isn't what artifacts.sha256 has: ${line.trim()}`);
if (hashes.join("") !== expected) process.exit(1);
console.log(`${hashes.length} contracts are built as committed`);
