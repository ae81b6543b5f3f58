// A minimal service with `ws` for the same job: no history, no resume. `node ws.js PORT PING_SECONDS`.

import { WebSocketServer } from "ws";

import { serveDeliveries } from "./deliveries.js";

const [port, pingSeconds] = process.argv.slice(2).map(Number);
const sockets = new Map();
const server = serveDeliveries((user, data) => {
  const text = JSON.stringify({ type: "task_update", event: data });
  for (const socket of sockets.get(user) ?? []) socket.send(text);
});
const wss = new WebSocketServer({ server, path: "/ws", perMessageDeflate: false });

wss.on("connection", (socket, request) => {
  const user = new URL(request.url, "http://localhost").searchParams.get("user_id");
  if (!sockets.has(user)) sockets.set(user, new Set());
  sockets.get(user).add(socket);
  socket.isAlive = true;
  socket.on("pong", () => (socket.isAlive = true));
  socket.on("error", () => socket.terminate());
  socket.on("close", () => {
    sockets.get(user)?.delete(socket);
    if (!sockets.get(user)?.size) sockets.delete(user);
  });
  socket.send('{"type":"connected"}');
});

setInterval(() => {
  for (const socket of wss.clients) {
    if (!socket.isAlive) socket.terminate();
    else socket.isAlive = false, socket.ping();
  }
}, pingSeconds * 1000);

server.listen(port, "127.0.0.1");
