// A service with Socket.IO for the same job: a room for each user. `node socketio.js PORT PING_SECONDS`.

import { Server } from "socket.io";

import { serveDeliveries } from "./deliveries.js";

const [port, pingSeconds] = process.argv.slice(2).map(Number);
const server = serveDeliveries((user, data) => io.to(user).emit("task_update", data));
const io = new Server(server, { transports: ["websocket"], pingInterval: pingSeconds * 1000, serveClient: false });

io.on("connection", (socket) => socket.join(socket.handshake.query.user_id));

server.listen(port, "127.0.0.1");
