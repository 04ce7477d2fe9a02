// The loop of the README of ws: every message to every socket.
const { WebSocketServer } = require(`${process.argv[5]}/node/node_modules/ws`);

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]), perMessageDeflate: false, backlog: 4096 });
server.on("connection", (socket) => {
  socket.on("error", () => {});
  socket.on("message", (data) => {
    for (const each of server.clients) if (each.readyState === 1) each.send(data, { binary: false });
  });
});
