import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';
import { createClient } from '../src/client.js';
import { iterate } from '../src/iterate.js';
import { fakeSockets, hello, pass, replace, settle, still, update } from './fakes.js';

function client(t, options = {}) {
  still(t);
  const { sockets, WebSocket } = fakeSockets();
  const client = createClient({ url: 'ws://bridge/ws', userId: 'u', share: false, WebSocket, ...options });
  const notes = [], gaps = [];
  client.on('note', ({ id }) => notes.push(id));
  client.on('gap', ({ last_event_id }) => gaps.push(last_event_id));
  t.after(() => client.close());
  return { client, sockets, notes, gaps };
}

async function connected(t, options, position = 'e:0') {
  const all = client(t, options);
  all.client.connect();
  await settle();
  all.sockets[0].say(hello(position));
  return all;
}

// Nothing happens by itself.

test('nothing happens at import or construction, also where there is no browser', async (t) => {
  const { client: fresh, sockets } = client(t, { url: '/ws', resume: 'session', getToken: () => assert.fail() });
  await pass(t, 60_000);
  assert.deepEqual([fresh.state, fresh.position], [{ status: 'idle', attempt: 0 }, '']);
  assert.equal(sockets.length, 0);
});

test('an address that is none is refused at once', (t) => {
  assert.throws(() => client(t, { url: 'ws://[' }).client.connect(), { code: 'bad_url' });
});

test('to connect twice is to connect once', async (t) => {
  const { client, sockets } = await connected(t);
  client.connect();
  await settle();
  assert.equal(sockets.length, 1);
});

test('after a close it connects again, at its position', async (t) => {
  const { client, sockets, notes } = await connected(t);
  sockets[0].say(update('e:1'));
  client.close();
  client.close();
  client.connect();
  await settle();
  sockets[1].say(hello('e:1', { recovered: true }), update('e:2'));
  assert.deepEqual(notes, ['e:1', 'e:2']);
  assert.equal(sockets[1].after, 'e:1');
});

test('a close without a connect is nothing', (t) => {
  const { client: fresh } = client(t);
  fresh.close();
  assert.deepEqual(fresh.state, { status: 'idle', attempt: 0 });
});

test('whom only the token names is not named in the address', async (t) => {
  const { sockets } = await connected(t, { userId: undefined, getToken: () => 'token' });
  assert.equal(sockets[0].url.href, 'ws://bridge/ws');
});

test('a signal closes it, and one that is aborted already keeps it closed', async (t) => {
  const over = new AbortController();
  const { client, sockets } = await connected(t, { signal: over.signal });
  over.abort();
  assert.equal(client.state.status, 'closed');
  client.connect();
  await settle();
  assert.equal(sockets.length, 1);
});

test('an address relative to the page, and its parameters, are kept', async (t) => {
  replace(t, globalThis, 'location', { href: 'https://app.example/shop/' });
  const { client: relative, sockets } = client(t, { url: '../push/ws?v=1', userId: 'ü&/' });
  relative.connect();
  await settle();
  assert.equal(sockets[0].url.href, 'wss://app.example/push/ws?v=1&user_id=%C3%BC%26%2F');
});

// The position.

test('the first position is that of the connection, also if nothing ever comes', async (t) => {
  const { client, sockets } = await connected(t, {}, 'e:41');
  assert.equal(client.position, 'e:41');
  sockets[0].end();
  await pass(t, 500);
  assert.equal(sockets[1].after, 'e:41');
});

test('what is at or before the position is known; positions are numbers', async (t) => {
  const { sockets, notes } = await connected(t, {}, 'e:8');
  sockets[0].say(...['e:9', 'e:10', 'e:9', 'e:10', 'e:8', 'e:11'].map((id) => update(id)));
  assert.deepEqual(notes, ['e:9', 'e:10', 'e:11']);
});

test('a hole is never skipped: a connection beside this one fetches what is missing', async (t) => {
  const { client, sockets, notes } = await connected(t);
  sockets[0].say(update('e:1'), update('e:3'), update('e:4'));
  assert.equal(client.position, 'e:1');
  await pass(t, 500);
  assert.equal(sockets.length, 2);
  assert.equal(sockets[1].after, 'e:1');
  sockets[0].say(update('e:4'));
  await pass(t, 1_000);
  assert.equal(sockets.length, 2); // it is on its way
  sockets[1].say(hello('e:1', { recovered: true }), update('e:2'), update('e:3'), update('e:4'));
  assert.ok(sockets[0].closed);
  assert.deepEqual(notes, ['e:1', 'e:2', 'e:3', 'e:4']);
});

