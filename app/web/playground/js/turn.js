/** One question and its answer, on one device. The text is written as text, never as markup. */

import { copyOf, count, drawer, duration, announce, write } from "./elements.js";
import { checkReceipt } from "./receipt.js";

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

export class Turn {
  #stream = null;
  #unwritten = []; // {text, replayed}
  #askedAt = performance.now();
  #firstAt = 0;
  #liveAt = 0; // of the last delta, if it came live
  #live = { deltas: 0, ms: 0 }; // between live deltas, so that a pause of the connection is no slow model
  #onChange;

  /** @param {{question: string|null, onCancel: (id: string) => void, onChange: () => void}} options */
  constructor({ question, onCancel, onChange }) {
    const { root, parts } = copyOf("turn-template");
    this.root = root;
    this.parts = parts;
    this.#onChange = onChange;
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
    if (stream.text) this.#write(stream.text, true);
    stream.addEventListener("event", ({ detail }) => this.#take(detail));
    stream.addEventListener("restart", () => this.#restart());
    stream.addEventListener("end", () => this.#end());
    this.draw();
    if (stream.ended) this.#end();
  }

  /** The gateway did not start it. */
  refuse(error) {
    this.#say("refused");
    this.#why(`${error.message} (${error.code})`);
    this.#receipt("none", "There is no receipt: nothing was started.");
  }

  draw = drawer(() => this.#draw());

  #take({ event, merged, replayed }) {
    if (event.type === "delta") this.#measure(merged, replayed);
    if (event.type === "delta" && (event.part ?? "text") === "text") this.#write(event.text, replayed);
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
    const numbers = `${counted(events.theirs, "event")}, ${counted(characters.theirs, "character")}`;
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
