/**
 * A socket that comes back by itself: when to connect, how long to wait, when to give up. What its messages mean is
 * its owner's matter.
 *
 * Waits are random between 0 and a bound that doubles (full jitter), so that a gateway's restart does not bring all
 * clients at once. The network's or the reader's return cuts a wait short. Close codes say by their range whether to
 * come back: 4500 to 4999 mean no.
 *
 * @typedef {"closed"|"connecting"|"open"|"waiting"} State `waiting` is for the next attempt, at `retryAt`.
 *
 * @typedef {object} Owner
 * @property {() => WebSocket} dial Makes a socket.
 * @property {(text: string) => void} received
 * @property {(error: TidegateError) => void} lost The socket is gone; another may come.
 * @property {() => void} changed `state` has.
 * @property {() => Promise<boolean>} expired The gateway wants a fresh token: true when the next socket may try.
 */

const BACKOFF_BASE = 500; // ms, doubled by each attempt: the first retry comes within 0 to 1 s
const BACKOFF_CAP = 20_000; // ms
const STABLE_AFTER = 5_000; // ms of being open after which earlier attempts are forgotten
const HANDSHAKE_TIMEOUT = 10_000; // ms from dialling until the owner confirms
const TOKEN_EXPIRED = 4401;

/** What went wrong: `code` is stable, `message` is for people. */
export class TidegateError extends Error {
  constructor({ code = "internal", message = "The gateway refused.", status = 0, retryable = false } = {}) {
    super(message);
    Object.assign(this, { name: "TidegateError", code, status, retryable });
  }
}

export class Connection {
  #owner;
  #socket = null;
  #confirmedAt = 0;
  #attempt = 0;
  #retryTimer;
  #heldUntil = 0;
  #goAwayAt = 0;
  #goAwayTimer;
  #watchdog;
  #lastSeen = 0;
  #silence = HANDSHAKE_TIMEOUT;

  /** @param {Owner} owner */
  constructor(owner) {
    this.#owner = owner;
    /** @type {State} */
    this.state = "closed";
    this.retryAt = 0;
    /** Why it is closed or waits. @type {TidegateError|null} */
    this.error = null;
    /** What the gateway said before it closed the socket. @type {TidegateError|null} */
    this.told = null;
  }

  connect() {
    if (this.state !== "closed") return;
    globalThis.addEventListener?.("online", this.#hurry);
    globalThis.document?.addEventListener("visibilitychange", this.#hurry);
    this.#dial();
  }

  /** @param {TidegateError|null} error why, if not by wish */
  close(error = null) {
    globalThis.removeEventListener?.("online", this.#hurry);
    globalThis.document?.removeEventListener("visibilitychange", this.#hurry);
    this.#discard();
    this.#owner.lost(error ?? new TidegateError({ code: "closed", message: "The client was closed." }));
    this.#become("closed", { error });
  }

  send(text) {
    this.#socket.send(text);
  }

  /** The handshake is complete; from now on `silence` ms without a message mean that the gateway is dead. */
  confirm(silence) {
    this.#confirmedAt = Date.now();
    this.#silence = silence;
    this.#become("open", { error: null });
  }

  /** Drops the socket without a word and comes back: in `delay` ms, when the gateway asked to, or after a jitter. */
  retry(error, delay) {
    const asked = this.#goAwayAt > Date.now() ? this.#goAwayAt - Date.now() : undefined;
    this.#discard();
    this.#owner.lost(error);
    this.#attempt += 1;
    const wait = delay ?? asked ?? Math.random() * Math.min(BACKOFF_CAP, BACKOFF_BASE * 2 ** this.#attempt);
    this.#goAwayAt = 0;
    this.#retryTimer = setTimeout(() => this.#dial(), wait);
    this.#become("waiting", { error, retryAt: Date.now() + wait });
  }

  /** Drops the socket for trying out; when `holdMs` is given, nothing brings it back earlier. */
  drop(holdMs = 0) {
    this.#heldUntil = Date.now() + holdMs;
    const error = new TidegateError({ code: "dropped", message: "The connection was dropped.", retryable: true });
    this.retry(error, holdMs || undefined);
  }

  /** Connects now instead of waiting, unless it is held. */
  retryNow() {
    if (this.state === "waiting" && this.retryAt && Date.now() >= this.#heldUntil) this.#dial();
  }

  /** The gateway goes away: move to another replica in `ms`, or when it closes the socket before, not earlier. */
  goAway(ms) {
    const error = new TidegateError({ code: "goaway", message: "The gateway moves its clients.", retryable: true });
    this.#goAwayAt = Date.now() + ms;
    clearTimeout(this.#goAwayTimer);
    this.#goAwayTimer = setTimeout(() => this.retry(error, 0), ms);
  }

  #hurry = () => {
    if (!globalThis.document?.hidden) this.retryNow();
  };

  #dial() {
    clearTimeout(this.#retryTimer);
    this.#become("connecting");
    try {
      this.#socket = this.#owner.dial();
    } catch {
      const message = "The address or the token holds characters that none has.";
      this.close(new TidegateError({ code: "invalid_token", message, status: 401 }));
      return;
    }
    this.#socket.onmessage = ({ data }) => {
      this.#seen();
      this.#owner.received(data);
    };
    this.#socket.onclose = ({ code, reason }) => this.#closed(code, reason);
    this.#silence = HANDSHAKE_TIMEOUT;
    this.#seen();
  }

  async #closed(code, reason) {
    const message = this.#confirmedAt ? "The connection was lost." : "The gateway cannot be reached.";
    const error = this.told ?? new TidegateError({ code: reason || "connection_lost", message, retryable: true });
    if (code >= 4500 && code <= 4999) {
      this.close(error);
      return;
    }
    if (code === TOKEN_EXPIRED) {
      this.#discard();
      this.#owner.lost(error);
      this.#become("waiting", { error });
      const fresh = await this.#owner.expired();
      if (this.state !== "waiting") return;
      if (!fresh) {
        this.close(error);
        return;
      }
    }
    this.retry(error);
  }

  /** Forgets the present socket: nothing of it is heard any more. */
  #discard() {
    for (const timer of [this.#retryTimer, this.#goAwayTimer, this.#watchdog]) clearTimeout(timer);
    if (this.#socket) {
      this.#socket.onmessage = this.#socket.onclose = null;
      this.#socket.close();
    }
    if (this.#confirmedAt && Date.now() - this.#confirmedAt >= STABLE_AFTER) this.#attempt = 0;
    this.#socket = this.#watchdog = this.told = null;
    this.#confirmedAt = 0;
  }

  /** One timer, which looks at the clock when it fires: those of hidden tabs are late. */
  #seen() {
    this.#lastSeen = Date.now();
    this.#watchdog ??= setTimeout(this.#watch, this.#silence);
  }

  #watch = () => {
    const left = this.#lastSeen + this.#silence - Date.now();
    if (left > 0) this.#watchdog = setTimeout(this.#watch, left);
    else this.retry(new TidegateError({ code: "silent", message: "The gateway went silent.", retryable: true }));
  };

  #become(state, { error = this.error, retryAt = 0 } = {}) {
    Object.assign(this, { state, error, retryAt });
    this.#owner.changed();
  }
}
