/** The forms that begin a generation of each kind, and what their fields become. */

const MOST_SHOT = 10 * 1024 * 1024; // bytes of a screenshot, as the code service takes

export const SUGGESTIONS = {
  chat: ["What is light?", "Why is the sky blue?", "How does a prism make colours?"],
  image: ["A sunset over mountains", "A city at night, pixel style", "A watercolour of the ocean"],
  code: ["A page with a header and three cards", "A sign-in form with two inputs and a button"],
  speech: ["The tide waits for nobody. But here it keeps its place, and comes back where it left."],
};

export const EMPTY = {
  chat: "Nothing asked yet. Take one of these, and break the connection while it answers:",
  image: "Nothing painted yet. Take one of these, and break the connection while it sharpens:",
  code: "Nothing written yet. Take one of these, or paste a screenshot, and break the connection while it writes:",
  speech: "Nothing said yet. Take this, and break the connection while it speaks:",
  second: "What the first device begins appears here, watched by its id over this device's own socket.",
};

export class Composers {
  #parts;
  #make;
  #shot = null; // a data URL

  /**
   * @param {Record<string, HTMLElement>} parts the device's
   * @param {(kind: string, input: object, words: string) => void} make
   */
  constructor(parts, make) {
    this.#parts = parts;
    this.#make = make;
    const { composer, imageForm, codeForm, speechForm, codeFile, codeClear, codePrompt } = parts;
    for (const form of [composer, imageForm, codeForm, speechForm]) {
      const field = form.querySelector("textarea");
      field.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
        event.preventDefault();
        form.requestSubmit();
      });
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        this.#send(form.dataset.kind, field);
      });
    }
    const { composers, options } = parts;
    options.addEventListener("click", () => {
      const shown = composers.classList.toggle("unfolded");
      options.setAttribute("aria-expanded", shown);
    });
    codeFile.addEventListener("change", () => this.#upload(codeFile.files[0]));
    codeClear.addEventListener("click", () => this.#setShot(null));
    codePrompt.addEventListener("paste", (event) => {
      const image = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
      if (!image) return;
      event.preventDefault();
      this.#upload(image);
    });
  }

  focus(kind) {
    this.#field(kind).focus({ preventScroll: true });
  }

  /** Begins one with these words. */
  take(kind, text) {
    const field = this.#field(kind);
    field.value = text;
    this.#send(kind, field);
    field.focus();
  }

  #field(kind) {
    const { message, imagePrompt, codePrompt, speechText } = this.#parts;
    return { chat: message, image: imagePrompt, code: codePrompt, speech: speechText }[kind];
  }

  #send(kind, field) {
    const text = field.value.trim();
    if (!text && !(kind === "code" && this.#shot)) {
      field.focus();
      return;
    }
    const input = this.#inputs[kind](text);
    field.value = "";
    if (kind === "code") this.#setShot(null);
    this.#make(kind, input, text || "A screenshot");
  }

  #inputs = {
    chat: (message) => ({ message, ...given({ model: this.#parts.model.value.trim() }) }),
    image: (prompt) => {
      const { imageSize, imageCount, imageSeed, imageSteps, imageBatch } = this.#parts;
      const [count, seed] = [numberOf(imageCount) ?? 1, numberOf(imageSeed)];
      const one = { prompt, size: imageSize.value, ...given({ steps: numberOf(imageSteps) }) };
      if (!imageBatch.checked) return { ...one, num_images: count, ...given({ seed }) };
      return { requests: Array.from({ length: count }, (_, index) => ({ ...one, ...(seed !== null && { seed: seed + index }) })) };
    },
    code: (prompt) => {
      const { codeStack, codeVariants } = this.#parts;
      const asked = given({ prompt, image: this.#shot });
      return { ...asked, code_stack: codeStack.value, variants: numberOf(codeVariants) ?? 1 };
    },
    speech: (text) => ({ text, voice: this.#parts.speechVoice.value, model: this.#parts.speechModel.value }),
  };

  async #upload(file) {
    if (!file || !file.type.startsWith("image/") || file.size > MOST_SHOT) {
      this.#setShot(null);
      return;
    }
    this.#setShot(await dataUrl(file));
  }

  #setShot(url) {
    const { codeShot, codeImage, codeFile } = this.#parts;
    this.#shot = url;
    codeShot.hidden = !url;
    if (url) codeImage.src = url;
    else {
      codeImage.removeAttribute("src");
      codeFile.value = "";
    }
  }
}

/** The fields that have a value. */
function given(fields) {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null && value !== ""));
}

function numberOf(field) {
  return field.value === "" || !field.validity.valid ? null : Number(field.value);
}

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(file);
  });
}
