// Checks that a fresh build gives the creation bytecode and the ABIs that are committed in artifacts/, and the hashes in
// artifacts.sha256.
//
//     node tools/artifacts.mjs            check
//     node tools/artifacts.mjs --update   take over what was built
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const CONTRACTS = ["Authority", "Registrar", "Checkpoints", "Vault", "TaskResults", "Slasher"];

const built = CONTRACTS.map((name) => {
  const { abi, bytecode } = JSON.parse(readFileSync(join(root, `out/${name}.sol/${name}.json`), "utf8"));
  const hash = createHash("sha256").update(Buffer.from(bytecode.object.slice(2), "hex")).digest("hex");
  return { name, hash, text: JSON.stringify({ abi, bytecode: bytecode.object }, null, 1) + "\n" };
});
const hashes = built.map(({ name, hash }) => `${hash}  ${name}\n`).join("");

if (process.argv.includes("--update")) {
  mkdirSync(join(root, "artifacts"), { recursive: true });
  for (const { name, text } of built) writeFileSync(join(root, `artifacts/${name}.json`), text);
  writeFileSync(join(root, "artifacts.sha256"), hashes);
}
const wrong = built.filter(({ name, text }) => readFileSync(join(root, `artifacts/${name}.json`), "utf8") !== text);
for (const { name } of wrong) console.error(`${name}: the build isn't what artifacts/${name}.json has`);
if (readFileSync(join(root, "artifacts.sha256"), "utf8") !== hashes) {
  console.error("the build's hashes aren't those of artifacts.sha256");
  process.exit(1);
}
if (wrong.length !== 0) process.exit(1);
console.log(`${built.length} contracts are built as committed`);
