/** A device: one client with its own socket, its questions and answers, its counters, and ways to hurt it. */

import { TidegateClient, TidegateError } from "./client.js";
import { Composers, EMPTY, SUGGESTIONS } from "./composers.js";
import { announce, copyOf, count, drawer, Tail, write } from "./elements.js";
import { cure } from "./token.js";
import { Turn } from "./turn.js";

const OFFLINE = 5000; // ms
const MOST_TURNS = 50; // older ones that have ended leave the page

/**
 * @typedef {object} DeviceOptions
 * @property {number} number
 * @property {string} url
 * @property {() => string} token
 * @property {(why: string) => Promise<string|null>} refreshToken
 * @property {import("./recorder.js").Recorder} recorder
 * @property {(device: Device, act: object) => void} onAct what the reader did, for the code and the other device
 * @property {string} kind what it shows at first
 * @property {(() => void)|null} onTwin opens the second device; null on the second itself
 * @property {(() => void)|null} onLeave
 */

export class Device {
  #options;
  #turns = [];
  #timer = null;
  #offlineUntil = 0;
  #earlier = { delivered: 0, replayed: 0, duplicates: 0, gaps: 0 }; // of turns that left the page
  #said = "";
  #tail;
  #composers;

  /** @param {DeviceOptions} options */
  constructor(options) {
    this.#options = options;
    this.name = `Device ${options.number}`;
    const { root, parts } = copyOf("device-template");
    this.root = root;
    this.parts = parts;
    root.setAttribute("aria-label", this.name);
    parts.name.textContent = this.name;
    parts.talk.setAttribute("aria-label", `Answers on ${this.name}`);
    const { url, token, refreshToken, recorder } = options;
    const connectionId = `playground-${options.number}-${Math.random().toString(36).slice(2, 8)}`;
    this.client = new TidegateClient({ url, token: token(), connectionId, refreshToken });
    this.client.addEventListener("frame", ({ detail }) => recorder.frame(options.number, detail));
    this.client.addEventListener("state", () => this.#changed());
    this.client.addEventListener("problem", ({ detail }) => this.#notice(detail.message));
    this.#tail = new Tail(parts.talk, 40);
    this.#composers = new Composers(parts, (kind, input, words) => this.make(kind, input, words));
    this.#listen();
    this.show(options.kind);
    this.drawCounters = drawer(() => this.#drawCounters());
  }

  /** The answers that this device has or had in sight. */
  get generations() {
    return this.#turns.map((turn) => turn.id).filter(Boolean);
  }

  /** The latest position of an answer that still runs, or of the last one. */
  get latest() {
    const turn = this.#turns.findLast((turn) => turn.stream);
    if (!turn) return null;
    const { id, epoch, offset } = turn.stream;
    return { id, epoch, offset, kind: turn.kind };
  }

  /** Connects, unless it is or will be. */
  start() {
    this.client.connect();
  }

  warn(text) {
    this.#notice(text);
  }

  close() {
    clearInterval(this.#timer);
    this.client.close();
    for (const turn of this.#turns) turn.close();
    this.root.remove();
  }

  /** What it shows: `chat`, `image`, `code` or `speech`. */
  get kind() {
    return this.root.dataset.kind;
  }

  /** Shows one kind of generations, and what begins one. */
  show(kind) {
    this.root.dataset.kind = kind;
    for (const button of this.parts.kinds.children) button.setAttribute("aria-pressed", button.dataset.kind === kind);
    this.#drawEmpty();
    this.#tail.following = true;
    this.#tail.keep();
  }

  /**
   * Begins a generation and shows it. `words` say what was asked.
   *
   * @param {{from?: object, bases?: Map<string, string>}} [origin] what it is refined from
   */
  async make(kind, input, words, { from, bases } = {}) {
    if (input.requests) {
      await this.#makeBatch(kind, input, words);
      return;
    }
    const request = { kind, input, ...(from && { from }), on_last_disconnect: this.parts.policy.value };
    const turn = this.#add(kind, words, bases);
    this.#options.onAct(this, { type: "generate", request: shown(request) });
    try {
      const stream = await this.client.generate(request);
      turn.follow(stream);
      this.#options.onAct(this, { type: "started", id: stream.id, kind });
    } catch (error) {
      turn.refuse(error);
    }
  }

  /** Begins a batch by the service's own REST API, which the gateway follows: a generation over several. */
  async #makeBatch(kind, body, words) {
    const turn = this.#add(kind, `${words} (a batch of ${body.requests.length})`);
    try {
      const { batch_id: id } = await postJson(BATCHES, this.#options.token(), body);
      await this.#follow(turn, id);
      this.#options.onAct(this, { type: "watch", id });
      this.#options.onAct(this, { type: "started", id, kind });
    } catch (error) {
      turn.refuse(error);
    }
  }

  /** Watches what another device, or another tab, has begun. */
  async watch(id, kind = "chat") {
    if (this.generations.includes(id)) return;
    await this.#follow(this.#add(kind, null), id);
  }

  async #follow(turn, id) {
    try {
      turn.follow(await this.client.watch(id));
    } catch (error) {
      turn.refuse(error);
    }
  }

  /** Begins a turn; without a question, one that only watches. */
  #add(kind, question, bases, parent = null) {
    const { talk } = this.parts;
    const turn = new Turn({
      kind,
      question,
      bases,
      onCancel: (id) => this.#cancel(id),
      onChange: () => this.drawCounters(),
      onChild: (batch, id) => this.#addChild(batch, id),
      onRefine: (refined, path, instruction) => this.#refine(refined, path, instruction),
    });
    this.#turns.push(turn);
    (parent ?? talk).append(turn.root);
    this.#drawEmpty();
    this.#tail.following = true;
    this.#tail.keep();
    const oldest = this.#turns[0];
    if (this.#turns.length > MOST_TURNS && oldest.ended) {
      for (const name of Object.keys(this.#earlier)) this.#earlier[name] += oldest.counts[name];
      this.#turns.shift().close();
    }
    return turn;
  }

  /** A batch has named one of its generations: it is shown within. */
  #addChild(batch, id) {
    if (this.generations.includes(id)) return;
    batch.parts.children.hidden = false;
    this.#follow(this.#add(batch.kind, null, undefined, batch.parts.children), id);
  }

  /** A new generation out of one file of an ended one. */
  #refine(turn, path, instruction) {
    const file = turn.stream.files.get(path);
    const from = { generation_id: turn.id, paths: [path] };
    const bases = new Map([["variants/0/index.html", file.text]]);
    this.make(turn.kind, { prompt: instruction, variants: 1 }, `${instruction} (refines ${path})`, { from, bases });
  }

  async #cancel(id) {
    this.#options.onAct(this, { type: "cancel", id });
    try {
      await this.client.cancel(id);
    } catch (error) {
      this.#notice(`It could not be cancelled: ${error.message}`);
    }
  }

  #listen() {
    const { drop, offline, twin, leave, talk, noticeAction } = this.parts;
    new ResizeObserver(() => this.#tail.keep()).observe(talk);
    drop.addEventListener("click", () => {
      this.#options.onAct(this, { type: "resume", latest: this.latest });
      this.client.interrupt();
    });
    offline.addEventListener("click", () => {
      this.#options.onAct(this, { type: "resume", latest: this.latest });
      this.#offlineUntil = Date.now() + OFFLINE;
      this.client.interrupt(OFFLINE);
    });
    twin.hidden = !this.#options.onTwin;
    twin.addEventListener("click", () => this.#options.onTwin?.());
    leave.hidden = !this.#options.onLeave;
    leave.addEventListener("click", () => this.#options.onLeave?.());
    noticeAction.addEventListener("click", () => this.client.retryNow());
    for (const button of this.parts.kinds.children) {
      button.addEventListener("click", () => {
        this.show(button.dataset.kind);
        this.#composers.focus(button.dataset.kind);
      });
    }
  }

  #drawEmpty() {
    const { empty, emptyText, suggestions } = this.parts;
    const second = this.#options.onTwin === null;
    empty.hidden = this.#turns.some((turn) => turn.kind === this.kind);
    write(emptyText, second ? EMPTY.second : EMPTY[this.kind]);
    const buttons = (second ? [] : SUGGESTIONS[this.kind]).map((text) => {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: text });
      button.addEventListener("click", () => this.#composers.take(this.kind, text));
      return button;
    });
    suggestions.replaceChildren(...buttons);
  }

  #changed() {
    const { client, parts } = this;
    const waiting = client.state === "waiting";
    clearInterval(this.#timer);
    if (waiting) this.#timer = setInterval(() => this.#drawState(), 100);
    if (!waiting) this.#offlineUntil = 0;
    parts.offline.disabled = client.state === "closed" || (waiting && this.#offlineUntil > 0);
    parts.drop.disabled = !["open", "connecting"].includes(client.state);
    this.#options.recorder.state(this.#options.number, client);
    if (client.state === "open") this.#notice(null);
    this.#drawState();
    this.drawCounters();
  }

  #drawState() {
    const { client, parts } = this;
    const offline = this.#offlineUntil > 0;
    const left = `${(Math.max(0, client.retryAt - Date.now()) / 1000).toFixed(1)} s`;
    const words = {
      closed: "Closed",
      connecting: "Connecting",
      open: "Connected",
      waiting: offline ? `Offline, back in ${left}` : `Reconnecting in ${left}`,
    };
    parts.state.dataset.state = offline ? "offline" : client.state;
    write(parts.stateText, words[client.state]);
    if (client.state !== this.#said) {
      this.#said = client.state;
      const told = { waiting: offline ? "offline for 5 seconds" : "reconnecting" }[client.state] ?? words[client.state];
      announce(`${this.name}: ${told.toLowerCase()}`);
    }
    if (client.state === "waiting" && !offline && client.error?.code === "connection_lost") {
      this.#notice(`The gateway does not answer. Is it running? Next try in ${left}.`, "Try now");
    } else if (client.state === "closed" && client.error) {
      this.#notice(cure(client.error));
    }
  }

  #notice(text, action = null) {
    const { notice, noticeText, noticeAction } = this.parts;
    notice.hidden = !text;
    write(noticeText, text ?? "");
    noticeAction.hidden = !action;
    write(noticeAction, action ?? "");
  }

  #drawCounters() {
    const sums = { ...this.#earlier };
    for (const { counts } of this.#turns) for (const name of Object.keys(sums)) sums[name] += counts[name];
    for (const [name, sum] of Object.entries(sums)) write(this.parts[name], count(sum));
    this.parts.gaps.dataset.bad = sums.gaps > 0;
    write(this.parts.reconnects, count(Math.max(0, this.client.connections - 1)));
    this.#tail.keep();
  }
}

const BATCHES = "/api/v1/images/batch-generate";

/** Posts JSON as the signed-in user. Rejects with a TidegateError. */
async function postJson(path, token, body) {
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  const value = await answer.json().catch(() => ({}));
  if (answer.ok) return value;
  const message = value.detail ?? value.error?.message ?? "The batch was refused.";
  throw new TidegateError({ code: value.code ?? `http_${answer.status}`, message, status: answer.status });
}

/** A request as its code shows it: a screenshot in base 64 would fill the page. */
function shown(request) {
  const cut = ([name, value]) => [name, name === "image" ? `${value.slice(0, 30)}…` : value];
  return { ...request, input: Object.fromEntries(Object.entries(request.input).map(cut)) };
}
