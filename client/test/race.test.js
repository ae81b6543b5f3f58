// The choice of the transport: a stream beside a silent socket, the memory of blocked sockets, the option `transports`.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createClient } from '../src/client.js';
import { fakeOrigin, fakeSockets, fakeStreams, hello, pass, replace, settle, still, update } from './fakes.js';

/** Clients of one bridge whose messages the test sends. */
function bridge(t) {
  still(t);
  const { sockets, WebSocket } = fakeSockets();
  const { streams, fetch } = fakeStreams();
  const open = async (options = {}) => {
    const client = createClient({ url: 'ws://bridge/ws', userId: 'u', share: false, WebSocket, fetch, ...options });
    const notes = [];
    client.on('note', ({ id }) => notes.push(id));
    t.after(() => client.close());
    client.connect();
    await settle();
    return { client, notes };
  };
  const stream = async (...frames) => {
    streams.at(-1).open();
    await settle();
    streams.at(-1).say(...frames);
    await settle();
  };
  return { sockets, streams, open, stream };
}

function sessionStorage(t) {
  const kept = new Map();
  replace(t, globalThis, 'sessionStorage', {
    getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value), removeItem: (key) => kept.delete(key),
  });
  return kept;
}

test('dial_with_a_silent_socket_opens_a_stream_beside_it_after_3_s', async (t) => {
  const { sockets, streams, open, stream } = bridge(t);
  const { client, notes } = await open({ getToken: () => 'token' });
  await pass(t, 2_999);
  assert.equal(streams.length, 0);
  await pass(t, 1);
  assert.deepEqual([streams.length, sockets[0].closed, streams[0].headers.Authorization], [1, false, 'Bearer token']);
  await stream(hello('e:0'), update('e:1'));
  assert.deepEqual([client.state.transport, sockets[0].closed, notes], ['sse', true, ['e:1']]);
});

test('dial_with_a_slow_socket_and_a_slower_stream_uses_the_socket', async (t) => {
  const { sockets, streams, open } = bridge(t);
  const { client } = await open();
  await pass(t, 4_000);
  sockets[0].say(hello('e:0'));
  assert.deepEqual([client.state.transport, streams[0].signal.aborted], ['websocket', true]);
  await pass(t, 20_000);
  assert.deepEqual([sockets.length, streams.length], [1, 1]);
});

test('dial_with_one_of_both_failing_waits_for_the_other', async (t) => {
  const { sockets, streams, open } = bridge(t);
  const { client } = await open();
  await pass(t, 3_000);
  sockets[0].end();
  assert.equal(client.state.status, 'connecting');
  streams[0].fail();
  await settle();
  assert.equal(client.state.status, 'waiting');
});

test('dial_of_a_successor_opens_no_stream_beside_it', async (t) => {
  const { sockets, streams, open } = bridge(t);
  await open();
  sockets[0].say(hello('e:0'), update('e:9')); // a missed event
  await pass(t, 6_000);
  assert.deepEqual([sockets.length, streams.length], [2, 0]);
});

test('close_while_both_are_opened_ends_both', async (t) => {
  const { sockets, streams, open } = bridge(t);
  const { client } = await open();
  await pass(t, 3_000);
  client.close();
  assert.deepEqual([sockets[0].closed, streams[0].signal.aborted], [true, true]);
});

test('blocked_sockets_are_remembered_over_a_reload_until_a_socket_opens', async (t) => {
  const kept = sessionStorage(t);
  const { sockets, streams, open, stream } = bridge(t);
  const { client } = await open();
  await pass(t, 3_000);
  await stream(hello('e:0'));
  client.close();
  await open(); // as after a reload of the page
  assert.deepEqual([sockets.length, streams.length], [1, 2]);
  await stream(hello('e:0'));
  await pass(t, 10_000);
  sockets.at(-1).say(hello('e:0', { recovered: true }));
  assert.deepEqual([...kept], []);
  await open();
  assert.deepEqual([sockets.length, streams.length], [3, 2]);
});

test('blocked_sockets_of_another_user_or_bridge_are_not_remembered', async (t) => {
  sessionStorage(t);
  const { sockets, streams, open, stream } = bridge(t);
  await open();
  await pass(t, 3_000);
  await stream(hello('e:0'));
  await open({ url: 'ws://another/ws' });
  assert.deepEqual([sockets.length, streams.length], [2, 1]);
});

test('new_leader_begins_with_the_transport_of_the_old_one', async (t) => {
  fakeOrigin(t);
  const { sockets, streams, open, stream } = bridge(t);
  t.mock.method(Math, 'random', () => 0.4);
  const first = await open({ share: true });
  t.mock.method(Math, 'random', () => 0.5);
  const second = await open({ share: true });
  await pass(t, 3_000);
  await stream(hello('e:0'));
  assert.equal(second.client.state.transport, 'tab');
  first.client.close();
  await settle();
  assert.deepEqual([sockets.length, streams.length], [1, 2]);
});

for (const [transports, sockets_, streams_] of [[['sse'], 0, 1], [['websocket'], 1, 0], [undefined, 1, 1]]) {
  test(`transports_${transports ?? 'default'}_opens_only_those`, async (t) => {
    const { sockets, streams, open } = bridge(t);
    await open({ transports });
    await pass(t, 3_000);
    assert.deepEqual([sockets.length, streams.length], [sockets_, streams_]);
  });
}

test('transports_sse_only_reconnects_without_trying_a_socket', async (t) => {
  const { sockets, streams, open, stream } = bridge(t);
  const { client } = await open({ transports: ['sse'] });
  await stream(hello('e:0'));
  await pass(t, 12_000);
  assert.equal(streams.length, 1); // no socket is tried beside the stream
  streams[0].end();
  await settle();
  await pass(t, client.state.delay);
  assert.deepEqual([sockets.length, streams.length, streams[1].url.searchParams.get('last_event_id')], [0, 2, 'e:0']);
});

test('transports_sse_without_its_url_throws', async (t) => {
  const { open } = bridge(t);
  await assert.rejects(open({ url: 'ws://bridge/socket', transports: ['sse'] }), { code: 'bad_url' });
});

for (const [url, expected] of [
  ['/ws', 'https://app.example/sse'], ['/ws/', 'https://app.example/sse'], ['/ws?x=1', 'https://app.example/sse?x=1'],
  ['wss://b.example/push/ws/?a=/ws', 'https://b.example/push/sse?a=%2Fws'], ['ws', 'https://app.example/shop/sse'],
]) {
  test(`url_${url}_keeps_its_fallback`, async (t) => {
    replace(t, globalThis, 'location', { href: 'https://app.example/shop/' });
    const { streams, open } = bridge(t);
    await open({ url, userId: undefined, transports: ['sse'] });
    assert.equal(streams[0]?.url.href.replace('a=/ws', 'a=%2Fws'), expected);
  });
}

for (const url of ['/socket', '/socket?next=/ws', '/news']) {
  test(`url_${url}_has_no_fallback`, async (t) => {
    replace(t, globalThis, 'location', { href: 'https://app.example/' });
    const { streams, open } = bridge(t);
    await open({ url });
    await pass(t, 5_000);
    assert.equal(streams.length, 0);
  });
}
