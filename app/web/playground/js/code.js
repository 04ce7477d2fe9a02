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
    const text = () => byId("code-text").textContent;
    copy.addEventListener("click", () => confirmOn(copy, () => navigator.clipboard.writeText(text())));
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
    python: python([], PRINT_CONNECTED),
    curl: shell(`curl -X POST ${location.origin}/api/v1/ws/tickets \\
  -H "Authorization: Bearer $TOKEN"

# The ticket in the answer opens one socket: ${SOCKET}?ticket=…`),
  }),
  generate: ({ request }) => ({
    title: "Ask, and get the answer as it comes",
    javascript: javascript(`
const stream = await client.generate(${indented(request, 2)});
stream.addEventListener("event", ({ detail }) => {
  console.log(detail.offset, detail.event);
});
stream.addEventListener("end", () => console.log(stream.text));`),
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
// Nothing to do: the client comes back by itself,
// and resumes all its streams in one round trip.
client.addEventListener("state", () => console.log(client.state));`),
    python: python([{ type: "resume", id: 1, streams: { [latest?.id ?? "gen_…"]: position(latest) } }], PRINT_ANSWER),
    curl: shell(`curl -N ${REST}/${latest?.id ?? "gen_…"}/events \\
  -H "Authorization: Bearer $TOKEN" \\
  -H "Last-Event-ID: ${latest?.epoch ?? "epoch"}:${latest?.offset ?? 0}"`),
  }),
  watch: ({ id }) => ({
    title: "Watch the same answer on another device",
    javascript: javascript(`
const stream = await client.watch("${id ?? "gen_…"}");
stream.addEventListener("event", () => console.log(stream.offset));
stream.addEventListener("end", () => console.log(stream.text));`),
    python: python([{ type: "subscribe_generation", id: 1, generation_id: id ?? "gen_…" }], PRINT_ANSWER),
    curl: shell(`curl -N ${REST}/${id ?? "gen_…"}/events \\
  -H "Authorization: Bearer $TOKEN"`),
  }),
  cancel: ({ id }) => ({
    title: "Cancel",
    javascript: javascript(`
// Its stream ends with "cancelled", on every device.
await client.cancel("${id}");`),
    python: python([{ type: "cancel", id: 1, generation_id: id }], PRINT_REPLY),
    curl: shell(`curl -X DELETE ${REST}/${id} \\
  -H "Authorization: Bearer $TOKEN"`),
  }),
};

const PRINT_CONNECTED = `            if message["type"] == "connected":
                print("connected as", message["user_id"])
                break`;

const PRINT_REPLY = `            if message["type"] in ("reply", "error"):
                print(message)
                break`;

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
  refreshToken: async () => null, // or a fresh one
});
client.connect();

${rest.trim()}
`;
}

function python(commands, body) {
  const sends = commands.map((command) => `        await socket.send(json.dumps(${indented(command, 8)}))\n`).join("");
  return `# pip install websockets
import asyncio, json, os

from websockets.asyncio.client import connect


async def main():
    url = "${SOCKET}"
    headers = {"Authorization": "Bearer " + os.environ["TOKEN"]}
    async with connect(url, additional_headers=headers) as socket:
${sends}        async for frame in socket:
            message = json.loads(frame)
${body}


asyncio.run(main())
`;
}

function shell(command) {
  return `# Or your own token:
export TOKEN="$(tidegate token --sub 42 --company acme)"

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
