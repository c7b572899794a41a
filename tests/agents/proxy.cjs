// Stands between Hearth and a real `opencode serve`: cuts each event stream a little
// while after it began, and leaves all else alone. Told by its environment:
// PROXY_PROGRAM is opencode, PROXY_LOG a file that gets a line for each stream that is
// opened, cut or closed by its reader, PROXY_AFTER_MS how long a stream lives.
const { spawn } = require("node:child_process");
const { appendFileSync } = require("node:fs");
const net = require("node:net");

const host = "127.0.0.1";
const args = process.argv.slice(2);
const at = args.indexOf("--port") + 1;
const outside = Number(args[at]);

const free = net.createServer().listen(0, host, () => {
  const { port } = free.address();
  free.close(() => start(port));
});

function start(inside) {
  args[at] = String(inside);
  const stdio = ["ignore", "pipe", "inherit"];
  const child = spawn(process.env.PROXY_PROGRAM, args, { stdio });
  child.on("exit", (code) => process.exit(code ?? 1));
  let said = "";
  const wait = (data) => {
    said += data;
    if (!said.includes("opencode server listening on")) return;
    child.stdout.off("data", wait).resume();
    net
      .createServer((client) => join(client, inside))
      .listen(outside, host, () =>
        console.log(`opencode server listening on http://${host}:${outside}`),
      );
  };
  child.stdout.on("data", wait);
}

function join(client, inside) {
  const server = net.connect(inside, host);
  const cut = () => {
    client.destroy();
    server.destroy();
  };
  client.on("error", cut).on("close", cut);
  server.on("error", cut).on("close", cut);
  server.pipe(client);
  client.once("data", (head) => {
    server.write(head);
    client.pipe(server);
    if (!head.toString().startsWith("GET /event")) return;
    const log = (word) => appendFileSync(process.env.PROXY_LOG, `${word}\n`);
    log("opened");
    const timer = setTimeout(() => {
      log("cut");
      client.off("close", closed);
      cut();
    }, Number(process.env.PROXY_AFTER_MS));
    const closed = () => {
      clearTimeout(timer);
      log("closed");
    };
    client.once("close", closed);
  });
}
