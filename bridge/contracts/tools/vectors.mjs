// Vectors for the tests, by code that shares nothing with the contracts: @noble/curves and node's hashes.
//
//     node tools/vectors.mjs lamina                 writes test/vectors/lamina.json
//     node tools/vectors.mjs <set> <folder> <file>  prints published vectors as ABI-encoded `bytes[]` for forge
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bls12_381 as bls } from "@noble/curves/bls12-381.js";
import { bn254 } from "@noble/curves/bn254.js";

const hex = (bytes) => Buffer.from(bytes).toString("hex");
const raw = (text) => Buffer.from(text.replace(/^0x/, ""), "hex");
const sha256 = (...parts) => createHash("sha256").update(Buffer.concat(parts.map((p) => Buffer.from(p)))).digest();
const coordinate = (value) => raw(value.toString(16).padStart(128, "0"));
const g1 = (point) => ((p) => Buffer.concat([p.x, p.y].map(coordinate)))(point.toAffine());
const g2 = (point) => ((p) => Buffer.concat([p.x.c0, p.x.c1, p.y.c0, p.y.c1].map(coordinate)))(point.toAffine());
const text32 = (text) => Buffer.concat([Buffer.from(text), Buffer.alloc(32)]).subarray(0, 32);
const number = (value, bytes = 8) => raw(BigInt(value).toString(16).padStart(2 * bytes, "0"));
const word = (value) => number(value, 32);

/** ABI encoding of `bytes[]`. */
function encode(list) {
  const padded = list.map((b) => Buffer.concat([word(b.length), b, Buffer.alloc((32 - (b.length % 32)) % 32)]));
  let offset = 32 * list.length;
  const offsets = padded.map((b) => ((offset += b.length), word(offset - b.length)));
  return "0x" + hex(Buffer.concat([word(32), word(list.length), ...offsets, ...padded]));
}

const PUBLISHED = {
  /** Input, expected output (empty where the precompile must refuse). */
  eip2537: (folder, file) =>
    JSON.parse(readFileSync(join(folder, file), "utf8")).flatMap((c) => [raw(c.Input), raw(c.Expected ?? "")]),
  /** Message, the tag, x and y of the point: hash_to_curve. */
  rfc9380: (folder, file) => {
    const set = JSON.parse(readFileSync(join(folder, file), "utf8"));
    const point = (p) => [p.x, p.y].flatMap((c) => c.split(",")).map((c) => coordinate(BigInt(c)));
    return set.vectors.flatMap((v) => [Buffer.from(v.msg), Buffer.from(set.dst), Buffer.concat(point(v.P))]);
  },
  /** Message, the tag, the uniform bytes: expand_message_xmd. */
  expand: (folder, file) => {
    const set = JSON.parse(readFileSync(join(folder, file), "utf8"));
    return set.tests.flatMap((t) => [Buffer.from(t.msg), Buffer.from(set.DST), raw(t.uniform_bytes)]);
  },
  /** Keys, signature, message, whether it must hold. Points that don't decompress are left out: contracts see none. */
  bls: (folder) => {
    const cases = ["verify", "fast_aggregate_verify"].flatMap((kind) =>
      readdirSync(join(folder, kind)).map((name) => JSON.parse(readFileSync(join(folder, kind, name), "utf8"))),
    );
    return cases.flatMap(({ input, output }) => {
      try {
        const keys = (input.pubkeys ?? [input.pubkey]).map((k) => point(bls.G1, k, 128));
        const signature = point(bls.G2, input.signature, 256);
        return [Buffer.concat(keys), signature, raw(input.message), Buffer.from([output ? 1 : 0])];
      } catch {
        return [];
      }
    });
  },
};

/** A compressed point uncompressed; zeros for infinity. */
function point(group, text, length) {
  const decoded = group.Point.fromBytes(raw(text));
  if (decoded.is0()) return Buffer.alloc(length);
  return length === 128 ? g1(decoded) : g2(decoded);
}

