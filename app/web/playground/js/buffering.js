/** Whether something between this page and the gateway holds messages back: told from when ticks of its clock arrive. */

import { announce, byId, duration } from "./elements.js";

const INTERVAL = 100; // ms
const COUNT = 20;
const PATIENCE = 20_000; // ms
const TOGETHER = 10; // ms: ticks that arrive so close to each other came in one heap
const MANY = 0.3; // the share of ticks in heaps from which on it is no chance

/** Reads the ticks. Resolves to `{arrivals, encoding}`, where an arrival is `{sent, came}` in ms of two clocks. */
export async function watchClock() {
  const response = await fetch(`../api/v1/diag/stream?interval_ms=${INTERVAL}&count=${COUNT}`, {
    headers: { Accept: "application/x-ndjson" },
    cache: "no-store",
    signal: AbortSignal.timeout(PATIENCE),
  });
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw new Error(problem.detail ?? `The gateway answered with status ${response.status}.`);
  }
  const arrivals = [];
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const came = performance.now();
    const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = lines.pop();
    for (const line of lines) arrivals.push({ sent: JSON.parse(line).at, came });
  }
  return { arrivals, encoding: response.headers.get("Content-Encoding") };
}

/** What the arrivals say. `state` is `ok` or `bad`; the two clocks need not agree. */
export function judge({ arrivals, encoding }) {
  if (arrivals.length < COUNT) return { state: "bad", text: "The stream was cut off before its end." };
  const delays = arrivals.map(({ sent, came }) => came - sent);
  const worst = Math.max(...delays) - Math.min(...delays);
  const heaped = arrivals.filter(({ came }, index) => index > 0 && came - arrivals[index - 1].came < TOGETHER).length;
  const heaps = arrivals.length - heaped;
  const packed = encoding ? ` It also compresses the stream (${encoding}), which may be why.` : "";
  if (heaps <= 2) {
    const text = `Yes. Something on the way keeps the whole answer until its end: ${COUNT} ticks, sent one every ${INTERVAL} ms, came all at once.`;
    return { state: "bad", text: text + packed };
  }
  if (heaped > MANY * arrivals.length && worst > 2 * INTERVAL) {
    const text = `Yes. ${COUNT} ticks, sent one every ${INTERVAL} ms, came in ${heaps} heaps; one waited ${duration(worst)}.`;
    return { state: "bad", text: text + packed };
  }
  const text = `No. ${COUNT} ticks, sent one every ${INTERVAL} ms, came one by one; the latest was ${duration(worst)} behind the quickest.`;
  return { state: "ok", text: encoding ? `${text} Something on the way compresses the stream (${encoding}), but does not hold it back.` : text };
}

byId("buffering-button").addEventListener("click", async () => {
  const button = byId("buffering-button");
  button.disabled = true;
  say({ state: "", text: `Watching the gateway's clock for ${(COUNT * INTERVAL) / 1000} seconds …` });
  try {
    const verdict = judge(await watchClock());
    say(verdict);
    announce(verdict.text);
  } catch (error) {
    const held = error.name === "TimeoutError";
    say({ state: "bad", text: held ? "Nothing came to its end in time: something on the way holds it back." : error.message });
  } finally {
    button.disabled = false;
  }
});

function say({ state, text }) {
  const note = byId("buffering-note");
  note.dataset.state = state;
  note.textContent = text;
}
