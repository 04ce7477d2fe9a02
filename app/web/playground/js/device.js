/** A device: one client with its own socket, its questions and answers, its counters, and ways to hurt it. */

import { TidegateClient } from "./client.js";
import { announce, copyOf, count, drawer, Tail, write } from "./elements.js";
import { cure } from "./token.js";
import { Turn } from "./turn.js";

const OFFLINE = 5000; // ms
const MOST_TURNS = 50; // older ones that have ended leave the page
const SUGGESTIONS = ["What is light?", "Why is the sky blue?", "How does a prism make colours?"];

/**
 * @typedef {object} DeviceOptions
 * @property {number} number
 * @property {string} url
 * @property {() => string} token
 * @property {(why: string) => Promise<string|null>} refreshToken
 * @property {import("./recorder.js").Recorder} recorder
 * @property {(device: Device, act: object) => void} onAct what the reader did, for the code and the other device
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
    this.#listen();
    this.#suggest();
    this.drawCounters = drawer(() => this.#drawCounters());
  }

  /** The answers that this device has or had in sight. */
  get generations() {
    return this.#turns.map((turn) => turn.id).filter(Boolean);
  }

  /** The latest position of an answer that still runs, or of the last one. */
  get latest() {
    const turn = this.#turns.findLast((turn) => turn.stream);
    return turn ? { id: turn.stream.id, epoch: turn.stream.epoch, offset: turn.stream.offset } : null;
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
    this.root.remove();
  }

  async ask(message) {
    const { model, policy } = this.parts;
    const input = { message, ...(model.value.trim() && { model: model.value.trim() }) };
    const request = { kind: "chat", input, on_last_disconnect: policy.value };
    const turn = this.#add(message);
    this.#options.onAct(this, { type: "generate", request });
    try {
      const stream = await this.client.generate(request);
      turn.follow(stream);
      this.#options.onAct(this, { type: "started", id: stream.id });
    } catch (error) {
      turn.refuse(error);
    }
  }

  /** Watches an answer that another device has asked for. */
  async watch(id) {
    if (this.generations.includes(id)) return;
    const turn = this.#add(null);
    try {
      turn.follow(await this.client.watch(id));
    } catch (error) {
      turn.refuse(error);
    }
  }

  /** Begins a turn; without a question, one that only watches. */
  #add(question) {
    const { talk, empty } = this.parts;
    const turn = new Turn({ question, onCancel: (id) => this.#cancel(id), onChange: () => this.drawCounters() });
    empty.hidden = true;
    this.#turns.push(turn);
    talk.append(turn.root);
    this.#tail.following = true;
    this.#tail.keep();
    const oldest = this.#turns[0];
    if (this.#turns.length > MOST_TURNS && oldest.ended) {
      for (const name of Object.keys(this.#earlier)) this.#earlier[name] += oldest.counts[name];
      this.#turns.shift().root.remove();
    }
    return turn;
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
    const { drop, offline, twin, leave, talk, composer, message, noticeAction } = this.parts;
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
    message.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      composer.requestSubmit();
    });
    composer.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = message.value.trim();
      if (!text) {
        message.focus();
        return;
      }
      message.value = "";
      this.ask(text);
    });
  }

  #suggest() {
    const second = this.#options.onTwin === null;
    this.parts.emptyText.textContent = second
      ? "Answers of the first device appear here, watched by their ids over this device's own socket."
      : "Nothing asked yet. Take one of these, and break the connection while it answers:";
    if (second) return;
    for (const text of SUGGESTIONS) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.addEventListener("click", () => {
        this.ask(text);
        this.parts.message.focus();
      });
      this.parts.suggestions.append(button);
    }
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
