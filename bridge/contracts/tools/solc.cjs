// What forge asks of a compiler: `--version`, and `--standard-json` from stdin to stdout.
const wanted = process.argv.slice(2);
if (wanted.includes("--version")) {
  // Not asked of the compiler itself: loading it takes a second, and forge asks often.
  console.log("solc, the solidity compiler commandline interface");
  console.log("Version: 0.8.37+commit.f401782d.Linux.g++");
} else if (wanted.includes("--standard-json")) {
  const input = require("node:fs").readFileSync(0, "utf8");
  const solc = require("solc");
  if (!solc.version().startsWith("0.8.37+commit.f401782d")) throw new Error(`solc is ${solc.version()}`);
  process.stdout.write(solc.compile(input));
} else {
  console.error(`unsupported arguments: ${wanted.join(" ")}`);
  process.exit(1);
}