test('a connection that begins behind a hole is followed by one that begins before it', async (t) => {
  const { client, sockets } = await connected(t);
  const welcomes = [];
  client.on('connected', ({ last_event_id }) => welcomes.push(last_event_id));
  sockets[0].end();
  await pass(t, 500);
  sockets[1].say(hello('e:1', { recovered: true }), update('e:2'));
  await pass(t, 1_000);
  assert.equal(sockets[2].after, 'e:0');
  sockets[2].say(hello('e:0', { recovered: true }), update('e:1'), update('e:2'));
  assert.deepEqual([welcomes, client.position], [['e:0'], 'e:2']);
});

test('holes now and then are mended soon, those in a row later and later', async (t) => {
  const { sockets } = await connected(t);
  const delays = [];
  for (const lasted of [10_000, 10_000, 0, 0, 10_000]) { // each time the chance of the test draws the middle
    await pass(t, lasted);
    sockets.at(-1).say(update('e:9'));
    const { length } = sockets, since = Date.now();
    while (sockets.length === length) await pass(t, 75);
    delays.push(Date.now() - since);
    sockets.at(-1).say(hello('e:0', { recovered: true }));
  }
  assert.deepEqual(delays, [375, 375, 450, 600, 375]);
});

test('the position moves after the handlers', async (t) => {
  const { client, sockets } = await connected(t);
  const seen = [];
  client.on('note', () => seen.push(client.position));
  sockets[0].say(update('e:1'));
  assert.deepEqual([seen, client.position], [['e:0'], 'e:1']);
});

test('a gap is told once, and the position goes on from its end', async (t) => {
  const { client, sockets, notes, gaps } = await connected(t, {}, 'e:5');
  sockets[0].end();
  await pass(t, 500);
  const gap = { type: 'gap', after: 'e:5', last_event_id: 'f:2', reason: 'reset' };
  sockets[1].say(hello('f:2', { recovered: false }), gap, gap, update('f:3'));
  assert.deepEqual([gaps, notes, client.position], [['f:2'], ['f:3'], 'f:3']);
});

test('a gap in the middle of a session', async (t) => {
  const { client, sockets, notes, gaps } = await connected(t);
  sockets[0].say(update('e:1'), { type: 'gap', after: 'e:1', last_event_id: 'e:97', reason: 'trimmed' }, update('e:98'));
  assert.deepEqual([gaps, notes, client.position], [['e:97'], ['e:1', 'e:98'], 'e:98']);
});

// Over a reload.

function sessionStorage(t) {
  const kept = new Map();
  replace(t, globalThis, 'sessionStorage', { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) });
  return kept;
}

test('a reload begins anew, unless it was asked to resume: then by user', async (t) => {
  const kept = sessionStorage(t);
  for (const [options, after] of [[{}, null], [{ resume: 'session' }, null], [{ resume: 'session' }, 'e:1'],
    [{ resume: 'session', userId: 'another' }, null], [{}, null]]) {
    const { client: loaded, sockets } = client(t, options);
    loaded.connect();
    await settle();
    assert.equal(sockets[0].after, after);
    sockets[0].say(hello('e:0'), update('e:1'));
    loaded.close();
    t.mock.restoreAll();
    t.mock.timers.reset();
  }
  assert.deepEqual([...kept], [['wsbridge ws://bridge/ws u', 'e:1'], ['wsbridge ws://bridge/ws another', 'e:1']]);
});

test('a page whose storage is forbidden works without it', async (t) => {
  replace(t, globalThis, 'sessionStorage', { getItem: () => { throw new Error('forbidden'); }, setItem: () => { throw new Error('full'); } });
  const { sockets, notes } = await connected(t, { resume: 'session' });
  sockets[0].say(update('e:1'));
  assert.deepEqual(notes, ['e:1']);
});

// Handlers.

test('a handler is taken off by its function or its signal; twice the same is two', async (t) => {
  const { client, sockets } = await connected(t);
  const seen = [], handler = ({ id }) => seen.push(id);
  const over = new AbortController();
  const off = client.on('note', handler);
  client.on('note', handler, { signal: over.signal });
  client.on('note', handler, { signal: AbortSignal.abort() });
  sockets[0].say(update('e:1'));
  off();
  off();
  sockets[0].say(update('e:2'));
  over.abort();
  sockets[0].say(update('e:3'));
  assert.deepEqual(seen, ['e:1', 'e:1', 'e:2']);
});

