// A real MCP client, driven by lines: reads `{"op": "list"}` or `{"op": "call",
// "name", "arguments", "progress"}` from standard input, one a line, and prints
// what came, one line each. Ends with its input.
//
//   node client.mjs INSTALLATION http URL TOKEN
//   node client.mjs INSTALLATION stdio PROGRAM HOME

import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [installation, way, where, what] = process.argv.slice(2);
const sdk = (path) =>
  import(pathToFileURL(`${installation}/node_modules/@modelcontextprotocol/sdk/dist/esm/client/${path}.js`));
const { Client } = await sdk("index");
const transport = await {
  http: async () => {
    const { StreamableHTTPClientTransport } = await sdk("streamableHttp");
    const headers = { Authorization: `Bearer ${what}` };
    return new StreamableHTTPClientTransport(new URL(where), { requestInit: { headers } });
  },
  stdio: async () => {
    const { StdioClientTransport } = await sdk("stdio");
    const env = { PATH: process.env.PATH, HOME: process.env.HOME, HEARTH_HOME: what };
    return new StdioClientTransport({ command: where, args: ["mcp"], env, stderr: "inherit" });
  },
}[way]();

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const client = new Client({ name: "hearth-tests", version: "0.0.0" });
// What is no protocol on the server's standard output comes here.
client.onerror = (error) => say({ trouble: String(error) });
await client.connect(transport);
say({ server: client.getServerVersion(), instructions: client.getInstructions() });
for await (const line of createInterface({ input: process.stdin })) {
  const { op, name, arguments: args, progress } = JSON.parse(line);
  try {
    if (op === "list") say({ result: await client.listTools() });
    else {
      const options = progress ? { onprogress: (progress) => say({ progress }) } : {};
      say({ result: await client.callTool({ name, arguments: args }, undefined, options) });
    }
  } catch (error) {
    say({ error: { code: error.code, message: error.message } });
  }
}
await client.close();
