/** The page: signing in, the devices, the views, and what ties them together. */

import "./buffering.js";
import { Code, SOCKET } from "./code.js";
import { Device } from "./device.js";
import { byId, clock, write } from "./elements.js";
import { Frames } from "./frames.js";
import { Recorder } from "./recorder.js";
import { cure, SignInError, Token } from "./token.js";

const WIDE = matchMedia("(min-width: 960px)"); // as in style.css

const recorder = new Recorder();
const frames = new Frames(recorder);
const code = new Code();
/** @type {Token|null} */
let token = null;
/** @type {Device[]} */
let devices = [];
let renewal = null;

// Signing in.

byId("mint-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const company = byId("mint-company").value.trim();
  const wish = { sub: byId("mint-sub").value.trim(), ttl: Number(byId("mint-ttl").value), ...(company && { company }) };
  signIn(byId("mint-button"), () => Token.mint(wish));
});

byId("paste-form").addEventListener("submit", (event) => {
  event.preventDefault();
  signIn(byId("paste-button"), () => Token.paste(byId("paste-token").value));
});

byId("sign-out").addEventListener("click", () => signOut());

async function signIn(button, get) {
  button.disabled = true;
  showError(null);
  try {
    token = await get();
    addDevice();
    await firstAnswer(devices[0].client);
    enter();
  } catch (error) {
    signOut();
    showError(error instanceof SignInError ? error.message : cure(error));
  } finally {
    button.disabled = false;
  }
}

/** Resolves when the gateway has let the client in, and rejects when it has not. */
function firstAnswer(client) {
  return new Promise((resolve, reject) => {
    const look = () => {
      if (client.state === "open") resolve();
      else if (client.error) reject(client.error);
    };
    client.addEventListener("state", look);
    look();
  });
}

function enter() {
  byId("paste-token").value = "";
  byId("welcome").hidden = true;
  byId("bench").hidden = false;
  byId("who").hidden = false;
  document.body.classList.add("working");
  code.show({ type: "sign-in" });
  tab(WIDE.matches ? "frames" : "chat");
  drawToken();
  frames.draw();
  devices[0]?.parts.message.focus({ preventScroll: true });
  watchLinked();
}

/** Shows what a link to this page names: `#watch=image:gen_…`. */
function watchLinked() {
  const [, kind, id] = location.hash.match(/^#watch=(chat|image|code|speech):([\w-]+)$/) ?? [];
  if (!id) return;
  devices[0].show(kind);
  devices[0].watch(id, kind);
}

function signOut() {
  for (const device of devices) device.close();
  devices = [];
  token = null;
  recorder.clear();
  byId("welcome").hidden = false;
  byId("bench").hidden = true;
  byId("who").hidden = true;
  document.body.classList.remove("working");
}

function showError(text) {
  const error = byId("sign-in-error");
  error.hidden = !text;
  error.textContent = text ?? "";
}

// Devices.

function addDevice() {
  const second = devices.length > 0;
  const device = new Device({
    number: devices.length + 1,
    url: SOCKET,
    token: () => token.value,
    refreshToken,
    recorder,
    kind: devices[0]?.kind ?? "chat",
    onAct: took,
    onTwin: second ? null : addTwin,
    onLeave: second ? removeTwin : null,
  });
  devices.push(device);
  byId("panel-chat").append(device.root);
  device.start();
  return device;
}

function addTwin() {
  const [first] = devices;
  const twin = addDevice();
  const { id, kind } = first.latest ?? {};
  if (id) twin.watch(id, kind);
  first.parts.twin.disabled = true;
  code.show({ type: "watch", id });
  twin.root.scrollIntoView({ block: "nearest", behavior: "smooth" });
}

function removeTwin() {
  devices.pop().close();
  devices[0].parts.twin.disabled = false;
  devices[0].parts.twin.focus();
}

/** What one device starts, the others watch. */
function took(device, act) {
  if (act.type === "started") {
    for (const other of devices) if (other !== device) other.watch(act.id, act.kind);
  } else {
    code.show(act);
  }
}

// The token.

/** One renewal for all devices. Resolves to null when there is no way to get another token. */
async function refreshToken() {
  if (!token?.wish) {
    for (const device of devices) device.warn("The token is about to expire. Paste a fresh one under Token.");
    return null;
  }
  renewal ??= Token.mint(token.wish).finally(() => (renewal = null));
  token = await renewal;
  drawToken();
  return token.value;
}

async function replaceToken(next) {
  await Promise.all(devices.map((device) => device.client.refresh(next.value)));
  token = next;
  for (const device of devices) device.start();
  drawToken();
}

byId("token-refresh").addEventListener("click", () => {
  tryToken(async () => {
    if (!token.wish) throw new SignInError("This token was pasted. Paste a fresh one below to replace it.");
    await replaceToken(await Token.mint(token.wish));
  });
});

byId("replace-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const field = byId("replace-token");
  tryToken(async () => {
    await replaceToken(Token.paste(field.value));
    field.value = "";
  });
});

async function tryToken(action) {
  const note = byId("token-note");
  try {
    await action();
    note.dataset.state = "ok";
    note.textContent = `Refreshed at ${new Date().toLocaleTimeString()}, on the live socket.`;
  } catch (error) {
    note.dataset.state = "bad";
    note.textContent = error instanceof SignInError ? error.message : `${error.message} The old token stays.`;
  }
}

function drawToken() {
  if (!token) return;
  const { claims } = token;
  const user = devices[0]?.client.session?.user_id ?? claims.sub ?? "anonymous";
  write(byId("token-user"), String(user));
  write(byId("token-company"), String(claims.company_id ?? claims.company ?? "–"));
  write(byId("token-claims"), JSON.stringify(claims, null, 2));
  write(byId("token-expires"), claims.exp ? new Date(claims.exp * 1000).toLocaleString() : "never");
  write(byId("identity-name"), [user, claims.company_id].filter(Boolean).join(" · "));
  tick();
}

function tick() {
  if (!token) return;
  const left = token.left();
  const text = left === null ? "no expiry" : left > 0 ? clock(left) : "expired";
  write(byId("identity-time"), text);
  write(byId("token-left"), text);
  byId("identity").dataset.soon = left !== null && left < 60;
}

setInterval(tick, 500);
byId("identity").addEventListener("click", () => tab("token", { focus: true }));

// The views.

const tabs = [...document.querySelectorAll("[role=tab]")];

/** On wide screens the devices are always in sight, and their tab is not there. */
function tab(name, { focus = false } = {}) {
  byId("bench").dataset.tab = name;
  for (const button of tabs) {
    const chosen = button.dataset.tab === name;
    button.setAttribute("aria-selected", chosen);
    button.tabIndex = chosen ? 0 : -1;
    if (chosen && focus) button.focus();
  }
  frames.draw();
}

for (const button of tabs) {
  button.addEventListener("click", () => tab(button.dataset.tab));
  button.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const there = tabs.filter((other) => other.offsetParent !== null);
    const next = there[(there.indexOf(button) + step + there.length) % there.length];
    tab(next.dataset.tab, { focus: true });
  });
}

WIDE.addEventListener("change", () => {
  const present = byId("bench").dataset.tab;
  if (WIDE.matches && present === "chat") tab("frames");
});
