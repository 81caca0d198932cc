#!/bin/sh
# Builds the contracts, checks that their bytecode is the committed one, runs all tests, and compares gas with gas.json.
#
#     ./test.sh            check
#     ./test.sh --update   take over bytecode and gas figures
#
# Needs node and npm. Published vectors are read from $LAMINA_VECTORS, or from ../../../shared/vectors; without them their
# tests are skipped.
set -eu
cd "$(dirname "$0")"

update=""
if [ "${1:-}" = "--update" ]; then update="--update"; fi

# npm writes this file when it is done.
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
    npm ci --ignore-scripts --no-audit --no-fund --silent
fi
forge="node_modules/@foundry-rs/forge-linux-amd64/bin/forge"

# Without the tests first: what else is compiled along with a contract may change names inside it.
rm -rf out cache gas-snapshots
"$forge" build --offline --skip test
node tools/artifacts.mjs $update
"$forge" test --offline --summary
node tools/gas.mjs $update
