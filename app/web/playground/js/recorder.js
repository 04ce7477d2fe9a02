/**
 * What went over the sockets of all devices: the last frames of both directions, and between them what became of the
 * connections. Bounded; a long frame is kept in part.
 *
 * @typedef {object} Row
 * @property {number} at ms since 1970
 * @property {number} device
 * @property {"sent"|"received"|"socket"} direction
 * @property {string} type an event's own type, or the message's
 * @property {string} about what else fits a line: text, id, state
 * @property {number|null} offset
 * @property {number} merged
 * @property {number|null} bytes
 * @property {number|null} gap ms since the frame before, on this device
 * @property {number|null} since ms since the command that it answers or belongs to
 * @property {string} json
 */

export const MOST_ROWS = 2000;
const MOST_JSON = 4096; // characters of a frame
const MOST_ABOUT = 80;

/** Fires `rows` when some were added, with how many were dropped for them as `detail`. */
export class Recorder extends EventTarget {
  #clocks = new Map(); // by device

  constructor() {
    super();
    /** @type {Row[]} */
    this.rows = [];
  }

  frame(device, { direction, message, bytes }) {
    const now = performance.now();
    const clock = this.#clock(device);
    const since = direction === "sent" ? clock.sent(message, now) : clock.received(message, now);
    const event = message.type === "event" ? message.event : null;
    this.#add({
      device,
      direction,
      type: event?.type ?? message.type,
      about: about(message).slice(0, MOST_ABOUT),
      offset: message.offset ?? null,
      merged: message.merged ?? 1,
      bytes,
      gap: clock.gap(now),
      since,
      json: JSON.stringify(message),
    });
  }

  /** @param {import("./client.js").TidegateClient} client */
  state(device, { state, error, retryAt }) {
    const next = retryAt ? Math.max(0, Math.round(retryAt - Date.now())) : null;
    const why = state === "waiting" || state === "closed" ? error : null;
    const about = [why?.message, next !== null && `Next in ${next} ms.`].filter(Boolean).join(" ");
    const json = JSON.stringify({ state, code: why?.code, message: why?.message, next_in_ms: next ?? undefined });
    const gap = this.#clock(device).gap(performance.now());
    const fields = { offset: null, merged: 1, bytes: null, since: null };
    this.#add({ device, direction: "socket", type: state, about, gap, json, ...fields });
  }

  clear() {
    this.rows.length = 0;
    this.dispatchEvent(new CustomEvent("rows", { detail: { dropped: Infinity } }));
  }

  #clock(device) {
    if (!this.#clocks.has(device)) this.#clocks.set(device, new Clock());
    return this.#clocks.get(device);
  }

  #add(row) {
    if (row.json.length > MOST_JSON) row.json = `${row.json.slice(0, MOST_JSON)}…`;
    this.rows.push({ at: Date.now(), ...row });
    const dropped = Math.max(0, this.rows.length - MOST_ROWS);
    if (dropped) this.rows.splice(0, dropped);
    this.dispatchEvent(new CustomEvent("rows", { detail: { dropped } }));
  }
}

/** Knows of one device which command an answer or an event belongs to. */
class Clock {
  #last = null;
  #commands = new Map(); // by command id: when it was sent
  #begun = new Map(); // by generation id: when the command was sent that brings its events

  gap(now) {
    const gap = this.#last === null ? null : now - this.#last;
    this.#last = now;
    return gap;
  }

  sent(command, now) {
    this.#commands.set(command.id, now);
    if (this.#commands.size > 256) this.#commands.delete(this.#commands.keys().next().value);
    for (const id of Object.keys(command.streams ?? {})) this.#begun.set(id, now);
    return null;
  }

  received(message, now) {
    const id = message.generation_id;
    if (message.type === "event") {
      const begun = this.#begun.get(id);
      if (message.event.receipt) this.#begun.delete(id);
      return begun === undefined ? null : now - begun;
    }
    const asked = this.#commands.get(message.id);
    if (asked === undefined) return null;
    if (id && !this.#begun.has(id)) this.#begun.set(id, asked);
    return now - asked;
  }
}

function about(message) {
  const { type, event } = message;
  if (type === "event") return event.text ?? event.ins ?? event.reason ?? event.message ?? event.model ?? event.by ?? event.stage ?? "";
  if (type === "generate") return message.input?.message ?? message.input?.prompt ?? message.input?.text ?? "";
  if (message.streams) return Object.entries(message.streams).map(stream).join(", ");
  if (type === "error") return `${message.code}: ${message.message}`;
  if (type === "connected") return `${message.connection_id}, user ${message.user_id ?? "anonymous"}`;
  if (type === "goaway") return `in ${message.reconnect_in_ms} ms`;
  return message.status ?? message.generation_id ?? (message.expires_in ? `expires in ${message.expires_in} s` : "");
}

/** A stream in a resume and in its reply. */
function stream([id, { status, offset }]) {
  return [id, status, offset !== undefined && `from ${offset}`].filter(Boolean).join(" ");
}
