/** What changed between two texts, line by line: pure. Eugene Myers, "An O(ND) Difference Algorithm", 1986. */

const MOST_EDITS = 400; // past which two texts have nothing to do with each other

/**
 * @typedef {object} Line
 * @property {"same"|"added"|"removed"} kind
 * @property {string} text
 *
 * @param {string} before @param {string} after @returns {Line[]}
 */
export function diffLines(before, after) {
  const a = before ? before.split("\n") : [];
  const b = after ? after.split("\n") : [];
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a.at(-1 - end) === b.at(-1 - end)) end += 1;
  return [
    ...as("same", a.slice(0, start)),
    ...middle(a.slice(start, a.length - end), b.slice(start, b.length - end)),
    ...as("same", a.slice(a.length - end)),
  ];
}

/** The lines to show: those that changed with some around them, and null where lines were left out. */
export function hunks(lines, around = 3) {
  const near = new Uint8Array(lines.length);
  lines.forEach((line, index) => {
    if (line.kind !== "same") near.fill(1, Math.max(0, index - around), index + around + 1);
  });
  const shown = [];
  lines.forEach((line, index) => {
    if (near[index]) shown.push(line);
    else if (shown.at(-1) !== null) shown.push(null);
  });
  return shown;
}

function as(kind, texts) {
  return texts.map((text) => ({ kind, text }));
}

function middle(a, b) {
  const trace = search(a, b);
  if (!trace) return [...as("removed", a), ...as("added", b)];
  const lines = [];
  let [x, y] = [a.length, b.length];
  for (let edits = trace.length - 1; edits > 0; edits -= 1) {
    const reach = trace[edits - 1];
    const k = x - y;
    const down = k === -edits || (k !== edits && at(reach, k - 1) < at(reach, k + 1));
    const fromX = at(reach, down ? k + 1 : k - 1);
    const fromY = fromX - (down ? k + 1 : k - 1);
    while (x > fromX && y > fromY && x > 0 && y > 0 && a[x - 1] === b[y - 1]) {
      lines.push({ kind: "same", text: a[(x -= 1)] });
      y -= 1;
    }
    lines.push(down ? { kind: "added", text: b[fromY] } : { kind: "removed", text: a[fromX] });
    [x, y] = [fromX, fromY];
  }
  while (x > 0) lines.push({ kind: "same", text: a[(x -= 1)] });
  return lines.reverse();
}

/** How far each diagonal reaches after 0, 1, 2 … edits, until the end is reached; null when it is too far. */
function search(a, b) {
  let reach = new Map([[1, 0]]);
  const trace = [];
  for (let edits = 0; edits <= Math.min(MOST_EDITS, a.length + b.length); edits += 1) {
    const next = new Map();
    for (let k = -edits; k <= edits; k += 2) {
      const down = k === -edits || (k !== edits && at(reach, k - 1) < at(reach, k + 1));
      let x = edits === 0 ? 0 : down ? at(reach, k + 1) : at(reach, k - 1) + 1;
      while (x < a.length && x - k < b.length && x - k >= 0 && a[x] === b[x - k]) x += 1;
      next.set(k, x);
      if (x >= a.length && x - k >= b.length) return [...trace, next];
    }
    trace.push(next);
    reach = next;
  }
  return null;
}

const at = (reach, k) => reach.get(k) ?? -1;
