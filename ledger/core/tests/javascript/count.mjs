// Prints how many operations an exported volume holds, and which volume it says to be.
import { readFileSync } from "node:fs";
import { load } from "@automerge/automerge";

const document = load(new Uint8Array(readFileSync(process.argv[2])));
const operations = Object.values(document.operations);
if (!operations.every((value) => value instanceof Uint8Array)) throw new Error("not bytes");
console.log(`${operations.length} ${document.book} ${document.volume}`);
