/** Small ways to deal with the page's elements. */

/** @param {string} id */
export const byId = (id) => document.getElementById(id);

/** A copy of a template: its one element, and by name the parts of it that are marked `data-part`. */
export function copyOf(templateId) {
  const root = byId(templateId).content.firstElementChild.cloneNode(true);
  const parts = {};
  for (const part of root.querySelectorAll("[data-part]")) parts[part.dataset.part] = part;
  return { root, parts };
}

/** Writes only what has changed: a write of the same text would still cost layout. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Tells a reader of the screen. */
export function announce(text) {
  byId("announcer").textContent = text;
}

/** Calls `draw` once before the next frame is painted, however often it is asked. */
export function drawer(draw) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  };
}

/** Keeps a scrolling box at its end, until the reader scrolls up, and again when he comes back to the end. */
export class Tail {
  #box;
  #top = 0;
  following = true;

  /** @param {HTMLElement} box @param {number} near px from the end that still count as the end */
  constructor(box, near) {
    this.#box = box;
    box.addEventListener("scroll", () => {
      // Growing text and a new size of the page leave the position or move it to the end: only a reader moves it up.
      const up = box.scrollTop < this.#top;
      this.#top = box.scrollTop;
      if (box.scrollHeight - box.scrollTop - box.clientHeight < near) this.following = true;
      else if (up) this.following = false;
    });
  }

  keep() {
    if (this.following) this.#box.scrollTop = this.#box.scrollHeight;
  }
}

/** Says on the button for a moment what became of the click. */
export async function confirmOn(button, action) {
  const label = (button.dataset.label ??= button.textContent);
  try {
    await action();
    button.textContent = "Done";
  } catch {
    button.textContent = "Not allowed";
  }
  clearTimeout(Number(button.dataset.timer));
  button.dataset.timer = setTimeout(() => (button.textContent = label), 1200);
}

const numbers = new Intl.NumberFormat("en");

export const count = (number) => numbers.format(number);

/** 0.4 ms, 42 ms, 1.3 s */
export function duration(ms) {
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
}

/** 59:03, 7:59:03 */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (parts[0] === 0) parts.shift();
  return parts.map((part, index) => (index ? String(part).padStart(2, "0") : part)).join(":");
}
