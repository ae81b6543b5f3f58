// The choice of the transport: a stream beside a silent socket, the memory of blocked sockets, the option `transports`.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createClient } from '../src/client.js';
import { alive, fakeOrigin, fakeSockets, fakeStreams, hello, pass, replace, settle, still, update } from './fakes.js';

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

/** The storage of an origin, in a page. */
function localStorage(t) {
  replace(t, globalThis, 'document', {});
  replace(t, globalThis, 'localStorage', {});
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

test('follower_that_missed_updates_gets_them_by_a_stream_if_new_sockets_are_silent', async (t) => {
  fakeOrigin(t);
  const { sockets, streams, open, stream } = bridge(t);
  const tabs = [];
  for (const chance of [0.4, 0.5]) {
    t.mock.method(Math, 'random', () => chance); // the address of the tab for answers
    tabs.push(await open({ share: true }));
  }
  sockets[0].say(hello('e:0'));
  await settle();
  tabs[1].client.close(); // as a page in the back-forward cache
  sockets[0].say(update('e:1'));
  await settle();
  tabs[1].client.connect();
  await pass(t, 375);
  await pass(t, 3_000);
  assert.deepEqual([sockets.length, sockets[1].after, streams.length], [2, 'e:0', 1]);
  await stream(hello('e:1', { recovered: true }), update('e:1'));
  assert.deepEqual(tabs.map(({ notes }) => notes), [['e:1'], ['e:1']]);
  assert.deepEqual([tabs[0].client.state.transport, sockets.map(({ closed }) => closed)], ['sse', [true, true]]);
});

test('missed_updates_on_a_stream_are_fetched_by_another_one_while_a_socket_is_silent_beside_it', async (t) => {
  const { sockets, streams, open, stream } = bridge(t);
  const { client, notes } = await open();
  await blocked(t, sockets, client);
  await stream(hello('e:0'));
  await alive(t, streams[0], 14_000); // a socket is tried after 10 s, and no stream beside it
  assert.deepEqual([sockets.length, streams.length], [4, 1]);
  streams[0].say(update('e:2'));
  await pass(t, 1_000);
  await stream(hello('e:2', { recovered: true }), update('e:1'), update('e:2'));
  assert.deepEqual([sockets[3].closed, streams.length, notes], [true, 2, ['e:1', 'e:2']]);
});

test('dial_after_two_failures_opens_a_stream_beside_a_delayed_socket_after_1_s', async (t) => {
  const { sockets, streams, open } = bridge(t);
  const { client } = await open();
  for (const patience of [3_000, 2_000, 1_000]) {
    await pass(t, patience - 1);
    assert.equal(streams.length, 0);
    if (patience > 1_000) sockets.at(-1).end();
    await pass(t, client.state.delay ?? 1);
  }
  assert.deepEqual([sockets.length, streams.length], [3, 1]);
});

test('close_while_both_are_opened_ends_both', async (t) => {
  const { sockets, streams, open } = bridge(t);
  const { client } = await open();
  await pass(t, 3_000);
  client.close();
  assert.deepEqual([sockets[0].closed, streams[0].signal.aborted], [true, true]);
});

test('blocked_sockets_are_remembered_over_a_reload_until_a_socket_opens', async (t) => {
  localStorage(t);
  const { sockets, streams, open, stream } = bridge(t);
  const { client } = await open();
  await blocked(t, sockets, client);
  await stream(hello('e:0'));
  client.close();
  await open({ userId: 'v' }); // as after a reload of the page, or in another tab
  assert.deepEqual([sockets.length, streams.length], [3, 2]);
  await stream(hello('e:0'));
  await pass(t, 10_000);
  sockets.at(-1).say(hello('e:0', { recovered: true }));
  await open();
  assert.deepEqual([sockets.length, streams.length], [5, 2]);
});

/** Let three sockets of a client fail. */
async function blocked(t, sockets, client) {
  for (let failed = 0; failed < 3; failed++) {
    sockets.at(-1).end();
    await pass(t, client.state.delay);
  }
}

test('third_socket_that_fails_is_followed_by_a_stream_at_once', async (t) => {
  const { sockets, open } = bridge(t);
  const { client } = await open();
  for (const delay of [375, 450, 0]) {
    sockets.at(-1).end();
    assert.ok(Math.abs(client.state.delay - delay) < 1);
    await pass(t, client.state.delay);
  }
});

const MINUTE = 60_000; // ms

/** A client whose socket gets no answer, so it is on a stream after 3 s. */
async function swallowed(t, options) {
  const all = bridge(t);
  const opened = await all.open(options);
  await pass(t, 3_000);
  await all.stream(hello('e:0'));
  return { ...all, ...opened };
}

test('sockets_without_an_answer_are_tried_ever_less_often_beside_a_stream', async (t) => {
  const { sockets, streams } = await swallowed(t);
  for (const minutes of [5, 20, 80, 320, 1_280, 1_280]) {
    const { length } = sockets;
    await alive(t, streams[0], minutes * MINUTE - 10_000);
    assert.equal(sockets.length, length);
    await alive(t, streams[0], 20_000); // the time-out of the socket is 10 s later
    assert.equal(sockets.length, length + 1);
    assert.ok(sockets.at(-1).closed);
  }
});

test('socket_without_an_answer_is_followed_by_streams_only_although_they_fail', async (t) => {
  const { sockets, streams, client } = await swallowed(t);
  streams[0].end();
  await settle();
  for (let failed = 0; failed < 8; failed++) {
    await pass(t, client.state.delay);
    streams.at(-1).fail();
    await settle();
  }
  assert.deepEqual([sockets.length, streams.length], [1, 9]);
});

test('socket_without_an_answer_in_a_network_that_swallowed_before_counts_without_a_stream', async (t) => {
  const { sockets, streams, client } = await swallowed(t);
  client.close();
  await pass(t, 6 * MINUTE);
  client.connect();
  await settle();
  streams[1].fail(); // so it tries both in turn
  await settle();
  await pass(t, client.state.delay);
  assert.equal(sockets.length, 2);
  await pass(t, 3_000);
  streams[2].fail();
  await pass(t, 7_000); // the time-out of the socket
  await pass(t, 5 * MINUTE);
  assert.equal(sockets.length, 2);
});

test('socket_that_opens_after_the_quiet_time_does_not_shorten_the_next_one', async (t) => {
  const { sockets, streams, stream, client } = await swallowed(t);
  await alive(t, streams[0], 5 * MINUTE);
  sockets[1].say(hello('e:0', { recovered: true }));
  assert.equal(client.state.transport, 'websocket');
  sockets[1].end();
  await pass(t, client.state.delay);
  assert.equal(sockets.length, 3);
  await pass(t, 3_000);
  await stream(hello('e:0', { recovered: true }));
  await alive(t, streams[1], 19 * MINUTE);
  assert.equal(sockets.length, 3);
});

test('quiet_time_is_short_again_an_hour_after_the_last_one', async (t) => {
  const { sockets, streams, stream, client } = await swallowed(t);
  client.close();
  await pass(t, 66 * MINUTE);
  client.connect(); // it begins with a stream, and a socket is due 10 s later
  await settle();
  await stream(hello('e:0', { recovered: true }));
  await alive(t, streams[1], 20_000);
  assert.ok(sockets[1].closed);
  await alive(t, streams[1], 5 * MINUTE);
  assert.equal(sockets.length, 3);
});

test('quiet_time_that_another_page_began_holds_for_this_one', async (t) => {
  localStorage(t);
  const { sockets, streams, open, stream } = bridge(t);
  const { client } = await open();
  await blocked(t, sockets, client);
  await stream(hello('e:0')); // this page would try a socket after 10 s
  Object.keys(globalThis.localStorage).forEach((key) => delete globalThis.localStorage[key]); // the other one began earlier
  await open();
  await pass(t, 3_000);
  await stream(hello('e:0'));
  assert.deepEqual([sockets.length, streams.length], [4, 2]);
  await alive(t, streams[0], 4 * MINUTE);
  assert.equal(sockets.length, 4);
});

test('blocked_sockets_of_another_bridge_are_not_remembered', async (t) => {
  localStorage(t);
  const { sockets, streams, open, stream } = bridge(t);
  await open();
  await pass(t, 3_000);
  await stream(hello('e:0'));
  await open({ url: 'ws://another/ws' });
  assert.deepEqual([sockets.length, streams.length], [2, 1]);
});

test('new_leader_begins_with_the_transport_of_the_old_one', async (t) => {
  fakeOrigin(t);
  localStorage(t);
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
