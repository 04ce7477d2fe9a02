/** The receipt at a generation's end, compared with what was received. */

/**
 * @typedef {object} Check
 * @property {boolean|null} ok null when this page may not compute hashes.
 * @property {{name: string, ours: string|number, theirs: string|number}[]} compared
 */

/**
 * @param {import("./stream.js").GenerationStream} stream one that has ended with a terminal
 * @returns {Promise<Check>}
 */
export async function checkReceipt(stream) {
  const theirs = stream.terminal.receipt ?? {};
  const sha256 = await digest(stream.text);
  const compared = [
    { name: "events", ours: stream.offset, theirs: theirs.offset },
    { name: "characters", ours: codePoints(stream.text), theirs: theirs.characters },
    { name: "SHA-256", ours: sha256 ?? "unknown", theirs: theirs.sha256 },
  ];
  compared.push(...(await compareFiles(stream.files, theirs.files ?? {})));
  const same = compared.filter(({ name }) => !name.startsWith("SHA-256") || sha256).every(({ ours, theirs }) => ours === theirs);
  return { ok: same && sha256 === null ? null : same, compared };
}

/** Each file that either side knows of: its revision, its length and its hash. */
async function compareFiles(ours, theirs) {
  const compared = [];
  for (const path of new Set([...ours.keys(), ...Object.keys(theirs)])) {
    const file = ours.get(path);
    const sha256 = file ? ((await digest(file.text)) ?? "unknown") : "none";
    const proof = theirs[path] ?? {};
    compared.push(
      { name: `revision of ${path}`, ours: file?.rev ?? "none", theirs: proof.rev ?? "none" },
      { name: `characters of ${path}`, ours: file?.characters ?? "none", theirs: proof.characters ?? "none" },
      { name: `SHA-256 of ${path}`, ours: sha256, theirs: proof.sha256 ?? "none" },
    );
  }
  return compared;
}

/** Characters as the gateway counts them: Unicode code points, not the two halves of an emoji. */
function codePoints(text) {
  let points = 0;
  for (const _ of text) points += 1;
  return points;
}

/** Browsers hash only on pages of HTTPS or of this machine; null elsewhere. */
async function digest(text) {
  if (!globalThis.crypto?.subtle) return null;
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
