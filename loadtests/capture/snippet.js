// Records what this page's WebSockets, calls and event sources carry, as a session of tidegate-load.
// Paste it into the console before the page connects (or make it a snippet in DevTools and run it while the page loads).
// tidegateRecording.save() downloads the session, tidegateRecording.stop() leaves the page as it was.
(() => {
  if (window.tidegateRecording) return "It records already: tidegateRecording.save()";
  const MOST = 200_000_000;
  const began = performance.now();
  const lines = [];
  const real = { WebSocket: window.WebSocket, fetch: window.fetch };
  let sockets = 0, calls = 0, size = 0, dropped = 0, header = null;
  const t = () => Math.round((performance.now() - began) * 1000) / 1e6;

  const put = (record) => {
    const line = JSON.stringify(record);
    if (size + line.length > MOST) { dropped += 1; return; }
    size += line.length + 1;
    lines.push(line);
  };
  const base64 = (buffer) => {
    const bytes = new Uint8Array(buffer);
    let text = "";
    for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
    return btoa(text);
  };
  // Tokens go before anything is kept; `tidegate-load import` looks for all other secrets.
  const bare = (text) => text
    .replace(/eyJ[\w-]{5,}\.eyJ[\w-]{5,}\.[\w-]{5,}/g, "${token}")
    .replace(/([?&#](?:access_token|token|jwt)=)[^&#]+/gi, "$1${token}")
    .replace(/([?&#](?:ticket|api_key|apikey)=)[^&#]+/gi, "$1${redacted}");
  const frame = (socket, dir, data, at) => {
    if (typeof data === "string") put({ t: at, socket, dir, op: 1, data: bare(data) });
    else if (data instanceof ArrayBuffer) put({ t: at, socket, dir, op: 2, data: base64(data) });
    else if (ArrayBuffer.isView(data)) {
      put({ t: at, socket, dir, op: 2, data: base64(data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength)) });
    } else if (data instanceof Blob) data.arrayBuffer().then((buffer) => frame(socket, dir, buffer, at));
  };
  const speaks = (offered, url, data) => {
    if (offered.some((each) => each.includes("protobuf"))) return "raw";
    if (offered.includes("tidegate.v1") || /"type":\s*"(auth|connected)"/.test(data)) return "native";
    return /^\{"(id":\d+,"connect|connect)"/.test(data) ? "centrifuge" : null;
  };

  class Recorded extends real.WebSocket {
    constructor(url, protocols = []) {
      super(url, protocols);
      const socket = sockets++;
      const asked = (Array.isArray(protocols) ? protocols : [protocols]).map((each) => each.startsWith("bearer.") ? "bearer.${token}" : bare(each));
      const where = bare(new URL(url, location.href).href.replace(/^http/, "ws"));
      header ??= { url: where, subprotocols: asked, protocol: speaks(asked, where, "") };
      put({ t: t(), socket, dir: "open", url: where, subprotocols: asked });
      const look = (data) => {
        if (!header.protocol && typeof data === "string") header.protocol = speaks(asked, where, data);
      };
      this.addEventListener("message", (event) => { look(event.data); frame(socket, "receive", event.data, t()); });
      this.addEventListener("close", (event) => put({ t: t(), socket, dir: "close", code: event.code, reason: event.reason }));
      this.tidegateSend = (data) => { look(data); frame(socket, "send", data, t()); };
    }
    send(data) {
      this.tidegateSend(data);
      super.send(data);
    }
  }

  const recordedFetch = async (input, init) => {
    const request = new Request(input, init);
    const id = `call-${calls++}`;
    const headers = Object.fromEntries([...request.headers].map(([name, value]) => [name,
      name === "authorization" ? value.replace(/^(\w+)\s.*/, "$1 ${token}") : bare(value)]));
    const at = t();
    const body = ["GET", "HEAD"].includes(request.method) ? "" : await request.clone().text().catch(() => "");
    put({ t: at, dir: "request", id, method: request.method, url: bare(request.url), headers, body: bare(body) });
    try {
      const response = await real.fetch.call(window, input, init);
      const kind = response.headers.get("content-type") || "";
      const told = { "content-type": kind };
      const text = /json|event-stream|ndjson/.test(kind) ? response.clone().text() : Promise.resolve("");
      text.catch(() => "").then((body) => put({ t: t(), dir: "response", id, status: response.status, headers: told, body: bare(body) }));
      return response;
    } catch (error) {
      put({ t: t(), dir: "response", id, status: 0, headers: {}, body: "" });
      throw error;
    }
  };

  window.WebSocket = Recorded;
  window.fetch = recordedFetch;
  window.tidegateRecording = {
    text() {
      const first = { tidegate_session: 1, protocol: "raw", url: location.href.replace(/^http/, "ws"), subprotocols: [],
        ...header, recorder: "tidegate-load snippet", started: new Date(Date.now() - t() * 1000).toISOString(), sockets };
      first.protocol ||= "raw";
      return [JSON.stringify(first), ...lines].join("\n") + "\n";
    },
    save(name = "session.jsonl") {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([this.text()], { type: "application/x-ndjson" }));
      link.download = name;
      link.click();
      return `${lines.length} records in ${name}${dropped ? `, ${dropped} did not fit` : ""}. Now: tidegate-load import ${name} --out clean.jsonl`;
    },
    stop() {
      window.WebSocket = real.WebSocket;
      window.fetch = real.fetch;
      delete window.tidegateRecording;
    },
  };
  return "Recording. tidegateRecording.save() downloads the session.";
})();
