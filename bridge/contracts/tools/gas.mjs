// Compares the gas figures of the last test run with gas.json, prints them side by side, and fails if a target is missed.
//
//     node tools/gas.mjs            compare
//     node tools/gas.mjs --update   compare, and make the new figures the ones to compare with
import { readdirSync, readFileSync, writeFileSync, existsSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const committed = join(root, "gas.json");

/** Most that a figure may be. */
const TARGETS = {
  "anchor: 100 operators, 0 absent": 220_000,
  "anchor: 100 operators, 0 absent, refunded": 220_000,
  "anchor: 100 operators, 10 absent": 235_000,
  "anchor: 1000 operators, 100 absent": 350_000,
};

const folder = join(root, "gas-snapshots");
const figures = Object.fromEntries(
  readdirSync(folder)
    .filter((name) => name.endsWith(".json"))
    .flatMap((name) =>
      Object.entries(JSON.parse(readFileSync(join(folder, name), "utf8"))).map(([what, gas]) => [
        `${name.replace(".json", "")}: ${what}`,
        Number(gas),
      ]),
    )
    .sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true })),
);
const before = existsSync(committed) ? JSON.parse(readFileSync(committed, "utf8")) : {};

let missed = 0;
const width = Math.max(...Object.keys(figures).map((what) => what.length));
console.log(`${"gas of a whole transaction".padEnd(width)}      now     last   change   target`);
for (const [what, gas] of Object.entries(figures)) {
  const [last, target] = [before[what], TARGETS[what]];
  const change = last === undefined ? "new" : gas === last ? "" : `${gas > last ? "+" : ""}${gas - last}`;
  const over = target !== undefined && gas > target;
  missed += over ? 1 : 0;
  const columns = [gas, last ?? "", change, target ?? ""].map((value) => String(value).padStart(8)).join(" ");
  console.log(`${what.padEnd(width)} ${columns}${over ? "  MISSED" : ""}`);
}
for (const what of Object.keys(TARGETS).filter((name) => !(name in figures))) {
  console.log(`${what}: not measured`);
  missed += 1;
}
if (process.argv.includes("--update")) writeFileSync(committed, JSON.stringify(figures, null, 2) + "\n");
process.exit(missed === 0 ? 0 : 1);
