/**
 * Sound that plays while it comes. Where the browser can take its format piece by piece (MediaSource), it does; where
 * not, the player is filled at the end. What came is kept: all pieces together are the file.
 */

import { bytesOf, extensionOf, linkTo, safeUrl } from "./bytes.js";
import { write } from "./elements.js";

export class Player {
  #root;
  #audio = document.createElement("audio");
  #link = Object.assign(document.createElement("a"), { textContent: "Download", hidden: true });
  #note = document.createElement("span");
  #taken = 0; // pieces that the browser has
  #media = null; // {source, buffer}
  #own = [];
  #ended = false;

  /** @param {HTMLElement} root */
  constructor(root) {
    this.#root = root;
    this.#audio.controls = true;
    this.#audio.setAttribute("aria-label", "The speech");
    this.#link.setAttribute("aria-label", "Download the speech");
    root.append(this.#audio, this.#note, this.#link);
    root.hidden = false;
  }

  /** @param {import("./stream.js").GenerationStream} stream */
  draw(stream) {
    const { audio, artifacts, status, id } = stream;
    const pieces = audio.filter((piece) => piece.data);
    const artifact = [...artifacts.values()].find(({ mime }) => mime.startsWith("audio/"));
    write(this.#note, pieces.length ? `${pieces.length} ${pieces.length === 1 ? "piece" : "pieces"}` : "");
    this.#root.dataset.pieces = pieces.length;
    if (pieces.length && !this.#media && !this.#ended) this.#open(pieces[0].mime);
    this.#feed(pieces, stream.ended);
    if (!stream.ended || this.#ended) return;
    this.#ended = true;
    const mime = artifact?.mime ?? pieces[0]?.mime ?? "application/octet-stream";
    const whole = pieces.length ? this.#keep(linkTo(pieces.map(({ data }) => bytesOf(data)), mime)) : null;
    const url = artifact?.url ? safeUrl(artifact.url) : whole;
    if (!this.#media && url) this.#audio.src = whole ?? url;
    if (status !== "completed" && !whole) return;
    this.#link.href = url;
    this.#link.download = `${id}.${extensionOf(mime)}`;
    this.#link.hidden = false;
  }

  restart() {
    this.#media = null;
    this.#taken = 0;
    this.#ended = false;
    this.#audio.removeAttribute("src");
  }

  close() {
    this.#audio.pause();
    this.#audio.removeAttribute("src");
    for (const url of this.#own.splice(0)) URL.revokeObjectURL(url);
  }

  #open(mime) {
    const source = globalThis.MediaSource?.isTypeSupported(mime) ? new MediaSource() : null;
    if (!source) return;
    const media = (this.#media = { source, buffer: null, pieces: [], whole: false });
    source.addEventListener("sourceopen", () => {
      if (this.#media !== media) return;
      media.buffer = source.addSourceBuffer(mime);
      media.buffer.mode = "sequence";
      media.buffer.addEventListener("updateend", () => this.#feed(media.pieces, media.whole));
      this.#feed(media.pieces, media.whole);
    });
    this.#audio.src = this.#keep(URL.createObjectURL(source));
    this.#audio.play().catch(() => {}); // Where the page may not begin by itself, its reader does.
  }

  /** Hands over what came, as soon as the browser takes more. */
  #feed(pieces, whole) {
    const media = this.#media;
    if (!media) return;
    Object.assign(media, { pieces, whole });
    const { source, buffer } = media;
    if (!buffer || buffer.updating || source.readyState !== "open") return;
    if (this.#taken < pieces.length) {
      const next = pieces.slice(this.#taken).map(({ data }) => bytesOf(data));
      this.#taken = pieces.length;
      buffer.appendBuffer(joined(next));
      this.#root.dataset.taken = this.#taken;
    } else if (whole) {
      source.endOfStream();
    }
  }

  #keep(url) {
    this.#own.push(url);
    return url;
  }
}

function joined(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