test('a handler that another one takes off is not called any more', async (t) => {
  const { client, sockets } = await connected(t);
  const seen = [];
  client.on('note', () => off());
  const off = client.on('note', ({ id }) => seen.push(id));
  sockets[0].say(update('e:1'));
  assert.deepEqual(seen, []);
});

test('a signal that outlives a loop does not keep it', async (t) => {
  const { client } = await connected(t);
  const { signal } = new AbortController();
  for (let i = 0; i < 3; i++) await client.messages('note', { signal }).return();
  assert.equal(getEventListeners(signal, 'abort').length, 0);
});

test('a handler that throws keeps nothing from the others, and its error is reported', async (t) => {
  const { client, sockets } = await connected(t);
  const seen = [], reported = [];
  client.on('note', () => { throw new Error('a bug'); });
  client.on('note', ({ id }) => seen.push(id));
  process.setUncaughtExceptionCaptureCallback((error) => reported.push(error.message));
  t.after(() => process.setUncaughtExceptionCaptureCallback(null));
  sockets[0].say(update('e:1'), update('e:2'));
  await new Promise(setImmediate);
  assert.deepEqual([seen, reported, client.position], [['e:1', 'e:2'], ['a bug', 'a bug'], 'e:2']);
});

test('a handler for everything, and one for what the bridge did not understand', async (t) => {
  const { client, sockets } = await connected(t);
  const all = [], errors = [];
  client.on('*', ({ type }) => all.push(type));
  client.on('error', ({ code }) => errors.push(code));
  sockets[0].say({ type: 'error', code: 'bad_message', message: '' }, { type: 'pong' }, update('e:1'), { type: 'new', id: 'e:2' });
  assert.deepEqual([all, errors], [['error', 'note', 'new'], ['bad_message']]);
});

// As an iterator.

test('messages as an iterator, from the call on until the client is closed', async (t) => {
  const { client, sockets } = await connected(t);
  const messages = client.messages('note');
  sockets[0].say(update('e:1'), update('e:2'));
  client.close();
  const seen = [];
  for await (const { id } of messages) seen.push(id);
  assert.deepEqual(seen, ['e:1', 'e:2']);
});

test('a loop waits for the next message, and ends with its signal', async (t) => {
  const { client, sockets } = await connected(t);
  const over = new AbortController(), seen = [];
  const loop = (async () => {
    for await (const { id } of client.messages('note', { signal: over.signal })) seen.push(id);
  })();
  await settle();
  sockets[0].say(update('e:1'));
  await settle();
  over.abort();
  await loop;
  sockets[0].say(update('e:2'));
  assert.deepEqual(seen, ['e:1']);
});

test('a loop that is too slow is told so: it loses nothing in silence', async (t) => {
  const { client, sockets } = await connected(t);
  const messages = client.messages('note');
  for (let offset = 1; offset <= 10_002; offset++) sockets[0].say(update(`e:${offset}`));
  await assert.rejects(messages.next(), /10000 messages are unread/);
});

/** Where `iterate` puts its handlers. */
function listening() {
  const handlers = {};
  const on = (type, handler, { signal }) => {
    handlers[type] = handler;
    signal.addEventListener('abort', () => delete handlers[type]);
  };
  return { handlers, on };
}

test('what nobody takes any more is not kept', async () => {
  const { handlers, on } = listening();
  const messages = iterate(on, 'note');
  for (let unread = 0; unread < 10_000; unread++) handlers.note({ unread });
  assert.deepEqual(await messages.next(), { value: { unread: 0 }, done: false });
  handlers.note({});
  handlers.note({});
  assert.deepEqual(handlers, {});
  await assert.rejects(messages.next(), /unread/);
});

test('a loop whose signal is aborted before it begins hears nothing', async () => {
  const { handlers, on } = listening();
  const messages = iterate(on, 'note', AbortSignal.abort());
  assert.deepEqual(handlers, {});
  assert.equal((await messages.next()).done, true);
});

test('a loop that waits is ended by its return', async (t) => {
  const { client } = await connected(t);
  const messages = client.messages('note');
  const next = messages.next();
  await messages.return();
  assert.deepEqual(await next, { value: undefined, done: true });
});

// In a page.

