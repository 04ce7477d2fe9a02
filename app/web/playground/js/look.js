/**
 * A frame that shows generated pages: `/playground/preview`, a document of nobody's origin with a policy of its own,
 * which takes what it shows as a message.
 */

const PLACE = "preview";

export class Look {
  #frame;
  #code = null; // what is shown, or will be
  #loaded = false;

  /** @param {HTMLIFrameElement} frame whose sandbox allows scripts and no origin */
  constructor(frame) {
    this.#frame = frame;
    frame.addEventListener("load", () => {
      this.#loaded = Boolean(frame.getAttribute("src"));
      this.#send();
    });
  }

  /** @param {string} code HTML, or a React or Vue component, perhaps not yet whole */
  show(code) {
    this.#code = code;
    if (!this.#frame.getAttribute("src")) this.#frame.src = PLACE;
    else this.#send();
  }

  #send() {
    // Nobody's origin has no name to send to; the frame is ours, and what it gets is no secret.
    if (this.#loaded && this.#code !== null) this.#frame.contentWindow.postMessage(this.#code, "*");
  }
}
