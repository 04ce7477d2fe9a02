/**
 * The reference client of Tidegate's native protocol. No dependencies; for browsers and workers.
 *
 *     const client = new TidegateClient({ url: "wss://example.com/api/v1/ws", token, refreshToken });
 *     client.connect();
 *     const stream = await client.generate({ input: { message: "What is light?" } });
 *     stream.addEventListener("event", () => show(stream.text));
 *     stream.addEventListener("end", () => console.log(stream.status, stream.terminal));
 *
 * Every event is applied once and in order, or its stream begins anew and says so. After a reconnect, one `resume`
 * brings all streams up to date. A command whose answer was lost with the socket is sent again: cancelling and watching
 * twice changes nothing, and `generate` carries an idempotency key, so that it attaches and never doubles.
 *
 * @typedef {"closed"|"connecting"|"open"|"waiting"} State `waiting` is for the next attempt, at `retryAt`.
 *
 * @typedef {object} ClientOptions
 * @property {string} url The socket's address.
 * @property {string} [token]
 * @property {string} [connectionId] The client's own name for its socket.
 * @property {(why: "expiring"|"expired") => Promise<string|null>} [refreshToken] Gets a fresh token; null gives up.
 *
 * @typedef {object} GenerateOptions
 * @property {object} input For a chat: `{message, model?, …}`.
 * @property {string} [kind]
 * @property {string} [idempotency_key]
 * @property {string} [on_last_disconnect] `continue`, `cancel` or `cancel_after:<seconds>`.
 */

import { GenerationStream } from "./stream.js";

const PROTOCOL = "tidegate.v1";
const BACKOFF_BASE = 500; // ms, doubled by each attempt: the first retry comes within 0 to 1 s
const BACKOFF_CAP = 20_000; // ms
const STABLE_AFTER = 5_000; // ms of being open after which earlier attempts are forgotten
const HANDSHAKE_TIMEOUT = 10_000; // ms from opening a socket to `connected`
const PING_SLACK = 5_000; // ms on top of two pings' time
const MOST_STREAMS = 256; // in one `resume`
const MOST_RESTARTS = 3; // of a stream in a row, after which its log is taken to be broken
const TOKEN_EXPIRED = 4401;
const BAD_MESSAGE = new Set([1003, 1007, 1009]); // the same commands would end the next socket, too

/** What the gateway refused: `code` is stable, `message` is for people. */
export class TidegateError extends Error {
  constructor({ code = "internal", message = "The gateway refused.", status = 0, retryable = false } = {}) {
    super(message);
    Object.assign(this, { name: "TidegateError", code, status, retryable });
  }
}

/**
 * A connection that comes back by itself. Fires `state` when that changes, `frame` for each frame of both directions
 * ({direction, message, bytes} as its detail; tokens are blotted out), and `problem` for errors that answer no command.
 */
export class TidegateClient extends EventTarget {
  #options;
  #token;
  #socket = null;
  #connectedAt = 0;
  #attempt = 0;
  #retryTimer;
  #heldUntil = 0;
  #goAwayAt = 0;
  #goAwayTimer;
  #watchdog;
  #lastSeen = 0;
  #silence = HANDSHAKE_TIMEOUT;
  #lastError = null;
  #nextId = 1;
  #pending = new Map(); // by id: {command, sent, again, resolve, reject}
  #resumes = new Set(); // ids of this socket's resumes
  #streams = new Map(); // those that have not ended

  /** @param {ClientOptions} options */
  constructor(options) {
    super();
    this.#options = options;
    this.#token = options.token;
    /** @type {State} */
    this.state = "closed";
    this.retryAt = 0;
    /** Why it is closed or waits. @type {TidegateError|null} */
    this.error = null;
    /** The gateway's `connected` message, while open. */
    this.connection = null;
    this.connections = 0;
  }

