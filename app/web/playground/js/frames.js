/** The view of the recorder: only the rows in sight are in the page, however many there are. */

import { byId, confirmOn, count, drawer, Tail, write } from "./elements.js";
import { MOST_ROWS } from "./recorder.js";

const ROW = 26; // px, as in style.css
const SPARE = 6; // rows above and below
const COLUMNS = ["time", "source wide", "arrow", "what", "number", "number", "number", "number wide"];
const ARROWS = { sent: "↑", received: "↓", socket: "•" };
const KINDS = {
  all: () => true,
  quiet: (row) => row.type !== "delta",
  sent: (row) => row.direction === "sent",
  received: (row) => row.direction === "received",
  socket: (row) => row.direction === "socket",
};

export class Frames {
  #recorder;
  #source; // the recorder's rows, or while paused a copy
  #rows = []; // those that fit the filter
  #paused = false;
  #missed = 0;
  #chosen = null;
  #tail;
  #pool = [];

  /** @param {import("./recorder.js").Recorder} recorder */
  constructor(recorder) {
    this.#recorder = recorder;
    this.#source = recorder.rows;
    this.list = byId("frames-list");
    this.#tail = new Tail(this.list, ROW);
    recorder.addEventListener("rows", () => this.#changed());
    this.list.addEventListener("scroll", () => this.draw(), { passive: true });
    this.list.addEventListener("keydown", (event) => this.#key(event));
    this.list.addEventListener("click", (event) => this.#click(event));
    new ResizeObserver(() => this.draw()).observe(this.list);
    this.#tools();
    this.draw();
  }

  draw = drawer(() => this.#draw());

  #tools() {
    byId("frames-text").addEventListener("input", () => this.draw());
    byId("frames-kind").addEventListener("change", () => this.draw());
    byId("frames-pause").addEventListener("click", () => this.#pause(!this.#paused));
    byId("frames-clear").addEventListener("click", () => {
      this.#choose(null);
      this.#pause(false);
      this.#recorder.clear();
    });
    const copy = byId("frames-copy");
    copy.addEventListener("click", () => confirmOn(copy, () => navigator.clipboard.writeText(this.#jsonLines())));
    byId("frames-save").addEventListener("click", () => this.#save());
    byId("frames-shut").addEventListener("click", () => {
      this.#choose(null);
      this.list.focus();
    });
  }

  #changed() {
    if (this.#paused) this.#missed += 1;
    this.draw();
  }

  #pause(paused) {
    this.#paused = paused;
    this.#source = paused ? [...this.#recorder.rows] : this.#recorder.rows;
    this.#missed = 0;
    const button = byId("frames-pause");
    button.setAttribute("aria-pressed", paused);
    button.textContent = paused ? "Go on" : "Pause";
    if (!paused) this.#tail.following = true;
    this.draw();
  }

  /** What passes the filter now; a reader who has scrolled up keeps the rows he looks at where they are. */
  #refilter() {
    const anchor = this.#tail.following ? null : this.#rows[Math.floor(this.list.scrollTop / ROW)];
    const words = byId("frames-text").value.trim().toLowerCase();
    const kind = KINDS[byId("frames-kind").value];
    const fits = (row) => kind(row) && (!words || `${row.type} ${row.about} ${row.json}`.toLowerCase().includes(words));
    this.#rows = this.#source.filter(fits);
    byId("frames-space").style.height = `${this.#rows.length * ROW}px`;
    this.#tail.keep();
    const at = anchor ? this.#rows.indexOf(anchor) : -1;
    if (at >= 0) this.list.scrollTop = at * ROW + (this.list.scrollTop % ROW);
  }

  #draw() {
    if (this.list.clientHeight === 0) return; // Another view is in sight.
    this.#refilter();
    const rows = this.#rows;
    const first = Math.max(0, Math.floor(this.list.scrollTop / ROW) - SPARE);
    const last = Math.min(rows.length, Math.ceil((this.list.scrollTop + this.list.clientHeight) / ROW) + SPARE);
    byId("frames-window").style.transform = `translateY(${first * ROW}px)`;
    this.#fill(rows.slice(first, last), first);
    this.#foot(rows.length);
  }

  #fill(rows, first) {
    while (this.#pool.length < rows.length) this.#pool.push(new RowView(byId("frames-window")));
    this.#pool.forEach((view, index) => view.show(rows[index] ?? null, first + index, rows[index] === this.#chosen));
    const at = this.#chosen ? this.#rows.indexOf(this.#chosen) : -1;
    if (at >= first && at < first + rows.length) this.list.setAttribute("aria-activedescendant", `frame-${at}`);
    else this.list.removeAttribute("aria-activedescendant");
  }

  #foot(shown) {
    const all = this.#source.length;
    const empty = byId("frames-empty");
    empty.hidden = shown > 0;
    write(empty, all ? "No frame fits the filter." : "Frames of both directions appear here as they pass.");
    const kept = all >= MOST_ROWS ? `the last ${count(all)}` : count(all);
    const paused = this.#paused ? `, paused, ${count(this.#missed)} new` : "";
    const shownOf = shown === all ? "" : `${count(shown)} of `;
    write(byId("frames-count"), `${shownOf}${kept} frames${paused}`);
  }

  #key(event) {
    const page = Math.max(1, Math.floor(this.list.clientHeight / ROW) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key === "Escape") this.#choose(null);
    const step = steps[event.key];
    if (step === undefined || !this.#rows.length) return;
    event.preventDefault();
    const last = this.#rows.length - 1;
    const at = this.#chosen ? this.#rows.indexOf(this.#chosen) : last + (step < 0 ? 1 : 0);
    const index = Math.min(last, Math.max(0, at + step));
    this.#choose(this.#rows[index]);
    const top = index * ROW;
    if (top < this.list.scrollTop) this.list.scrollTop = top;
    const below = top + ROW - this.list.clientHeight;
    if (below > this.list.scrollTop) this.list.scrollTop = below;
  }

  #click(event) {
    const row = event.target.closest(".frame-row");
    if (row) this.#choose(this.#rows[Number(row.dataset.index)] ?? null);
  }

  #choose(row) {
    this.#chosen = row;
    if (row) this.#tail.following = false;
    byId("frames-detail").hidden = row === null;
    if (row) byId("frames-json").textContent = pretty(row.json);
    this.draw();
  }

  #jsonLines() {
    return this.#rows.map((row) => `${JSON.stringify(exported(row))}\n`).join("");
  }

  #save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([this.#jsonLines()], { type: "application/jsonl" }));
    link.download = `tidegate-${new Date().toISOString().slice(0, 19).replaceAll(":", "")}.jsonl`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
}

/** One row's elements, used again and again. */
class RowView {
  constructor(parent) {
    this.root = document.createElement("div");
    this.root.className = "frame-row";
    this.root.setAttribute("role", "option");
    this.cells = COLUMNS.map((name) => {
      const cell = document.createElement("span");
      cell.className = name;
      this.root.append(cell);
      return cell;
    });
    this.hours = document.createElement("span");
    this.hours.className = "wide";
    this.minutes = document.createElement("span");
    this.cells[0].append(this.hours, this.minutes);
    this.type = document.createElement("b");
    this.about = document.createElement("span");
    this.cells[3].append(this.type, " ", this.about);
    parent.append(this.root);
  }

