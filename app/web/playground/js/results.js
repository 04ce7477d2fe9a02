/**
 * What a generation makes, beside text: how far it is, pictures, files, sound. Drawn from what its stream holds, not
 * from single events, so that it is right after any catching up.
 */

import { duration, write } from "./elements.js";
import { FilePane } from "./filepane.js";
import { Pictures } from "./pictures.js";
import { Player } from "./player.js";

const STAGES = { speaking: "Speaking", painting: "Painting", reading: "Reading", measuring: "Measuring" };

export class Results {
  #parts;
  #options;
  #pictures = null;
  #player = null;
  #files = new Map(); // FilePanes by path
  #bases = new Map(); // by path: what a file was refined from

  /**
   * @param {Record<string, HTMLElement>} parts the turn's
   * @param {{onRefine: (path: string, instruction: string) => void, bases?: Map<string, string>}} options
   */
  constructor(parts, options) {
    this.#parts = parts;
    this.#options = options;
    this.#bases = options.bases ?? new Map();
  }

  /** @param {import("./stream.js").GenerationStream} stream */
  draw(stream) {
    this.#drawProgress(stream);
    if (isPictured(stream)) {
      this.#pictures ??= new Pictures(this.#parts.pictures);
      this.#pictures.draw(stream);
    }
    if (isHeard(stream)) {
      this.#player ??= new Player(this.#parts.sound);
      this.#player.draw(stream);
    }
    for (const [path, file] of stream.files) this.#pane(path).draw(file, stream.ended);
  }

  /** What was shown is void. */
  restart() {
    this.#player?.restart();
  }

  /** Gives back what the browser keeps for it. */
  close() {
    this.#pictures?.close();
    this.#player?.close();
  }

  #pane(path) {
    if (!this.#files.has(path)) {
      const pane = new FilePane(path, {
        base: this.#bases.get(path) ?? "",
        onRefine: (instruction) => this.#options.onRefine(path, instruction),
      });
      this.#files.set(path, pane);
      this.#parts.files.hidden = false;
      this.#parts.files.append(pane.root);
    }
    return this.#files.get(path);
  }

  #drawProgress({ progress, place, status, ended }) {
    const { progress: row, bar, stage, eta } = this.#parts;
    const waiting = status === "queued" && place !== null;
    row.hidden = ended || (!waiting && !progress);
    if (row.hidden) return;
    const percent = progress?.percent;
    if (percent === undefined) bar.removeAttribute("value");
    else bar.value = percent;
    const steps = progress?.step !== undefined && progress.total ? `step ${progress.step} of ${progress.total}` : "";
    const words = [STAGES[progress?.stage] ?? progress?.stage, steps, percent !== undefined && `${Math.round(percent)} %`];
    const queue = place === 0 ? "In the queue: the next one" : `In the queue: ${place} before it`;
    write(stage, waiting && !progress ? queue : words.filter(Boolean).join(", "));
    write(eta, progress?.eta_ms ? `${duration(progress.eta_ms)} left` : "");
  }
}

const isPictured = ({ artifacts, previews }) =>
  previews.size > 0 || [...artifacts.values()].some(({ mime }) => mime.startsWith("image/"));

const isHeard = ({ artifacts, audio }) =>
  audio.length > 0 || [...artifacts.values()].some(({ mime }) => mime.startsWith("audio/"));

