// Socket.IO as its documentation has it, with recovery of what was missed during a disconnection of up to two minutes.
const { createServer } = require("node:http");
const { Server } = require(`${process.argv[5]}/node/node_modules/socket.io`);

const http = createServer();
const io = new Server(http, {
  transports: ["websocket"],
  perMessageDeflate: false,
  httpCompression: false,
  pingInterval: 300_000,
  pingTimeout: 300_000,
  connectionStateRecovery: { maxDisconnectionDuration: 120_000 },
});
io.on("connection", (socket) => socket.on("say", (data) => io.emit("said", data)));
http.listen({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 4096 });