  show(row, index, chosen) {
    this.root.hidden = row === null;
    if (row === null) return;
    Object.assign(this.root.dataset, { index, direction: row.direction, type: row.type });
    this.root.id = `frame-${index}`;
    this.root.setAttribute("aria-selected", chosen);
    const [, source, arrow, , offset, bytes, gap, since] = this.cells;
    const time = timeOf(row.at);
    write(this.hours, time.slice(0, 3));
    write(this.minutes, time.slice(3));
    write(source, String(row.device));
    write(arrow, ARROWS[row.direction]);
    arrow.title = row.direction;
    write(this.type, row.type);
    write(this.about, row.about);
    write(offset, offsets(row));
    write(bytes, row.bytes === null ? "" : count(row.bytes));
    write(gap, milliseconds(row.gap));
    write(since, milliseconds(row.since));
  }
}

function timeOf(at) {
  const date = new Date(at);
  const two = (number) => String(number).padStart(2, "0");
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(":");
  return `${time}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

function offsets({ offset, merged }) {
  if (offset === null) return "";
  return merged > 1 ? `${offset - merged + 1}–${offset}` : String(offset);
}

function milliseconds(ms) {
  if (ms === null) return "";
  return ms < 10 ? ms.toFixed(1) : count(Math.round(ms));
}

function pretty(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json; // It was too long to be kept whole.
  }
}

function exported({ at, json, gap, since, ...row }) {
  let frame = json;
  try {
    frame = JSON.parse(json);
  } catch {
    // The beginning of a long one, as text.
  }
  const rounded = (ms) => (ms === null ? null : Math.round(ms * 10) / 10);
  return { time: new Date(at).toISOString(), ...row, gap_ms: rounded(gap), since_ms: rounded(since), frame };
}
