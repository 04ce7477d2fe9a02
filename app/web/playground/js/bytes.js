/** Bytes that came in base 64, and links to what came: pure but for the browser's own table of blobs. */

const EXTENSIONS = {
  "image/png": "png",
  "image/jpeg": "jpg",
  "image/webp": "webp",
  "image/gif": "gif",
  "audio/mpeg": "mp3",
  "audio/wav": "wav",
  "text/html": "html",
};

/** @param {string} data base 64 */
export function bytesOf(data) {
  return Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
}

export function extensionOf(mime) {
  return EXTENSIONS[mime] ?? "bin";
}

/** A link within this page to bytes; it lives until it is given back. */
export function linkTo(parts, mime) {
  return URL.createObjectURL(new Blob(parts, { type: mime }));
}

/** Only what a page of this gateway or of HTTP may show: never `javascript:`. @param {string} url */
export function safeUrl(url) {
  const { protocol, href } = new URL(url, location.href);
  return ["http:", "https:"].includes(protocol) ? href : "";
}
