/**
 * One generation as a client has received it: pure bookkeeping over offsets, no socket, no clock.
 *
 * Offsets count 1, 2, 3 … within an epoch. A message covers the `merged` offsets that end at `offset`; it is applied
 * when it follows the position without a hole, dropped when it is known, and refused when something is missing before.
 */

import { Files } from "./files.js";

const TERMINALS = new Set(["completed", "failed", "cancelled"]);

/** Fires `event` ({event, offset, merged, replayed} as its detail), `restart` when the text begins anew, and `end`. */
export class GenerationStream extends EventTarget {
  #catchUpTo = 0;

  /** @param {string} id */
  constructor(id) {
    super();
    this.id = id;
    this.epoch = "";
    this.offset = 0;
    /** All `text` deltas together. */
    this.text = "";
    this.#empty();
    /** @type {"queued"|"started"|"completed"|"failed"|"cancelled"|"gone"} */
    this.status = "queued";
    /** The last event, with its receipt. @type {{type: string, receipt: object}|null} */
    this.terminal = null;
    /** Events. `replayed`: those of `delivered` that came by catching up. `gaps`: how often it had to begin anew. */
    this.counts = { delivered: 0, replayed: 0, duplicates: 0, gaps: 0 };
    /** Whether the gateway sends its events on the present socket, or will after a resume. */
    this.attached = false;
  }

  get ended() {
    return this.terminal !== null || this.status === "gone";
  }

  /** Stands at a position from which on the events will follow; what was received before is void. */
  begin(epoch, offset = 0) {
    const anew = this.offset > 0;
    Object.assign(this, { epoch, offset, text: "", status: "queued" });
    this.#empty();
    this.counts.delivered = this.counts.replayed = 0;
    if (anew) this.dispatchEvent(new Event("restart"));
  }

  /** The log goes on under another epoch, and nothing is missing. */
  move(epoch) {
    this.epoch = epoch;
  }

  /**
   * What follows was missed, up to the offset `top`. Without it, a delta that stands alone is taken for the first live
   * one: the gateway merges the consecutive deltas that it replays.
   */
  catchUp(top = Infinity) {
    this.#catchUpTo = top;
  }

  /** Applies an event message; false when events before it are missing. */
  accept({ epoch, offset, merged = 1, event }) {
    if (epoch === this.epoch && offset <= this.offset) {
      this.counts.duplicates += merged;
      return true;
    }
    if (epoch !== this.epoch || offset - merged !== this.offset) return false;
    if (this.#catchUpTo === Infinity && event.type === "delta" && merged === 1) this.#catchUpTo = 0;
    const replayed = offset <= this.#catchUpTo;
    this.offset = offset;
    this.counts.delivered += merged;
    if (replayed) this.counts.replayed += merged;
    this.#take[event.type]?.(event); // A later version's events are passed over.
    this.dispatchEvent(new CustomEvent("event", { detail: { event, offset, merged, replayed } }));
    if (TERMINALS.has(event.type)) this.end(event.type, event);
    return true;
  }

  #take = {
    started: () => (this.status = "started"),
    queued: (event) => (this.place = event.position),
    delta: (event) => {
      if ((event.part ?? "text") === "text") this.text += event.text;
    },
    set: (event) => this.#write(event),
    patch: (event) => this.#write(event),
    progress: (event) => (this.progress = event),
    preview: (event) => this.previews.set(event.index, event),
    artifact: (event) => this.artifacts.set(event.index, event),
    audio: (event) => this.audio.push(event),
    reset: () => {
      this.text = "";
      this.#empty();
      this.dispatchEvent(new Event("restart"));
    },
    child: (event) => this.children.set(event.index, event.generation_id),
  };

  #write(event) {
    this.broken ||= !this.files.take(event);
  }

  #empty() {
    /** The files that it writes, by path. */
    this.files = new Files();
    /** A patch came that fits no file: the receipt will tell. */
    this.broken = false;
    /** Results, and looks at those that are not ready: the events, by index. */
    this.artifacts = new Map();
    this.previews = new Map();
    /** Pieces of sound, in order: the events. */
    this.audio = [];
    /** Of a batch: its generations' ids, by index. */
    this.children = new Map();
    /** The last `progress`, and the place in the queue. */
    this.progress = null;
    this.place = null;
  }

  end(status, terminal = null) {
    Object.assign(this, { status, terminal, attached: false });
    this.dispatchEvent(new Event("end"));
  }
}
