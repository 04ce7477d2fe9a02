/** One question and its answer, or what was made of it, on one device. The text is written as text, never as markup. */

import { copyOf, count, drawer, duration, announce, write } from "./elements.js";
import { checkReceipt } from "./receipt.js";
import { Results } from "./results.js";

const WORDS = {
  sending: "Sending",
  queued: "Queued",
  started: "Streaming",
  completed: "Complete",
  failed: "Failed",
  cancelled: "Cancelled",
  gone: "Gone",
  refused: "Refused",
};

const SAID = new Set(["delta", "set", "patch", "preview", "audio"]);

export class Turn {
  #stream = null;
  #unwritten = []; // {text, replayed}
  #askedAt = performance.now();
  #firstAt = 0;
  #liveAt = 0; // of the last delta, if it came live
  #live = { deltas: 0, ms: 0 }; // between live deltas, so that a pause of the connection is no slow model
  #onChange;
  #onChild;
  #results;

  /**
   * @typedef {object} TurnOptions
   * @property {string} kind
   * @property {string|null} question
   * @property {(id: string) => void} onCancel
   * @property {() => void} onChange
   * @property {(turn: Turn, id: string) => void} onChild a generation of a batch is named
   * @property {(turn: Turn, path: string, instruction: string) => void} onRefine
   * @property {Map<string, string>} [bases] by path: the files that it was refined from
   *
   * @param {TurnOptions} options
   */
  constructor({ kind, question, onCancel, onChange, onChild, onRefine, bases }) {
    const { root, parts } = copyOf("turn-template");
    this.root = root;
    this.parts = parts;
    this.kind = kind;
    root.dataset.kind = kind;
    this.#onChange = onChange;
    this.#onChild = onChild;
    this.#results = new Results(parts, { onRefine: (path, text) => onRefine(this, path, text), bases });
    parts.question.textContent = question ?? "Watched by its id, from its beginning";
    parts.question.classList.toggle("watched", question === null);
    parts.cancel.addEventListener("click", () => onCancel(this.#stream.id));
    this.#say("sending");
    this.#receipt("none", "The receipt comes with the end.");
  }

  get stream() {
    return this.#stream;
  }

  get id() {
    return this.#stream?.id ?? null;
  }

  get ended() {
    return this.#stream ? this.#stream.ended : this.root.dataset.status === "refused";
  }

  get counts() {
    return this.#stream?.counts ?? { delivered: 0, replayed: 0, duplicates: 0, gaps: 0 };
  }

  /** Shows what comes, and what has come. @param {import("./stream.js").GenerationStream} stream */
  follow(stream) {
    this.#stream = stream;
    this.parts.id.textContent = stream.id;
    this.parts.elsewhere.hidden = false;
    this.parts.elsewhere.href = `#watch=${this.kind}:${stream.id}`;
    if (stream.text) this.#write(stream.text, true);
    stream.addEventListener("event", ({ detail }) => this.#take(detail));
    stream.addEventListener("restart", () => this.#restart());
    stream.addEventListener("end", () => this.#end());
    this.draw();
    if (stream.ended) this.#end();
  }

  /** It leaves the page. */
  close() {
    this.#results.close();
    this.root.remove();
  }

  /** The gateway did not start it. */
  refuse(error) {
    this.#say("refused");
    this.#why(`${error.message} (${error.code})`);
    this.#receipt("none", "There is no receipt: nothing was started.");
  }

  draw = drawer(() => this.#draw());

  #take({ event, merged, replayed }) {
    if (SAID.has(event.type)) this.#measure(merged, replayed);
    if (event.type === "delta" && (event.part ?? "text") === "text") this.#write(event.text, replayed);
    if (event.type === "child" && !event.status) this.#onChild(this, event.generation_id);
    this.draw();
  }

  #measure(merged, replayed) {
    const now = performance.now();
    this.#firstAt ||= now;
    if (!replayed && this.#liveAt) {
      this.#live.deltas += merged;
      this.#live.ms += now - this.#liveAt;
    }
    this.#liveAt = replayed ? 0 : now;
  }

  #write(text, replayed) {
    const last = this.#unwritten.at(-1);
    if (last?.replayed === replayed) last.text += text;
    else this.#unwritten.push({ text, replayed });
  }

  #restart() {
    this.#unwritten = [];
    this.parts.text.replaceChildren();
    this.#results.restart();
    this.draw();
  }

  /** Adds to the last text while it is of the same kind, so that an answer of a thousand tokens is a few nodes. */
  #drawText() {
    const { text } = this.parts;
    for (const { text: words, replayed } of this.#unwritten.splice(0)) {
      const last = text.lastChild;
      if (last && (last.nodeName === "MARK") === replayed) (last.firstChild ?? last).appendData(words);
      else if (replayed) text.append(Object.assign(document.createElement("mark"), { textContent: words }));
      else text.append(words);
    }
  }

  #draw() {
    const { parts } = this;
    const stream = this.#stream;
    const { deltas, ms } = this.#live;
    this.#drawText();
    this.#results.draw(stream);
    this.#say(stream.status);
    write(parts.first, this.#firstAt ? duration(this.#firstAt - this.#askedAt) : "–");
    write(parts.rate, ms > 200 ? ((deltas / ms) * 1000).toFixed(1) : "–");
    for (const name of ["delivered", "replayed", "gaps"]) write(parts[name], count(stream.counts[name]));
    this.#onChange();
  }

  async #end() {
    const { terminal, status } = this.#stream;
    this.draw();
    if (status === "gone") {
      this.#why("The gateway no longer keeps this answer. Ask again.");
      this.#receipt("none", "There is no receipt.");
      return;
    }
    if (terminal.type === "failed") this.#why(`${terminal.message} (${terminal.code})`);
    if (terminal.type === "cancelled") this.#why(`Cancelled by ${terminal.by}. What came before is proven below.`);
    const check = await checkReceipt(this.#stream);
    this.#showReceipt(check);
    announce(`Answer ${WORDS[status].toLowerCase()}. ${check.ok ? "Receipt ok." : "The receipt is not proven."}`);
    this.#onChange();
  }

  #showReceipt({ ok, compared }) {
    const [events, characters, sha256] = compared;
    const short = String(sha256.theirs ?? "").slice(0, 12);
    const files = this.#stream.files.size;
    const written = files ? counted(files, "file") : counted(characters.theirs, "character");
    const said = files || characters.theirs || this.kind === "chat";
    const numbers = [counted(events.theirs, "event"), said && written].filter(Boolean).join(", ");
    if (ok) {
      this.#receipt("ok", `Receipt ok: ${numbers}, SHA-256 ${short}…`);
      this.parts.receipt.title = `SHA-256 ${sha256.theirs}`;
    } else if (ok === null) {
      this.#receipt("none", `Counts agree: ${numbers}. The hash can be checked only over HTTPS or on this machine.`);
    } else {
      const wrong = compared.filter(({ ours, theirs }) => ours !== theirs);
      const words = wrong.map(({ name, ours, theirs }) => `${name}: received ${ours}, sent ${theirs ?? "none"}`);
      this.#receipt("bad", `Receipt mismatch. ${words.join("; ")}.`);
    }
  }

  #receipt(state, text) {
    this.parts.receipt.dataset.state = state;
    write(this.parts.receipt, text);
  }

  #why(text) {
    this.parts.why.hidden = false;
    write(this.parts.why, text);
  }

  #say(status) {
    this.root.dataset.status = status;
    write(this.parts.status, WORDS[status]);
    this.parts.cancel.disabled = !["queued", "started"].includes(status);
  }
}

const counted = (number, word) => `${count(number ?? 0)} ${word}${number === 1 ? "" : "s"}`;
