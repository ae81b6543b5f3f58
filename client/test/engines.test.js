// Node.js's WebSocket classes on real sockets.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import * as undici from 'undici';
import * as ws from 'ws';
import { createClient } from '../src/client.js';
import { hello } from './fakes.js';

const CLASSES = { ws: ws.WebSocket, undici: undici.WebSocket };
const DEADLINE = 5_000; // ms; without an error event, a client waits for 10 s

/** A port on which nothing listens, so connections are refused. */
async function refusingPort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** Resolves with the first state of this status. */
const reaches = (client, status) => new Promise((resolve, reject) => {
  const timer = setTimeout(() => reject(new Error(JSON.stringify(client.state))), DEADLINE);
  const look = (state) => {
    if (state.status !== status) return;
    clearTimeout(timer);
    resolve(state);
  };
  client.on('state', look);
  look(client.state);
});

for (const [name, WebSocket] of Object.entries(CLASSES)) {
  test(`${name}_refused_connection_waits_and_does_not_throw`, async (t) => {
    const client = createClient({ url: `ws://127.0.0.1:${await refusingPort()}/ws`, sse: false, WebSocket });
    t.after(() => client.close());
    client.connect();
    const { code } = await reaches(client, 'waiting');
    assert.equal(code, 1006);
  });

  for (const end of ['closes with 1012', 'is cut off', 'sends garbage']) {
    test(`${name}_server_that_${end}_is_reconnected`, async (t) => {
      const server = new ws.WebSocketServer({ host: '127.0.0.1', port: 0 });
      await once(server, 'listening');
      let connections = 0;
      server.on('connection', (socket) => {
        if (++connections > 1) return socket.send(JSON.stringify(hello('e:0')));
        socket.send(JSON.stringify(hello('e:0')), () => {
          if (end === 'is cut off') socket.terminate();
          else if (end === 'sends garbage') socket._socket.write('garbage');
          else socket.close(1012, 'shutdown');
        });
      });
      const client = createClient({ url: `ws://127.0.0.1:${server.address().port}/ws`, sse: false, WebSocket });
      t.after(() => {
        client.close();
        for (const socket of server.clients) socket.terminate();
        server.close();
      });
      client.connect();
      await reaches(client, 'waiting');
      await reaches(client, 'open');
      assert.equal(connections, 2);
    });
  }

  test(`${name}_close_while_connecting_does_not_throw`, async (t) => {
    const server = createServer().listen(0, '127.0.0.1'); // accepts the connection and sends nothing
    t.after(() => server.close());
    await once(server, 'listening');
    const accepted = once(server, 'connection');
    const client = createClient({ url: `ws://127.0.0.1:${server.address().port}/ws`, sse: false, WebSocket });
    client.connect();
    const [socket] = await accepted;
    client.close();
    await once(socket.resume(), 'close');
    assert.equal(client.state.status, 'closed');
  });
}

test('node_with_its_own_websocket_detects_a_refused_connection', async () => {
  const entry = fileURLToPath(new URL('../src/client.js', import.meta.url));
  const script = `
    import { createClient } from ${JSON.stringify(entry)};
    const client = createClient({ url: 'ws://127.0.0.1:${await refusingPort()}/ws', sse: false });
    client.on('state', ({ status, code }) => {
      if (status !== 'waiting') return;
      console.log(status, code);
      client.close();
    });
    client.connect();`;
  const flags = Number(process.versions.node.split('.')[0]) < 22 ? ['--experimental-websocket', '--no-warnings'] : [];
  const child = spawn(process.execPath, [...flags, '--input-type=module', '--eval', script], { timeout: DEADLINE });
  let said = '', errors = '';
  child.stdout.on('data', (text) => (said += text));
  child.stderr.on('data', (text) => (errors += text));
  const [code] = await once(child, 'close');
  assert.deepEqual([said, errors, code], ['waiting 1006\n', '', 0]);
});
