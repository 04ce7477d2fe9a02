// Drives the npm package `centrifuge` as it is: one JSON command a line on stdin, one JSON result or event a line on stdout.
"use strict";
const { createRequire } = require("node:module");
const packages = createRequire(process.env.SDK_PACKAGES + "/");
const binary = process.env.SDK_FLAVOUR === "protobuf";
const { Centrifuge } = packages(binary ? "centrifuge/build/protobuf" : "centrifuge");
const websocket = packages("ws");
const { EventSource: eventsource } = packages("eventsource");

const tokens = [];
const waiting = [];
let client;
// Payloads are bytes in the protobuf flavour; here they are JSON's.
const payload = (data) => (binary ? new TextEncoder().encode(JSON.stringify(data)) : data);
const readable = (name, value) => (value instanceof Uint8Array ? JSON.parse(new TextDecoder().decode(value)) : value);
const say = (value) => process.stdout.write(JSON.stringify(value, readable) + "\n");
const askToken = (what) => (context) => {
  say({ event: what, channel: context && context.channel });
  return new Promise((resolve) => (tokens.length ? resolve(tokens.shift()) : waiting.push(resolve)));
};

function watch(emitter, source, names) {
  for (const name of names) emitter.on(name, (context) => say({ event: name, source, ...context }));
}

// The SDK does not export its function for deltas: its codec is asked as a subscription asks it.
function applied({ source, delta }) {
  const received = (text) => (binary ? new TextEncoder().encode(text) : text);
  const base = client._codec.applyDeltaIfNeeded({ data: received(source) }).newPrevValue;
  try {
    return client._codec.applyDeltaIfNeeded({ data: received(delta), delta: true }, base).newData;
  } catch (error) {
    return "refused: " + error.message;
  }
}

const subscriptionEvents = ["subscribing", "subscribed", "unsubscribed", "publication", "join", "leave", "error"];
const clientEvents = ["connecting", "connected", "disconnected", ...subscriptionEvents];

const operations = {
  open({ url, token, refreshes, options }) {
    const more = refreshes ? { getToken: askToken("getToken") } : {};
    const delays = { minReconnectDelay: 10, maxReconnectDelay: 50 };
    client = new Centrifuge(url, { websocket, eventsource, token, ...delays, ...more, ...options });
    watch(client, "", clientEvents);
  },
  connect: () => client.connect(),
  disconnect: () => client.disconnect(),
  token({ token }) {
    if (waiting.length) waiting.shift()(token);
    else tokens.push(token);
  },
  subscription({ channel, options, refreshes }) {
    const more = refreshes ? { getToken: askToken("getSubscriptionToken") } : {};
    const delays = { minResubscribeDelay: 10, maxResubscribeDelay: 50 };
    const subscription = client.newSubscription(channel, { ...delays, ...more, ...options });
    watch(subscription, channel, subscriptionEvents);
    subscription.subscribe();
  },
  subscribe: ({ channel }) => client.getSubscription(channel).subscribe(),
  unsubscribe: ({ channel }) => client.getSubscription(channel).unsubscribe(),
  publish: ({ channel, data }) => client.publish(channel, payload(data)),
  deltaStats: ({ channel }) => client.getSubscription(channel).deltaStats(),
  applied: ({ cases }) => cases.map(applied),
  presence: ({ channel }) => client.presence(channel),
  presenceStats: ({ channel }) => client.presenceStats(channel),
  history: ({ channel, options }) => client.history(channel, options),
  send: ({ data }) => client.send(payload(data)),
  raw: ({ channel, text }) => client.publish(channel, new TextEncoder().encode(text)),
  rpc: ({ method, data }) => client.rpc(method, payload(data)),
};

async function run(command) {
  try {
    say({ id: command.id, result: (await operations[command.op](command)) ?? null });
  } catch (error) {
    say({ id: command.id, error: { code: error.code, message: error.message } });
  }
}

require("node:readline")
  .createInterface({ input: process.stdin })
  .on("line", (line) => void run(JSON.parse(line)))
  .on("close", () => process.exit(0));
