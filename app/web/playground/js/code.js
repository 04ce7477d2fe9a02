/** The code for what the reader just did, in three languages. The token is left out: it is `TOKEN`. */

import { byId, confirmOn } from "./elements.js";

const REST = `${location.origin}/api/v1/generations`;
export const SOCKET = `${location.origin.replace(/^http/, "ws")}/api/v1/ws`;

export class Code {
  #act = { type: "sign-in" };
  #language = "javascript";

  constructor() {
    for (const button of byId("code-language").children) {
      button.addEventListener("click", () => {
        this.#language = button.dataset.language;
        for (const other of byId("code-language").children) other.setAttribute("aria-pressed", other === button);
        this.#draw();
      });
    }
    const copy = byId("code-copy");
    copy.addEventListener("click", () => confirmOn(copy, () => navigator.clipboard.writeText(byId("code-text").textContent)));
    this.#draw();
  }

  show(act) {
    this.#act = act;
    this.#draw();
  }

  #draw() {
    const { title, ...texts } = SNIPPETS[this.#act.type](this.#act);
    byId("code-title").textContent = title;
    byId("code-text").textContent = texts[this.#language];
  }
}

const SNIPPETS = {
  "sign-in": () => ({
    title: "Connect",
    javascript: javascript(`client.addEventListener("state", () => console.log(client.state));`),
    python: python([], `            if message["type"] == "connected":
                print("connected as", message["user_id"], "for", message["expires_in"], "seconds")
                break`),
    curl: shell(`curl -X POST ${location.origin}/api/v1/ws/tickets \\
  -H "Authorization: Bearer $TOKEN"

# The ticket in the answer opens one socket: ${SOCKET}?ticket=…`),
  }),
  generate: ({ request }) => ({
    title: "Ask, and get the answer as it comes",
    javascript: javascript(`
const stream = await client.generate(${indented(request, 2)});
let shown = 0;
stream.addEventListener("event", () => {
  process(stream.text.slice(shown));
  shown = stream.text.length;
});
stream.addEventListener("end", () => console.log(stream.status, stream.terminal.receipt));`),
    python: python([{ type: "generate", id: 1, ...request }], PRINT_ANSWER),
    curl: shell(`curl -N ${REST} \\
  -H "Authorization: Bearer $TOKEN" \\
  -H "Content-Type: application/json" \\
  -H "Accept: text/event-stream" \\
  -d ${quoted(JSON.stringify(request))}`),
  }),
  resume: ({ latest }) => ({
    title: "Come back after a lost connection",
    javascript: javascript(`
// Nothing to do: the client comes back by itself and resumes all its streams in one round trip.
client.addEventListener("state", () => console.log(client.state, client.retryAt));`),
    python: python([{ type: "resume", id: 1, streams: { [latest?.id ?? "gen_…"]: position(latest) } }], PRINT_ANSWER),
    curl: shell(`curl -N ${REST}/${latest?.id ?? "gen_…"}/events \\
  -H "Authorization: Bearer $TOKEN" \\
  -H "Last-Event-ID: ${latest?.epoch ?? "epoch"}:${latest?.offset ?? 0}"`),
  }),
  watch: ({ id }) => ({
    title: "Watch the same answer on another device",
    javascript: javascript(`
const stream = await client.watch("${id ?? "gen_…"}");
stream.addEventListener("event", () => console.log(stream.offset, stream.text.length));
stream.addEventListener("end", () => console.log(stream.text));`),
    python: python([{ type: "subscribe_generation", id: 1, generation_id: id ?? "gen_…" }], PRINT_ANSWER),
    curl: shell(`curl -N ${REST}/${id ?? "gen_…"}/events \\
  -H "Authorization: Bearer $TOKEN"`),
  }),
  cancel: ({ id }) => ({
    title: "Cancel",
    javascript: javascript(`
await client.cancel("${id}"); // Its stream ends with "cancelled" on every device.`),
    python: python([{ type: "cancel", id: 1, generation_id: id }], `            if message["type"] in ("reply", "error"):
                print(message)
                break`),
    curl: shell(`curl -X DELETE ${REST}/${id} \\
  -H "Authorization: Bearer $TOKEN"`),
  }),
};

const PRINT_ANSWER = `            if message["type"] == "error":
                raise SystemExit(message["message"])
            if message["type"] == "event":
                event = message["event"]
                if event["type"] == "delta":
                    print(event["text"], end="", flush=True)
                elif "receipt" in event:
                    print("\\n", event["type"], event["receipt"])
                    break`;

function position(latest) {
  return { epoch: latest?.epoch ?? "", offset: latest?.offset ?? 0 };
}

function javascript(rest) {
  return `import { TidegateClient } from "${new URL("client.js", import.meta.url).href}";

const client = new TidegateClient({
  url: "${SOCKET}",
  token: TOKEN,
  refreshToken: async () => null, // Return a fresh one, and it is renewed on the live socket.
});
client.connect();
${rest.trimStart()}
`.replace("process(", "console.log(");
}

function python(commands, body) {
  const sends = commands.map((command) => `        await socket.send(json.dumps(${indented(command, 8)}))\n`).join("");
  return `# pip install websockets
import asyncio, json, os

from websockets.asyncio.client import connect


async def main():
    headers = {"Authorization": f"Bearer {os.environ['TOKEN']}"}
    async with connect("${SOCKET}", additional_headers=headers) as socket:
${sends}        async for frame in socket:
            message = json.loads(frame)
${body}


asyncio.run(main())
`;
}

function shell(command) {
  return `export TOKEN="$(tidegate token --sub 42 --company acme)"   # or your own

${command}
`;
}

/** JSON over lines, the later ones moved to the right. */
function indented(value, spaces) {
  const text = JSON.stringify(value, null, spaces === 2 ? 2 : 4);
  return spaces === 2 ? text : text.replaceAll("\n", `\n${" ".repeat(spaces)}`);
}

function quoted(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
