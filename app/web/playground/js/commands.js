/** Commands and their answers: each is sent once per connection until it is answered. */

export class Commands {
  #send;
  #nextId = 1;
  #waiting = new Map(); // by id: {command, sent, take, resolve, reject}

  /** @param {(command: object) => boolean} send false when there is no connection to send it on */
  constructor(send) {
    this.#send = send;
  }

  nextId() {
    return this.#nextId++;
  }

  /**
   * Sends a command, now or when connected, and resolves to what `take` makes of its reply. `take` runs at once, not in
   * a later microtask, because the next message may be an event of the stream that the reply is about.
   */
  request(command, take = (reply) => reply) {
    return new Promise((resolve, reject) => {
      const id = this.nextId();
      const entry = { command: { ...command, id }, sent: false, take, resolve, reject };
      this.#waiting.set(id, entry);
      entry.sent = this.#send(entry.command);
    });
  }

  /** There is a new connection. */
  resend() {
    for (const entry of this.#waiting.values()) entry.sent ||= this.#send(entry.command);
  }

  /** The connection is gone. Commands wait for the next one, but for those that `keep` is false for. */
  lost(error, keep) {
    for (const [id, entry] of this.#waiting) {
      entry.sent = false;
      if (keep(entry.command)) continue;
      this.#waiting.delete(id);
      entry.reject(error);
    }
  }

  /** Takes an answer; false when no command waits for it. */
  settle(message, error = null) {
    const entry = this.#waiting.get(message.id);
    if (!entry) return false;
    this.#waiting.delete(message.id);
    if (error) entry.reject(error);
    else entry.resolve(entry.take(message));
    return true;
  }
}