/** What the contracts hash and verify, with fixed inputs. */
function lamina() {
  const chain = text32("lamina-test-1");
  const tag = (name) => text32(`lamina/${name}/v1`);
  const secret = 0x1234567890abcdefn;
  const key = bls.G1.Point.BASE.multiply(secret);
  const compressed = Buffer.from(key.toBytes(true));
  const operator = raw("11".repeat(20));
  const registrar = raw("22".repeat(20));
  const header = raw("33".repeat(32));
  const task = raw("44".repeat(32));
  const outcome = raw("55".repeat(32));
  const precommit = sha256(tag("precommit"), chain, number(3), number(7), number(2), [1], header);
  const fields = [number(3), number(7), ...[1, 2, 3, 4, 5, 6].map((i) => Buffer.alloc(32, i)), number(8), Buffer.alloc(32, 9)];
  const fill = [number(10), Buffer.alloc(32, 11), Buffer.alloc(32, 12)];
  const signature = bls.G2.hashToCurve(precommit, { DST: "BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_" });
  const other = bls.G1.Point.BASE.multiply(bls.fields.Fr.ORDER - secret);

  // RFC 6962, §2.1, over 11 leaves.
  const leaf = (b) => sha256([0], b);
  const node = (l, r) => sha256([1], l, r);
  const leaves = Array.from({ length: 11 }, (_, i) => sha256(number(i)));
  const tree = (list) => {
    if (list.length === 1) return leaf(list[0]);
    const split = 2 ** Math.ceil(Math.log2(list.length) - 1);
    return node(tree(list.slice(0, split)), tree(list.slice(split)));
  };
  const path = (list, index) => {
    if (list.length === 1) return [];
    const split = 2 ** Math.ceil(Math.log2(list.length) - 1);
    const [left, right] = [list.slice(0, split), list.slice(split)];
    return index < split ? [...path(left, index), tree(right)] : [...path(right, index - split), tree(left)];
  };

  // A Jellyfish Merkle tree of a few balances, as a binary tree by the bits of the keys' hashes.
  const entries = Array.from({ length: 40 }, (_, i) => {
    const asset = i % 2 ? word((1n << 160n) | BigInt(i)) : word(0);
    const stateKey = Buffer.concat([Buffer.from("bank/balances/"), Buffer.from([0]), Buffer.alloc(20, i), asset]);
    const amount = number(1000n + BigInt(i), 16).reverse();
    return { path: sha256(stateKey), value: sha256(amount), account: Buffer.alloc(20, i), asset };
  });
  const bit = (b, depth) => (b[depth >> 3] >> (7 - (depth & 7))) & 1;
  const state = (list, depth, wanted, siblings) => {
    if (list.length === 0) return Buffer.from("SPARSE_MERKLE_PLACEHOLDER_HASH__");
    if (list.length === 1) return sha256("JMT::LeafNode", list[0].path, list[0].value);
    const sides = [0, 1].map((side) => list.filter((e) => bit(e.path, depth) === side));
    const mine = wanted && bit(wanted.path, depth);
    const hashes = sides.map((side, i) => state(side, depth + 1, mine === i ? wanted : undefined, siblings));
    if (wanted) siblings.push(hashes[1 - mine]);
    return sha256("JMT::IntrnalNode", ...hashes);
  };
  const stateSiblings = [];
  const stateRoot = state(entries, 0, entries[5], stateSiblings);

  const x = (b) => "0x" + hex(b);
  const bnKey = (sum) => {
    const p = bn254.G2.Point.BASE.multiply(BigInt(sum)).toAffine();
    return Buffer.concat([p.x.c1, p.x.c0, p.y.c1, p.y.c0].map(word));
  };
  const bnSums = Object.fromEntries(
    [4, 100, 1000].flatMap((count) =>
      [0, Math.floor(count / 10), Math.floor((count * 33) / 100)].map((absentCount) => {
        let sum = 0;
        for (let i = 0; i < count; i++) {
          const absent = Math.floor(((i + 1) * absentCount) / count) !== Math.floor((i * absentCount) / count);
          if (!absent) sum += i + 1;
        }
        return [`s${sum}`, x(bnKey(sum))];
      }),
    ),
  );
  return {
    key: x(g1(key)),
    negatedKey: x(g1(other)),
    compressed: x(compressed),
    proofOfPossession: x(sha256(tag("proof-of-possession"), chain, operator, registrar, compressed)),
    precommit: x(precommit),
    precommitNil: x(sha256(tag("precommit"), chain, number(3), number(7), number(2), [0], Buffer.alloc(32))),
    attestation: x(sha256(tag("attestation"), chain, number(3), task, outcome)),
    headerId: x(sha256(tag("checkpoint"), chain, ...fields, ...fill)),
    precommitOffence: x(sha256(tag("offence"), chain, operator, [0], number(3), number(7), number(2))),
    attestationOffence: x(sha256(tag("offence"), chain, operator, [4], number(3), task)),
    setRoot: x(
      sha256(tag("operator-set"), chain, number(3), number(1), operator, Buffer.alloc(32, 6), compressed, number(77)),
    ),
    signature: x(g2(signature.multiply(secret))),
    historyRoot: x(tree(leaves)),
    historyLeaves: leaves.map(x),
    historyPaths: leaves.map((_, i) => path(leaves, i).map(x)),
    stateRoot: x(stateRoot),
    stateAccount: x(entries[5].account),
    stateAsset: x(entries[5].asset),
    stateSiblings: stateSiblings.map(x),
    bn254: bnSums,
  };
}

const [set, folder, file] = process.argv.slice(2);
if (set === "lamina") {
  const target = join(import.meta.dirname, "../test/vectors");
  mkdirSync(target, { recursive: true });
  writeFileSync(join(target, "lamina.json"), JSON.stringify(lamina(), null, 1) + "\n");
} else {
  process.stdout.write(encode(PUBLISHED[set](folder, file)));
}
