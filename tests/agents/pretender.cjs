// A program that is not quite `opencode serve`. Its first argument says how:
// `old` has another version, `silent` never says that it is ready, `taken` finds its
// port taken, and `late` finds it taken twice before it is the real one
// (PRETENDER_PROGRAM).
const { spawn } = require("node:child_process");
const { appendFileSync, readFileSync } = require("node:fs");
const http = require("node:http");
const path = require("node:path");

const [mode, ...args] = process.argv.slice(2);
const port = Number(args[args.indexOf("--port") + 1]);

function taken() {
  console.error("Error: Unexpected error\nServeError");
  process.exit(1);
}

if (mode === "old") {
  http
    .createServer((_, answer) =>
      answer.end(JSON.stringify({ healthy: true, version: "0.9.0" })),
    )
    .listen(port, "127.0.0.1", () =>
      console.log(`opencode server listening on http://127.0.0.1:${port}`),
    );
} else if (mode === "silent") {
  console.log("Warming up.");
  setInterval(() => {}, 1000);
} else if (mode === "taken") {
  taken();
} else if (mode === "late") {
  const tries = path.join(process.env.TMPDIR, "tries");
  appendFileSync(tries, "x");
  if (readFileSync(tries).length < 3) taken();
  const child = spawn(process.env.PRETENDER_PROGRAM, args, { stdio: "inherit" });
  child.on("exit", (code) => process.exit(code ?? 1));
}
