/** Pictures while they are made: a look at each that sharpens, then the picture itself, to be downloaded. */

import { bytesOf, extensionOf, linkTo, safeUrl } from "./bytes.js";

export class Pictures {
  #root;
  #frames = new Map(); // by index: {shown, image, figure, caption, link}

  /** @param {HTMLElement} root */
  constructor(root) {
    this.#root = root;
    root.hidden = false;
  }

  /** @param {import("./stream.js").GenerationStream} stream */
  draw({ artifacts, previews, id }) {
    for (const index of [...new Set([...previews.keys(), ...artifacts.keys()])].sort((a, b) => a - b)) {
      const artifact = artifacts.get(index);
      if (artifact && !artifact.mime.startsWith("image/")) continue;
      this.#show(index, artifact ?? previews.get(index), Boolean(artifact), id);
    }
  }

  close() {
    for (const frame of this.#frames.values()) forget(frame);
  }

  #show(index, event, done, id) {
    const frame = this.#frame(index);
    if (frame.shown === event) return;
    forget(frame);
    frame.shown = event;
    const safe = event.mime.startsWith("image/") && event.mime !== "image/svg+xml";
    if (!safe) return;
    const own = event.data ? linkTo([bytesOf(event.data)], event.mime) : null;
    frame.own = own;
    frame.image.src = own ?? safeUrl(event.url);
    frame.image.alt = done ? `Picture ${index + 1}` : `Picture ${index + 1}, not ready`;
    frame.figure.dataset.done = done;
    frame.link.hidden = !done;
    if (!done) return;
    frame.link.href = frame.image.src;
    frame.link.download = `${id}-${index + 1}.${extensionOf(event.mime)}`;
  }

  #frame(index) {
    if (!this.#frames.has(index)) {
      const figure = document.createElement("figure");
      const image = document.createElement("img");
      const link = Object.assign(document.createElement("a"), { textContent: "Download", hidden: true });
      link.setAttribute("aria-label", `Download picture ${index + 1}`);
      figure.append(image, link);
      this.#root.append(figure);
      this.#frames.set(index, { figure, image, link, shown: null, own: null });
    }
    return this.#frames.get(index);
  }
}

function forget(frame) {
  if (frame.own) URL.revokeObjectURL(frame.own);
  frame.own = null;
}
