// The code for React Native in docs/frameworks.md, bundled, in a context that has only the globals of React Native.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createContext, runInContext } from 'node:vm';
import { build } from 'esbuild';
import * as ws from 'ws';
import { hello, update } from './fakes.js';

const DOCUMENT = readFileSync(new URL('../../docs/frameworks.md', import.meta.url), 'utf8');
const [, CODE] = /^## React Native\n.*?^```js\n(.*?)^```/ms.exec(DOCUMENT);
const CLIENT = fileURLToPath(new URL('../index.js', import.meta.url));
const PACKAGES = {
  'react-native-url-polyfill/auto': 'globalThis.URL = globalThis.polyfill;',
  'react-native': 'export const AppState = { addEventListener: (type, handler) => (globalThis.appState = handler) };',
};

/** The code and the client as one script. */
async function bundled(code) {
  const setup = ({ onResolve, onLoad }) => {
    onResolve({ filter: /^react-native/ }, ({ path }) => ({ path, namespace: 'fake' }));
    onResolve({ filter: /^wsbridge-client$/ }, () => ({ path: CLIENT }));
    onLoad({ filter: /.*/, namespace: 'fake' }, ({ path }) => ({ contents: PACKAGES[path] }));
  };
  const stdin = { contents: code, resolveDir: fileURLToPath(new URL('.', import.meta.url)) };
  const options = { bundle: true, write: false, format: 'iife', globalName: 'app' };
  const { outputFiles: [{ text }] } = await build({ stdin, plugins: [{ name: 'packages', setup }], ...options });
  return `${text};globalThis.app = app;`;
}

/** As in React Native: plain events; an `error` without the field `error`, then a `close` with 1006. */
class Socket {
  constructor(url, protocols) {
    const socket = (this.socket = new ws.WebSocket(url, protocols));
    socket.onmessage = ({ data }) => this.onmessage?.({ type: 'message', data });
    socket.onerror = ({ message }) => this.onerror?.({ type: 'error', isTrusted: false, message });
    socket.onclose = ({ code, reason }) => this.onclose?.({ type: 'close', isTrusted: false, code, reason });
  }
  send(data) { this.socket.send(data); }
  close() { this.socket.close(); }
}

/** As its polyfill there: without `reason`, and a signal whose listeners take no options. */
class Controller {
  signal = { aborted: false, handlers: new Set(), addEventListener: (_, handler) => this.signal.handlers.add(handler),
    removeEventListener: (_, handler) => this.signal.handlers.delete(handler) };
  abort() {
    if (this.signal.aborted) return;
    this.signal.aborted = true;
    for (const handler of this.signal.handlers) handler({ type: 'abort' });
  }
}

/** Without setters, as the engine's own. */
class Unchangeable {
  get protocol() { return 'ws:'; }
}

/** The globals beside those of the language. `window` is the global object itself; there is no document or storage. */
function reactNative() {
  const native = {
    WebSocket: Socket, AbortController: Controller, URL: Unchangeable, polyfill: URL, URLSearchParams,
    fetch: async () => ({ status: 200, json: async () => ({}) }), // without a `body`
    navigator: { product: 'ReactNative' },
    console, performance, queueMicrotask, setTimeout, clearTimeout, setInterval, clearInterval,
  };
  native.window = native.self = native.global = native;
  return createContext(native);
}

const until = async (condition) => {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
};

test('react_native_app_resumes_after_an_outage_and_checks_the_connection_in_the_foreground', { timeout: 30_000 }, async (t) => {
  const server = new ws.WebSocketServer({ host: '127.0.0.1', port: 0, handleProtocols: (offered) => [...offered][0] });
  await once(server, 'listening');
  const connections = [];
  server.on('connection', (socket, { url }) => {
    connections.push({ socket, position: new URL(url, 'ws://bridge').searchParams.get('last_event_id'), heard: [] });
    socket.on('message', (text) => connections.find((each) => each.socket === socket).heard.push(JSON.parse(text).type));
  });
  const say = (number, ...messages) => messages.forEach((message) => connections[number].socket.send(JSON.stringify(message)));
  const native = reactNative();
  runInContext(await bundled(CODE.replace('wss://events.example.com', `ws://127.0.0.1:${server.address().port}`)), native);
  const { client } = native.app;
  t.after(() => {
    client.close();
    for (const socket of server.clients) socket.terminate();
    server.close();
  });
  const notes = [];
  client.on('note', ({ id }) => notes.push(id));

  await until(() => connections.length === 1);
  say(0, hello('e:0'), update('e:1'));
  await until(() => notes.length === 1);
  connections[0].socket.terminate();
  await until(() => connections.length === 2);
  assert.equal(connections[1].position, 'e:1');
  say(1, hello('e:1', { recovered: true }), update('e:2'));
  await until(() => notes.length === 2);

  native.appState('background');
  assert.deepEqual(connections[1].heard, []);
  native.appState('active');
  await until(() => connections[1].heard.length);
  assert.deepEqual(connections[1].heard, ['ping']);

  client.close({ everywhere: true });
  native.appState('active'); // a client that the app has closed stays closed
  assert.equal(client.state.status, 'closed');
  await until(() => connections[1].socket.readyState > 1);
  assert.deepEqual([notes, connections.length], [['e:1', 'e:2'], 2]);
});