function browser(t) {
  const window = new EventTarget(), document = new EventTarget();
  replace(t, globalThis, 'window', window);
  replace(t, globalThis, 'document', document);
  const fire = (target, type, more = {}) => target.dispatchEvent(Object.assign(new Event(type), more));
  return { window, document, fire };
}

test('the network that is back is tried within a second', async (t) => {
  const { window, fire } = browser(t);
  const { client, sockets } = await connected(t, { sse: false });
  for (let failed = 0; failed < 20; failed++) {
    sockets.at(-1).end();
    await pass(t, failed < 19 ? 20_000 : 1_000);
  }
  const before = sockets.length;
  fire(window, 'online');
  assert.equal(client.state.delay, 500); // by the chance of the test
  await pass(t, 500);
  assert.equal(sockets.length, before + 1);
  sockets.at(-1).say(hello('e:0', { recovered: true }));
  await pass(t, 20_000); // in which the try that was planned before would have been
  assert.equal(sockets.length, before + 1);
});

test('a page that is back after the time of a try does not wait for less than nothing', async (t) => {
  const { window, fire } = browser(t);
  const { client, sockets } = await connected(t);
  sockets[0].end();
  t.mock.method(Date, 'now', () => 2_000_000); // timers stand still while a laptop sleeps, the clock does not
  fire(window, 'online');
  assert.equal(client.state.delay, 0);
});

test('a hint of the bridge is kept even if the network comes back', async (t) => {
  const { window, fire } = browser(t);
  const { client, sockets } = await connected(t);
  sockets[0].say({ type: 'goodbye', code: 1012, reason: 'shutdown', reconnect: true, reconnect_after_ms: 7_000, close_after_ms: 9_000 });
  sockets[0].end(1012);
  fire(window, 'online');
  assert.equal(client.state.delay, 7_000);
});

for (const [target, type] of [['window', 'online'], ['document', 'visibilitychange']]) {
  test(`a connection that did not survive is noticed 3 s after ${type}`, async (t) => {
    const page = browser(t);
    const { client, sockets } = await connected(t);
    page.fire(page[target], type);
    assert.deepEqual(sockets[0].sent, [{ type: 'ping' }]);
    await pass(t, 3_000);
    assert.equal(client.state.reason, 'silent');
  });
}

test('a page that is hidden asks for nothing', async (t) => {
  const { document, fire } = browser(t);
  const { sockets } = await connected(t);
  document.hidden = true;
  fire(document, 'visibilitychange');
  assert.deepEqual(sockets[0].sent, []);
});

for (const [away, back] of [['pagehide', 'pageshow'], ['freeze', 'resume']]) {
  test(`between ${away} and ${back} there is no connection`, async (t) => {
    const { window, document, fire } = browser(t);
    const { sockets, notes } = await connected(t);
    const target = away === 'freeze' ? document : window;
    sockets[0].say(update('e:1'));
    fire(target, away, { persisted: true });
    assert.ok(sockets[0].closed);
    await pass(t, 600_000);
    assert.equal(sockets.length, 1);
    fire(target, back, { persisted: true });
    await settle();
    assert.equal(sockets.length, 2);
    fire(document, 'resume'); // browsers say both
    await settle();
    assert.equal(sockets.length, 2);
    sockets[1].say(hello('e:1', { recovered: true }), update('e:2'));
    assert.deepEqual(notes, ['e:1', 'e:2']);
  });
}

test('the first pageshow of a page connects nothing twice', async (t) => {
  const { window, fire } = browser(t);
  const { sockets } = await connected(t);
  fire(window, 'pageshow', { persisted: false });
  await settle();
  assert.equal(sockets.length, 1);
});

test('a page that was not away does not come back', async (t) => {
  const { document, fire } = browser(t);
  const { client, sockets } = await connected(t);
  const comeBack = async () => {
    fire(document, 'resume');
    await settle();
    return sockets.length;
  };
  assert.equal(await comeBack(), 1); // open
  sockets[0].end();
  assert.equal(await comeBack(), 1); // waiting
  await pass(t, 375);
  assert.equal(await comeBack(), 2); // connecting
  assert.equal(client.state.attempt, 1);
});

test('after a close the page is left alone', async (t) => {
  const { window, document, fire } = browser(t);
  const { client, sockets } = await connected(t);
  client.close();
  fire(window, 'pageshow', { persisted: true });
  fire(document, 'resume');
  fire(window, 'online');
  await pass(t, 60_000);
  assert.equal(sockets.length, 1);
});
