// One chat of Vercel's AI SDK, unmodified, driven by lines of JSON on standard input; its states go to standard output.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.env.SDK_PACKAGES}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)));
const { DefaultChatTransport } = await load("ai");
const { Chat } = await load("@ai-sdk/react");

const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
let chat;

const state = () => ({
  status: chat.status,
  error: chat.error?.message ?? null,
  messages: chat.messages,
});
const tell = () => say({ event: "state", ...state() });

const ops = {
  open({ api, token, name, messages }) {
    const transport = new DefaultChatTransport({ api, headers: { authorization: `Bearer ${token}` } });
    chat = new Chat({ id: name, messages: messages ?? [], transport });
    chat["~registerMessagesCallback"](tell);
    chat["~registerStatusCallback"](tell);
  },
  send: ({ text, body }) => void chat.sendMessage({ text }, { body }).catch(() => {}),
  answer: ({ tool, call, output }) => chat.addToolResult({ tool, toolCallId: call, output }),
  resume: () => chat.resumeStream(),
  regenerate: () => void chat.regenerate().catch(() => {}),
  stop: () => chat.stop(),
  state,
};

for await (const line of createInterface({ input: process.stdin })) {
  const { id, op, ...fields } = JSON.parse(line);
  try {
    say({ id, result: (await ops[op](fields)) ?? null });
  } catch (error) {
    say({ id, error: { code: 0, message: String(error) } });
  }
}
process.exit(0);