  connect() {
    if (this.state !== "closed") return;
    globalThis.addEventListener?.("online", this.#hurry);
    globalThis.document?.addEventListener("visibilitychange", this.#hurry);
    this.#open();
  }

  /** Ends the connection; generations go on in the gateway. @param {TidegateError|null} error why, if not by wish */
  close(error = null) {
    globalThis.removeEventListener?.("online", this.#hurry);
    globalThis.document?.removeEventListener("visibilitychange", this.#hurry);
    this.#discard();
    this.#reject(() => true, error ?? new TidegateError({ code: "closed", message: "The client was closed." }));
    this.#become("closed", { error });
  }

  /** Starts a generation and resolves to its stream. @param {GenerateOptions} options */
  async generate({ kind = "chat", idempotency_key = randomKey(), ...rest }) {
    return this.#request({ type: "generate", kind, idempotency_key, ...rest }, (reply) => {
      const known = this.#streams.get(reply.generation_id);
      if (known) return known;
      const stream = new GenerationStream(reply.generation_id);
      stream.begin(reply.epoch, reply.offset);
      stream.attached = true;
      this.#streams.set(stream.id, stream);
      return stream;
    });
  }

  /** Watches a generation from its beginning and resolves to its stream. @param {string} id */
  async watch(id) {
    return this.#streams.get(id) ?? this.#subscribe(new GenerationStream(id));
  }

  /** Asks for a generation's end; its stream then ends with `cancelled`, unless it was quicker. @param {string} id */
  async cancel(id) {
    return this.#request({ type: "cancel", generation_id: id });
  }

  /** Puts a fresh token in the present one's place, on the live socket and for later ones. @param {string} token */
  async refresh(token) {
    if (this.connection) await this.#request({ type: "refresh", token }, undefined, { again: false });
    this.#token = token;
  }

  /** Drops the socket without a word and comes back, after `holdMs` or as after any loss. For trying out. */
  interrupt(holdMs = 0) {
    if (this.state === "closed") return;
    this.#heldUntil = Date.now() + holdMs;
    this.#retry(new TidegateError({ code: "interrupted", message: "The connection was dropped." }), holdMs || undefined);
  }

  /** Connects now instead of waiting, unless it is held. */
  retryNow() {
    if (this.state === "waiting" && this.retryAt && Date.now() >= this.#heldUntil) this.#open();
  }

  // The socket.

  #open() {
    clearTimeout(this.#retryTimer);
    this.#become("connecting");
    const url = new URL(this.#options.url);
    if (this.#options.connectionId) url.searchParams.set("connection_id", this.#options.connectionId);
    try {
      this.#socket = new WebSocket(url, this.#token ? [PROTOCOL, `bearer.${this.#token}`] : [PROTOCOL]);
    } catch {
      const message = "The token holds characters that no token has.";
      this.close(new TidegateError({ code: "invalid_token", status: 401, message }));
      return;
    }
    this.#socket.onmessage = ({ data }) => this.#receive(data);
    this.#socket.onclose = ({ code, reason }) => this.#lost(code, reason);
    this.#silence = HANDSHAKE_TIMEOUT;
    this.#seen();
  }

  /** Forgets the present socket: nothing of it is heard any more. */
  #discard() {
    for (const timer of [this.#retryTimer, this.#goAwayTimer, this.#watchdog]) clearTimeout(timer);
    if (this.#socket) {
      this.#socket.onmessage = this.#socket.onclose = null;
      this.#socket.close();
    }
    if (this.#connectedAt && Date.now() - this.#connectedAt >= STABLE_AFTER) this.#attempt = 0;
    this.#socket = this.connection = this.#lastError = this.#watchdog = null;
    this.#connectedAt = 0;
    this.#resumes.clear();
    for (const entry of this.#pending.values()) entry.sent = false;
  }

  async #lost(code, reason) {
    const message = `The connection ${this.connection ? "was lost" : "could not be made"} (${reason || code}).`;
    const error = this.#lastError ?? new TidegateError({ code: reason || "connection_lost", message, retryable: true });
    if (code >= 4500 && code <= 4999) return this.close(error);
    this.#discard();
    if (BAD_MESSAGE.has(code)) this.#reject(() => true, error);
    if (code === TOKEN_EXPIRED) {
      this.#become("waiting", { error });
      const token = await this.#freshToken("expired");
      if (this.state !== "waiting") return undefined;
      if (token === null) return this.close(error);
      this.#token = token ?? this.#token;
    }
    return this.#retry(error);
  }

  /** Waits for the next attempt: as long as the caller or the gateway asked for, or else by full jitter. */
  #retry(error, delay) {
    const asked = this.#goAwayAt > Date.now() ? this.#goAwayAt - Date.now() : undefined;
    this.#discard();
    this.#reject((entry) => !entry.again, error);
    this.#attempt += 1;
    const wait = delay ?? asked ?? Math.random() * Math.min(BACKOFF_CAP, BACKOFF_BASE * 2 ** this.#attempt);
    this.#goAwayAt = 0;
    this.#retryTimer = setTimeout(() => this.#open(), wait);
    this.#become("waiting", { error, retryAt: Date.now() + wait });
  }

  #hurry = () => {
    if (!globalThis.document?.hidden) this.retryNow();
  };

  /** A living gateway is never silent for long. One timer, which looks at the clock: timers of hidden tabs are late. */
  #seen() {
    this.#lastSeen = Date.now();
    this.#watchdog ??= setTimeout(this.#watch, this.#silence);
  }

  #watch = () => {
    const left = this.#lastSeen + this.#silence - Date.now();
    if (left > 0) this.#watchdog = setTimeout(this.#watch, left);
    else this.#retry(new TidegateError({ code: "silent", message: "The gateway went silent.", retryable: true }));
  };

  #become(state, { error = this.error, retryAt = 0 } = {}) {
    Object.assign(this, { state, error, retryAt });
    this.dispatchEvent(new Event("state"));
  }

  async #freshToken(why) {
    try {
      return (await this.#options.refreshToken?.(why)) ?? null;
    } catch {
      return undefined; // Not to be had just now: try again with the old one, which asks again.
    }
  }

  // Messages.

  #receive(text) {
    const message = JSON.parse(text);
    this.#seen();
    this.#report("received", message, text);
    this.#take[message.type]?.(message); // Types of later versions are left alone.
  }

  #take = {
    connected: (message) => this.#takeConnected(message),
    event: (message) => this.#takeEvent(message),
    reply: (message) => (this.#resumes.has(message.id) ? this.#takeResumed(message) : this.#settle(message)),
    error: (message) => this.#takeError(message),
    gap: (message) => this.#beginAnew(this.#streams.get(message.generation_id)),
    goaway: ({ reconnect_in_ms }) => {
      this.#goAwayAt = Date.now() + reconnect_in_ms;
      const error = new TidegateError({ code: "goaway", message: "The gateway asked to connect anew.", retryable: true });
      this.#goAwayTimer = setTimeout(() => this.#retry(error, 0), reconnect_in_ms);
    },
    token_expiring: async () => {
      const token = await this.#freshToken("expiring");
      if (token) await this.refresh(token).catch((error) => this.#problem(error));
    },
  };

  #takeConnected(message) {
    this.connection = message;
    this.connections += 1;
    this.#connectedAt = Date.now();
    this.#silence = message.ping_interval * 2000 + PING_SLACK;
    const streams = [...this.#streams.values()].filter((stream) => stream.attached);
    for (let first = 0; first < streams.length; first += MOST_STREAMS) {
      const id = this.#nextId++;
      const positions = streams.slice(first, first + MOST_STREAMS).map(({ id, epoch, offset }) => [id, { epoch, offset }]);
      this.#resumes.add(id);
      this.#send({ type: "resume", id, streams: Object.fromEntries(positions) });
    }
    for (const entry of this.#pending.values()) this.#sendPending(entry);
    this.#become("open", { error: null });
  }

  #takeResumed(reply) {
    for (const [id, answer] of Object.entries(reply.streams)) {
      const stream = this.#streams.get(id);
      if (stream && answer.status === "gone") this.#drop(stream);
      else if (stream) {
        if (!answer.recovered) {
          stream.counts.gaps += 1;
          stream.begin(answer.epoch, answer.offset);
        }
        stream.catchUp(answer.top);
      }
    }
  }

  #takeEvent(message) {
    const stream = this.#streams.get(message.generation_id);
    if (!stream?.attached) return;
    if (!stream.accept(message)) this.#beginAnew(stream);
    if (stream.ended) this.#streams.delete(stream.id);
  }

  #takeError(message) {
    const error = new TidegateError(message);
    if (this.#resumes.has(message.id)) this.#retry(error); // Some streams are not attached: come again.
    else if (!this.#settle(message, error)) {
      this.#lastError = error;
      this.#problem(error);
    }
  }

  #problem(error) {
    this.dispatchEvent(new CustomEvent("problem", { detail: error }));
  }

  // Streams.

  #subscribe(stream) {
    this.#streams.set(stream.id, stream);
    const done = this.#request({ type: "subscribe_generation", generation_id: stream.id }, (reply) => {
      if (reply.already) {
        // It is still being sent from another position: leave, and come again.
        this.#request({ type: "unsubscribe_generation", generation_id: stream.id }).catch(() => {});
        return this.#subscribe(stream);
      }
      stream.begin(reply.epoch, reply.offset);
      stream.catchUp(reply.top);
      stream.attached = true;
      return stream;
    });
    return done.catch((error) => {
      this.#drop(stream);
      throw error;
    });
  }

  /** Events are missing and the gateway cannot, or did not, fill them in: get the stream from its beginning. */
  #beginAnew(stream) {
    if (!stream) return;
    stream.counts.gaps += 1;
    stream.attached = false;
    if (stream.counts.gaps > MOST_RESTARTS) this.#drop(stream);
    else this.#subscribe(stream).catch((error) => this.#problem(error));
  }

  #drop(stream) {
    this.#streams.delete(stream.id);
    if (!stream.ended) stream.end("gone");
  }

  // Commands.

  /** Sends a command, now or when connected. `take` turns its reply into the result, before the next message is read. */
  #request(command, take = (reply) => reply, { again = true } = {}) {
    if (this.state === "closed") {
      return Promise.reject(new TidegateError({ code: "closed", message: "The client is not connected." }));
    }
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const entry = { command: { ...command, id }, sent: false, again, resolve: (reply) => resolve(take(reply)), reject };
      this.#pending.set(id, entry);
      this.#sendPending(entry);
    });
  }

  #sendPending(entry) {
    if (this.connection && !entry.sent) entry.sent = this.#send(entry.command);
  }

  #send(command) {
    const text = JSON.stringify(command);
    this.#socket.send(text);
    this.#report("sent", "token" in command ? { ...command, token: "<token>" } : command, text);
    return true;
  }

  /** Answers the command that `message` is about; false when there is none. */
  #settle(message, error) {
    const entry = this.#pending.get(message.id);
    if (!entry) return false;
    this.#pending.delete(message.id);
    if (error) entry.reject(error);
    else entry.resolve(message);
    return true;
  }

  #reject(which, error) {
    for (const [id, entry] of this.#pending) {
      if (!which(entry)) continue;
      this.#pending.delete(id);
      entry.reject(error);
    }
  }

  #report(direction, message, text) {
    const bytes = new TextEncoder().encode(text).length;
    this.dispatchEvent(new CustomEvent("frame", { detail: { direction, message, bytes } }));
  }
}

function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
