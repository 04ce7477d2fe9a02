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
 * `connection.js` decides when to connect, `stream.js` what an offset means; here is what the messages mean.
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

import { Commands } from "./commands.js";
import { Connection, TidegateError } from "./connection.js";
import { GenerationStream } from "./stream.js";

export { TidegateError };

const PROTOCOL = "tidegate.v1";
const PING_SLACK = 5_000; // ms past two pings
const MOST_STREAMS = 256; // in one `resume`
const MOST_GAPS = 3; // of one stream, after which its log is taken to be broken

/**
 * Fires `state` when that changes, `frame` for each frame of both directions ({direction, message, bytes} as its
 * detail; tokens are blotted out), and `problem` (a TidegateError as its detail) for errors that answer no command.
 */
export class TidegateClient extends EventTarget {
  #options;
  #token;
  #connection;
  #commands = new Commands((command) => this.#send(command));
  #resumes = new Set(); // ids of the present socket's resumes
  #streams = new Map(); // by id: those that have not ended

  /** @param {ClientOptions} options */
  constructor(options) {
    super();
    this.#options = options;
    this.#token = options.token;
    this.#connection = new Connection({
      dial: () => this.#dial(),
      received: (text) => this.#receive(text),
      lost: (error) => this.#lost(error),
      changed: () => this.dispatchEvent(new Event("state")),
      expired: () => this.#renew(),
    });
    /** The gateway's `connected` message, while open. */
    this.session = null;
    /** How often it was connected. */
    this.connections = 0;
  }

  /** `closed`, `connecting`, `open`, or `waiting` until `retryAt` (ms since 1970; 0 while there is no date). */
  get state() {
    return this.#connection.state;
  }

  get retryAt() {
    return this.#connection.retryAt;
  }

  /** Why it is closed or waits. @returns {TidegateError|null} */
  get error() {
    return this.#connection.error;
  }

  connect() {
    this.#connection.connect();
  }

  /** Ends the connection; generations go on in the gateway. */
  close() {
    this.#connection.close();
  }

  retryNow() {
    this.#connection.retryNow();
  }

  /** For trying out: drops the socket without a word; it comes back as after any loss, or after exactly `holdMs`. */
  interrupt(holdMs = 0) {
    if (this.state !== "closed") this.#connection.drop(holdMs);
  }

  /** Starts a generation and resolves to its stream. @param {GenerateOptions} options */
  generate({ kind = "chat", idempotency_key = randomKey(), ...rest }) {
    return this.#request({ type: "generate", kind, idempotency_key, ...rest }, (reply) => {
      const known = this.#streams.get(reply.generation_id);
      return known ?? this.#attach(new GenerationStream(reply.generation_id), reply);
    });
  }

  /** Watches a generation from its beginning and resolves to its stream. @param {string} id */
  async watch(id) {
    return this.#streams.get(id) ?? this.#subscribe(new GenerationStream(id));
  }

  /** Asks for a generation's end; its stream then ends with `cancelled`, unless it was quicker. @param {string} id */
  cancel(id) {
    return this.#request({ type: "cancel", generation_id: id });
  }

  /** Puts a fresh token in the present one's place, on the live socket and for later ones. @param {string} token */
  async refresh(token) {
    if (this.session) await this.#request({ type: "refresh", token });
    this.#token = token;
  }

  // The connection.

  #dial() {
    const url = new URL(this.#options.url);
    if (this.#options.connectionId) url.searchParams.set("connection_id", this.#options.connectionId);
    return new WebSocket(url, this.#token ? [PROTOCOL, `bearer.${this.#token}`] : [PROTOCOL]);
  }

  #receive(text) {
    const message = JSON.parse(text);
    this.#report("received", message, text);
    this.#connection.told = null;
    this.#take[message.type]?.(message); // A later version's messages are left alone.
  }

  #lost(error) {
    this.session = null;
    this.#resumes.clear();
    this.#commands.lost(error, (command) => error.retryable && command.type !== "refresh");
  }

  /** Gets a fresh token: null gives up, undefined means that none is to be had just now. */
  async #freshToken(why) {
    try {
      return (await this.#options.refreshToken?.(why)) ?? null;
    } catch {
      return undefined;
    }
  }

  /** Refreshes on the live socket, at any time within `ms`: clients that came together shall not all ask at once. */
  #refreshSoon(session, ms) {
    setTimeout(async () => {
      const token = this.session === session ? await this.#freshToken("expiring") : null;
      if (token) await this.refresh(token).catch((error) => this.#problem(error));
    }, Math.random() * ms);
  }

  async #renew() {
    const token = await this.#freshToken("expired");
    this.#token = token ?? this.#token;
    return token !== null; // With the old token the gateway asks again.
  }

  // Messages.

  #take = {
    connected: (message) => this.#takeConnected(message),
    reply: (message) => (this.#resumes.has(message.id) ? this.#takeResumed(message) : this.#commands.settle(message)),
    error: (message) => this.#takeError(message),
    event: (message) => this.#takeEvent(message),
    moved: ({ generation_id, epoch }) => this.#streams.get(generation_id)?.move(epoch),
    gap: (message) => this.#beginAnew(this.#streams.get(message.generation_id)),
    goaway: ({ reconnect_in_ms }) => this.#connection.goAway(reconnect_in_ms),
    token_expiring: ({ expires_in }) => this.#refreshSoon(this.session, expires_in * 500),
  };

  #takeConnected(message) {
    this.session = message;
    this.connections += 1;
    const streams = [...this.#streams.values()].filter((stream) => stream.attached);
    for (let first = 0; first < streams.length; first += MOST_STREAMS) {
      const positions = {};
      for (const { id, epoch, offset } of streams.slice(first, first + MOST_STREAMS)) positions[id] = { epoch, offset };
      const id = this.#commands.nextId();
      this.#resumes.add(id);
      this.#send({ type: "resume", id, streams: positions });
    }
    this.#commands.resend();
    this.#connection.confirm(message.ping_interval * 2000 + PING_SLACK);
  }

  #takeResumed(reply) {
    for (const [id, answer] of Object.entries(reply.streams)) {
      const stream = this.#streams.get(id);
      if (!stream) continue;
      if (answer.status === "gone") {
        this.#drop(stream);
        continue;
      }
      if (!answer.recovered) {
        stream.counts.gaps += 1;
        stream.begin(answer.epoch, answer.offset);
      }
      stream.move(answer.epoch);
      stream.catchUp(answer.top);
    }
  }

  #takeError(message) {
    const error = new TidegateError(message);
    if (this.#commands.settle(message, error)) return;
    if (this.#resumes.has(message.id)) {
      this.#connection.retry(error); // Not all streams are attached: come again.
    } else {
      this.#connection.told = error;
      this.#problem(error);
    }
  }

  #takeEvent(message) {
    const stream = this.#streams.get(message.generation_id);
    if (!stream?.attached) return;
    if (!stream.accept(message)) this.#beginAnew(stream);
    if (stream.ended) this.#streams.delete(stream.id);
  }

  #problem(error) {
    this.dispatchEvent(new CustomEvent("problem", { detail: error }));
  }

  // Streams.

  #attach(stream, { epoch, offset }) {
    stream.begin(epoch, offset);
    stream.attached = true;
    this.#streams.set(stream.id, stream);
    return stream;
  }

  async #subscribe(stream) {
    this.#streams.set(stream.id, stream);
    try {
      const reply = await this.#request({ type: "subscribe_generation", generation_id: stream.id }, (reply) => {
        if (!reply.already) this.#attach(stream, reply).catchUp(reply.top);
        return reply;
      });
      if (!reply.already) return stream;
      // The gateway still sends it, from another position: leave, and come again.
      await this.#request({ type: "unsubscribe_generation", generation_id: stream.id });
      return await this.#subscribe(stream);
    } catch (error) {
      this.#drop(stream);
      throw error;
    }
  }

  /** Events are missing that the gateway could not, or did not, fill in: get the stream from its beginning. */
  #beginAnew(stream) {
    if (!stream) return;
    stream.counts.gaps += 1;
    stream.attached = false;
    if (stream.counts.gaps > MOST_GAPS) this.#drop(stream);
    else this.#subscribe(stream).catch((error) => this.#problem(error));
  }

  #drop(stream) {
    this.#streams.delete(stream.id);
    if (!stream.ended) stream.end("gone");
  }

  // Sending.

  #request(command, take) {
    if (this.state !== "closed") return this.#commands.request(command, take);
    return Promise.reject(new TidegateError({ code: "closed", message: "The client is not connected." }));
  }

  #send(command) {
    if (!this.session) return false;
    const text = JSON.stringify(command);
    this.#connection.send(text);
    this.#report("sent", "token" in command ? { ...command, token: "<token>" } : command, text);
    return true;
  }

  #report(direction, message, text) {
    const bytes = new TextEncoder().encode(text).length;
    this.dispatchEvent(new CustomEvent("frame", { detail: { direction, message, bytes } }));
  }
}

function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
