/** One file of a generation: its code as it is written, what changed since a revision, and a look at the page. */

import { linkTo } from "./bytes.js";
import { diffLines, hunks } from "./diff.js";
import { copyOf, count, Tail, write } from "./elements.js";
import { Look } from "./look.js";

const PREVIEW_EVERY = 400; // ms: each new look loads a page
const MARKS = { same: " ", added: "+", removed: "-" };

export class FilePane {
  #options;
  #file = null;
  #view = "code";
  #since = 0;
  #drawn = ""; // what the look and the changes are of
  #previewAt = 0;
  #timer = 0;
  #tail;
  #look;
  #link = null;

  /** @param {string} path @param {{base: string, onRefine: (instruction: string) => void}} options */
  constructor(path, options) {
    this.#options = options;
    const { root, parts } = copyOf("file-template");
    this.root = root;
    this.parts = parts;
    root.setAttribute("aria-label", path);
    write(parts.path, path);
    this.#tail = new Tail(parts.code, 40);
    this.#look = new Look(parts.frame);
    parts.frame.title = `A look at ${path}`;
    write(parts.baseText, options.base ? "Revision 0 is the file that it was refined from." : "Revision 0 is empty.");
    for (const button of parts.views.children) {
      button.addEventListener("click", () => this.#show(button.dataset.view));
    }
    parts.since.addEventListener("input", () => this.#choose(Number(parts.since.value)));
    parts.refine.addEventListener("submit", (event) => {
      event.preventDefault();
      const instruction = parts.instruction.value.trim();
      if (!instruction) return;
      parts.instruction.value = "";
      options.onRefine(instruction);
    });
    parts.download.addEventListener("click", () => this.#offer());
    this.#show("code");
  }

  /** @param {import("./files.js").FileText} file */
  draw(file, ended) {
    this.#file = file;
    const { parts } = this;
    write(parts.size, `revision ${count(file.rev)}, ${count(file.characters)} characters`);
    this.#drawCode(file.text);
    parts.since.max = Math.max(0, file.rev - 1);
    parts.refine.hidden = parts.download.hidden = !ended;
    if (this.#view === "changes") this.#drawChanges();
    if (this.#view === "preview") this.#drawPreviewSoon(ended);
  }

  /** Adds what came at the end, which is nearly always; only a change within writes all anew. */
  #drawCode(text) {
    const { code } = this.parts;
    const node = (code.firstChild ?? code.appendChild(document.createTextNode("")));
    if (text.startsWith(node.data)) node.appendData(text.slice(node.data.length));
    else node.data = text;
    this.#tail.keep();
  }

  #show(view) {
    this.#view = view;
    this.root.dataset.view = view;
    for (const button of this.parts.views.children) button.setAttribute("aria-pressed", button.dataset.view === view);
    this.#drawn = "";
    if (!this.#file) return;
    if (view === "changes") this.#drawChanges();
    if (view === "preview") this.#drawPreview();
  }

  #choose(rev) {
    this.#since = rev;
    this.#drawChanges();
  }

  #drawChanges() {
    const file = this.#file;
    const { since, sinceText, changes } = this.parts;
    const rev = Math.min(this.#since, Number(since.max));
    write(sinceText, `Since revision ${count(rev)}`);
    const state = `${rev} ${file.rev}`;
    if (state === this.#drawn) return;
    this.#drawn = state;
    const before = rev ? file.at(rev) : this.#options.base;
    const lines = hunks(diffLines(before, file.text)).map((line) => {
      const row = document.createElement("span");
      row.dataset.kind = line?.kind ?? "skipped";
      row.textContent = line ? `${MARKS[line.kind]} ${line.text}\n` : "⋯\n";
      return row;
    });
    changes.replaceChildren(...lines);
    if (!lines.length) changes.textContent = "Nothing changed.";
  }

  #drawPreviewSoon(ended) {
    const wait = this.#previewAt + PREVIEW_EVERY - performance.now();
    clearTimeout(this.#timer);
    if (wait <= 0 || ended) this.#drawPreview();
    else this.#timer = setTimeout(() => this.#drawPreview(), wait);
  }

  #drawPreview() {
    if (this.#view !== "preview" || this.#drawn === this.#file.text) return;
    this.#drawn = this.#file.text;
    this.#previewAt = performance.now();
    this.#look.show(this.#file.text);
  }

  #offer() {
    const link = document.createElement("a");
    if (this.#link) URL.revokeObjectURL(this.#link);
    link.href = this.#link = linkTo([this.#file.text], "text/plain");
    link.download = this.#file.path.replaceAll("/", "-");
    link.click();
  }
}
