/**
 * Files as a generation's `set` and `patch` events make them, and proof that they are right: pure, no page.
 *
 * Positions count Unicode code points. A text without characters beyond U+FFFF can be cut by UTF-16 units, which is
 * what JavaScript is quick at, so each file knows whether it has any.
 */

const ASTRAL = /[\ud800-\udfff]/;

export class FileText {
  #astral = false;
  #changes = []; // of each revision, to go back to one

  /** @param {string} path */
  constructor(path) {
    this.path = path;
    this.rev = 0;
    this.text = "";
    /** Unicode code points. */
    this.characters = 0;
  }

  /** Takes the file's next event; false, and no change, for a patch that does not fit what is here. */
  take(event) {
    if (event.type === "set") {
      this.text = event.text;
      this.#astral = ASTRAL.test(event.text);
      this.characters = this.#astral ? [...event.text].length : event.text.length;
    } else if (!this.#splice(event)) {
      return false;
    }
    this.rev = event.rev;
    this.#changes.push(event);
    return true;
  }

  /** The text at revision `rev`; empty before the first. */
  at(rev) {
    if (rev >= this.rev) return this.text;
    const earlier = new FileText(this.path);
    const changes = this.#changes.filter((change) => change.rev <= rev);
    const last = changes.findLastIndex((change) => change.type === "set");
    for (const change of changes.slice(Math.max(0, last))) earlier.take(change);
    return earlier.text;
  }

  #splice({ base_rev, from, del, ins }) {
    if (base_rev !== this.rev || from < 0 || del < 0 || from + del > this.characters) return false;
    this.#astral ||= ASTRAL.test(ins);
    if (from === this.characters) {
      this.text += ins;
    } else if (this.#astral) {
      const points = [...this.text];
      this.text = points.slice(0, from).join("") + ins + points.slice(from + del).join("");
    } else {
      this.text = this.text.slice(0, from) + ins + this.text.slice(from + del);
    }
    this.characters += (this.#astral ? [...ins].length : ins.length) - del;
    return true;
  }
}

/** All files of a generation, in the order in which they began. */
export class Files extends Map {
  take(event) {
    if (!this.has(event.path)) this.set(event.path, new FileText(event.path));
    return this.get(event.path).take(event);
  }
}
