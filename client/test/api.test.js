// The calls of an application: ready, settled, connect, close, debug; and the problem that the state names.

import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { createClient } from '../src/client.js';
import { follow } from '../src/follow.js';
import { fakeOrigin, fakeSockets, goodbye, hello, pass, replace, settle, still, update } from './fakes.js';

function bridge(t) {
  still(t);
  const { sockets, WebSocket } = fakeSockets();
  const open = async (options = {}) => {
    const client = createClient({ url: 'ws://bridge/ws', userId: 'u', share: false, sse: false, WebSocket, ...options });
    t.after(() => client.close());
    client.connect();
    await settle();
    return client;
  };
  return { sockets, WebSocket, open };
}

/** Returns an object that gets the `value` or the `error` of the promise once it is settled. */
function outcome(promise) {
  const found = {};
  promise.then((value) => Object.assign(found, { value }), (error) => Object.assign(found, { error }));
  return found;
}

// ready()

test('ready_when_open_resolves_with_the_state', async (t) => {
  const { sockets, open } = bridge(t);
  const client = await open();
  const found = outcome(client.ready());
  await settle();
  assert.deepEqual(found, {});
  sockets[0].say(hello('e:0'));
  await settle();
  assert.equal(found.value, client.state);
  assert.equal(await client.ready(), client.state); // once open, it resolves at once
});

test('ready_when_closed_for_good_rejects_with_a_code_and_a_link', async (t) => {
  const { sockets, open } = bridge(t);
  const client = await open();
  const found = outcome(client.ready());
  sockets[0].end(4503, 'origin_forbidden');
  await settle();
  assert.deepEqual([found.error.code, found.error.docs], ['closed', 'FRONTEND_INTEGRATION.md#closed']);
  assert.match(found.error.message, /4503 origin_forbidden/);
});

test('ready_after_its_timeout_or_an_abort_rejects', async (t) => {
  const { open } = bridge(t);
  const client = await open();
  const over = new AbortController();
  const late = outcome(client.ready({ timeout: 2_000 })), aborted = outcome(client.ready({ signal: over.signal }));
  over.abort(new Error('enough'));
  await pass(t, 2_000);
  assert.deepEqual([late.error.code, aborted.error.message], ['timeout', 'enough']);
  await assert.rejects(client.ready({ signal: AbortSignal.abort(new Error('before')) }), /before/);
});

// connect() while waiting

test('connect_while_waiting_tries_at_once', async (t) => {
  const { sockets, open } = bridge(t);
  const client = await open();
  for (let failed = 0; failed < 15; failed++) {
    sockets.at(-1).end();
    if (failed < 14) await pass(t, client.state.delay);
  }
  assert.ok(client.state.delay > 5_000);
  const { length } = sockets;
  client.connect();
  await pass(t, 0);
  assert.equal(sockets.length, length + 1);
});

test('connect_while_waiting_after_a_goodbye_tries_at_once', async (t) => {
  const { sockets, open } = bridge(t);
  const client = await open();
  sockets[0].say(hello('e:0'), goodbye(1012, 'shutdown', 7_000));
  sockets[0].end(1012);
  client.connect();
  await pass(t, 0);
  assert.equal(sockets.length, 2);
});

test('connect_while_the_leader_waits_makes_the_leader_try_at_once', async (t) => {
  fakeOrigin(t);
  const { sockets, open } = bridge(t);
  t.mock.method(Math, 'random', () => 0.4);
  await open({ share: true });
  t.mock.method(Math, 'random', () => 0.5);
  const follower = await open({ share: true });
  sockets[0].say(hello('e:0'));
  sockets[0].end(1011);
  await settle();
  assert.equal(follower.state.status, 'waiting');
  follower.connect();
  await pass(t, 0);
  assert.equal(sockets.length, 2);
});

test('backoff_option_bounds_the_delays', async (t) => {
  const { sockets, open } = bridge(t);
  const client = await open({ backoff: { min: 100, max: 1_000 } });
  sockets[0].end();
  assert.equal(client.state.delay, 75);
  for (let failed = 0; failed < 30; failed++) {
    await pass(t, client.state.delay);
    sockets.at(-1).end();
  }
  assert.equal(client.state.delay, 525);
});

test('user_id_is_that_of_the_options', () => {
  assert.deepEqual([{ userId: 'alice' }, {}].map((options) => createClient({ url: 'ws://bridge/ws', ...options }).userId), ['alice', '']);
});

// close({ everywhere })

for (const share of [true, false]) {
  test(`close_everywhere_${share ? 'with' : 'without'}_a_shared_connection_closes_all_tabs`, async (t) => {
    fakeOrigin(t);
    const { sockets, open } = bridge(t);
    const tabs = [];
    for (const chance of [0.1, 0.2, 0.3]) {
      t.mock.method(Math, 'random', () => chance);
      tabs.push(await open({ share }));
    }
    const another = await open({ userId: 'another', share });
    tabs[1].close({ everywhere: true });
    await pass(t, 60_000);
    assert.deepEqual(tabs.map(({ state }) => state.status), ['closed', 'closed', 'closed']);
    assert.deepEqual(tabs.map(({ state }) => state.reason), Array(3).fill('closed_everywhere'));
    assert.notEqual(another.state.status, 'closed');
    assert.deepEqual(sockets.map(({ closed }) => closed).filter((closed) => !closed).length, 1);
  });
}

test('close_everywhere_in_a_tab_that_never_connected_closes_the_others', async (t) => {
  fakeOrigin(t);
  const { open, WebSocket } = bridge(t);
  const client = await open({ share: true });
  createClient({ url: 'ws://bridge/ws', userId: 'u', WebSocket }).close({ everywhere: true });
  await settle();
  assert.equal(client.state.status, 'closed');
});

test('close_everywhere_without_channels_closes_this_tab', async (t) => {
  replace(t, globalThis, 'BroadcastChannel', undefined);
  const { open } = bridge(t);
  const client = await open();
  client.close({ everywhere: true });
  assert.equal(client.state.status, 'closed');
});

for (const [everywhere, reason] of [[false, undefined], [true, 'closed_everywhere']]) {
  test(`close_after_a_problem_with_everywhere_${everywhere}_shows_that_the_page_closed_it`, async (t) => {
    const { sockets, open } = bridge(t);
    const client = await open(), shown = [];
    sockets[0].end(4503, 'origin_forbidden');
    client.on('state', (state) => {
      shown.push(state);
      client.close({ everywhere }); // again: no change
    });
    client.close({ everywhere });
    assert.deepEqual([shown.length, shown[0]?.problem, shown[0]?.reason], [1, undefined, reason]);
  });
}

test('close_everywhere_after_a_close_shows_the_reason', async (t) => {
  const { open } = bridge(t);
  const client = await open();
  client.close();
  client.close({ everywhere: true });
  assert.equal(client.state.reason, 'closed_everywhere');
});

test('tab_without_sharing_exchanges_no_messages_with_the_others', async (t) => {
  fakeOrigin(t);
  const { sockets, open } = bridge(t);
  const seen = [], tabs = [];
  for (const [chance, share] of [[0.1, true], [0.2, true], [0.3, false]]) {
    t.mock.method(Math, 'random', () => chance);
    const tab = await open({ share });
    tab.on('note', ({ id }) => seen.push([share, id]));
    tabs.push(tab);
  }
  for (const socket of sockets) socket.say(hello('e:0'));
  await settle();
  sockets[1].say(update('e:1'));
  await settle();
  assert.deepEqual(seen, [[false, 'e:1']]);
  sockets[0].end(4509, 'force_disconnect');
  await settle();
  assert.deepEqual(tabs.map(({ state }) => state.status), ['closed', 'closed', 'open']);
});

// state.problem

const { closes } = JSON.parse(readFileSync(new URL('../../tests/vectors/closes.json', import.meta.url)));
const PROBLEMS = { origin_forbidden: 'misconfigured', user_id_required: 'misconfigured', user_mismatch: 'forbidden', force_disconnect: 'forbidden' };

for (const { code, reason, reconnect } of closes) {
  test(`state_after_${code}_${reason}_names_the_problem`, async (t) => {
    const { sockets, open } = bridge(t);
    const client = await open();
    sockets[0].end(code, reason);
    const expected = code === 4401 ? 'needs-token' : reconnect ? undefined : (PROBLEMS[reason] ?? 'misconfigured');
    assert.equal(client.state.problem, expected);
  });
}

test('state_without_a_token_has_the_problem_needs_token', async (t) => {
  const { open } = bridge(t);
  const { state } = await open({ getToken: () => null });
  assert.deepEqual([state.status, state.reason, state.problem], ['closed', 'no_token', 'needs-token']);
});

test('state_after_a_close_by_the_page_has_no_problem', async (t) => {
  const { open } = bridge(t);
  const client = await open();
  client.close();
  assert.deepEqual(client.state, { status: 'closed', attempt: 0 });
});

test('state_without_a_websocket_class_has_the_error', async (t) => {
  replace(t, globalThis, 'WebSocket', undefined);
  const { open } = bridge(t);
  const { state } = await open({ WebSocket: undefined });
  assert.deepEqual([state.status, state.error.code], ['waiting', 'no_websocket']);
});

test('goodbye_before_a_hidden_close_code_gives_the_code_and_reason', async (t) => {
  const { sockets, open } = bridge(t);
  const client = await open();
  for (const [code, reason, shown] of [[1013, 'overloaded', 1006], [1012, 'shutdown', 1002]]) { // WebKitGTK, faye-websocket
    sockets.at(-1).say(goodbye(code, reason));
    sockets.at(-1).end(shown);
    assert.deepEqual([client.state.status, client.state.code, client.state.reason], ['waiting', code, reason]);
    await pass(t, client.state.delay);
  }
});

test('goodbye_before_another_close_code_of_the_bridge_is_overridden', async (t) => {
  const { sockets, open } = bridge(t);
  const client = await open();
  sockets[0].say(hello('e:0'), goodbye(1012, 'shutdown', 7_000, 20_000));
  sockets[0].end(4509, 'force_disconnect');
  assert.deepEqual([client.state.status, client.state.code], ['closed', 4509]);
});

test('goodbye_before_a_refusal_does_not_count_as_a_blocked_socket', async (t) => {
  const { sockets, open } = bridge(t);
  const streams = [];
  const client = await open({ sse: 'http://bridge/sse', fetch: (url) => (streams.push(url), new Promise(() => {})) });
  for (let refused = 0; refused < 5; refused++) {
    sockets.at(-1).say(goodbye(1013, 'overloaded'));
    sockets.at(-1).end(1006);
    await pass(t, client.state.delay);
  }
  assert.deepEqual([sockets.length, streams.length], [6, 0]);
});

// debug

test('debug_function_gets_states_and_messages_but_no_token', async (t) => {
  const lines = [];
  const { sockets, open } = bridge(t);
  await open({ debug: (...line) => lines.push(line), getToken: () => 'secret' });
  sockets[0].say(hello('e:0'), update('e:1'), update('e:3'));
  assert.deepEqual(lines.map(([, what]) => what), ['state', 'state', 'connected', 'note', 'missed']);
  assert.doesNotMatch(JSON.stringify(lines), /secret/);
});

test('debug_without_the_option_is_read_from_local_storage', async (t) => {
  const shown = t.mock.method(console, 'debug', () => {});
  replace(t, globalThis, 'document', new EventTarget());
  replace(t, globalThis, 'localStorage', { wsbridgeDebug: '1' });
  const { open } = bridge(t);
  await open();
  assert.equal(shown.mock.callCount(), 1);
  await open({ debug: false });
  assert.equal(shown.mock.callCount(), 1);
});

test('debug_with_forbidden_storage_is_off', async (t) => {
  const shown = t.mock.method(console, 'debug', () => {});
  replace(t, globalThis, 'document', new EventTarget());
  replace(t, globalThis, 'localStorage', undefined);
  const { open } = bridge(t);
  await open();
  assert.equal(shown.mock.callCount(), 0);
});

// settled()

const own = (id, event_id) => ({ ...update(id), event_id });

test('settled_resolves_after_the_handlers_of_the_event', async (t) => {
  const { sockets, open } = bridge(t);
  const client = await open();
  const order = [];
  sockets[0].say(hello('e:0'));
  client.on('*', ({ id }) => order.push(id));
  const waits = client.settled('mine').then(({ id }) => order.push(`settled ${id}`));
  sockets[0].say(own('e:1', 'other'));
  await settle();
  sockets[0].say(own('e:2', 'mine'));
  await waits;
  assert.deepEqual(order, ['e:1', 'e:2', 'settled e:2']);
});

test('settled_for_an_event_that_was_handled_before_resolves_at_once', async (t) => {
  const { sockets, open } = bridge(t);
  const client = await open();
  sockets[0].say(hello('e:0'), own('e:1', 'mine'));
  assert.equal((await client.settled('mine')).id, 'e:1');
});

test('settled_during_a_reconnect_resolves_after_the_replay', async (t) => {
  const { sockets, open } = bridge(t);
  const client = await open();
  sockets[0].say(hello('e:0'));
  const found = outcome(client.settled('mine', { timeout: 60_000 }));
  sockets[0].end();
  await pass(t, client.state.delay);
  sockets[1].say(hello('e:0', { recovered: true }), own('e:1', 'mine'), own('e:1', 'mine'));
  await settle();
  assert.equal(found.value.id, 'e:1');
});

test('settled_in_a_follower_resolves_after_the_leader_closed', async (t) => {
  fakeOrigin(t);
  const { sockets, open } = bridge(t);
  t.mock.method(Math, 'random', () => 0.4);
  const leader = await open({ share: true });
  t.mock.method(Math, 'random', () => 0.5);
  const follower = await open({ share: true });
  sockets[0].say(hello('e:0'));
  await settle();
  const found = outcome(follower.settled('mine', { timeout: 60_000 }));
  leader.close();
  await settle();
  sockets[1].say(hello('e:0', { recovered: true }), own('e:1', 'mine'));
  await settle();
  assert.equal(found.value.id, 'e:1');
});

test('settled_with_a_gap_that_may_include_the_event_resolves_with_the_gap', async (t) => {
  const { sockets, open } = bridge(t);
  const client = await open();
  const gap = (last_event_id) => ({ type: 'gap', last_event_id, reason: 'trimmed' });
  sockets[0].say(hello('e:0'), gap('e:5'));
  await pass(t, 10_000); // an older gap does not count
  const found = outcome(client.settled('mine', { timeout: 60_000 }));
  await settle();
  assert.deepEqual(found, {});
  sockets[0].say(gap('e:9'));
  await settle();
  assert.equal(found.value.type, 'gap');
  await pass(t, 9_999);
  assert.equal((await client.settled('answered after the gap')).last_event_id, 'e:9');
});

/** Follows with loads that the test answers; `shown` is what the page shows. */
function following(client, shown, more = {}) {
  const loads = [];
  const load = () => new Promise((resolve, reject) => loads.push({ resolve, reject }));
  const end = follow(client, { load, set: (state) => shown.splice(0, Infinity, ...state), apply: ({ event_id }) => shown.push(event_id), onError() {}, ...more });
  return { loads, end };
}

test('settled_while_follow_loads_waits_until_the_page_shows_the_change', async (t) => {
  const { sockets, open } = bridge(t);
  const client = await open(), shown = [], others = [];
  const { loads } = following(client, shown), other = following(client, others);
  sockets[0].say(hello('e:0', { ping_interval_ms: 100_000 }), own('e:1', 'mine'));
  const found = client.settled('mine').then(() => [...shown, ...others]), early = outcome(found);
  loads[0].reject(new Error('offline')); // it is tried again
  other.loads[0].resolve(['old']);
  await settle();
  assert.deepEqual(early, {});
  await pass(t, 5_000);
  loads[1].resolve(['new']);
  assert.deepEqual(await found, ['new', 'old', 'mine']); // the state of the second load has the change
  sockets[0].say(own('e:2', 'next'));
  await settle();
  assert.equal((await client.settled('next')).id, 'e:2');
});

for (const reason of ['trimmed', 'reset']) {
  test(`settled_with_a_gap_${reason}_waits_until_follow_has_loaded_again`, async (t) => {
    const { sockets, open } = bridge(t);
    const client = await open(), shown = [];
    sockets[0].say(hello('e:0', { ping_interval_ms: 100_000 }));
    const { loads } = following(client, shown, { jitter: 1_000 });
    sockets[0].say({ type: 'gap', last_event_id: 'e:5', reason });
    const found = outcome(client.settled('mine'));
    loads[0].resolve(['old']); // it began before the gap
    await pass(t, 1_000);
    assert.deepEqual(found, {});
    loads[1].resolve(['new']);
    await settle();
    assert.deepEqual([found.value.type, shown], ['gap', ['new']]);
  });
}

test('settled_from_before_the_first_connection_resolves_with_connected', async (t) => {
  const { sockets, open } = bridge(t);
  const client = await open();
  const found = outcome(client.settled('mine', { timeout: 0 })); // published before the client had a position: nothing repeats it
  sockets[0].say(hello('e:5'));
  const next = outcome(client.settled('next', { timeout: 0 }));
  await settle();
  assert.deepEqual([found.value?.type, next], ['connected', {}]);
});

test('settled_from_before_the_first_connection_waits_until_follow_has_loaded_after_it', async (t) => {
  const { sockets, open } = bridge(t);
  const client = await open(), shown = [];
  const { loads } = following(client, shown);
  await pass(t, 3_000); // without a connection
  loads[0].resolve(['old']);
  await settle();
  const found = outcome(client.settled('mine', { timeout: 0 }));
  sockets[0].say(hello('e:5', { ping_interval_ms: 100_000 }));
  await settle();
  assert.deepEqual([shown, found], [['old'], {}]);
  loads[1].resolve(['old', 'mine']);
  await settle();
  assert.deepEqual([shown, found.value?.type], [['old', 'mine'], 'connected']);
});

test('settled_in_a_follower_from_before_its_first_connection_resolves_with_connected', async (t) => {
  fakeOrigin(t);
  const { sockets, open } = bridge(t);
  await open({ share: true });
  const follower = await open({ share: true });
  const found = outcome(follower.settled('mine', { timeout: 0 }));
  sockets[0].say(hello('e:5'));
  await settle();
  assert.equal(found.value?.type, 'connected');
});

test('settled_over_a_reconnect_with_a_kept_position_does_not_resolve_with_connected', async (t) => {
  const kept = new Map([['wsbridge ws://bridge/ws u', 'e:5']]);
  replace(t, globalThis, 'sessionStorage', { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) });
  const { sockets, open } = bridge(t);
  const client = await open({ resume: 'session' });
  const found = outcome(client.settled('mine', { timeout: 0 }));
  sockets[0].say(hello('e:5', { recovered: true }));
  await settle();
  assert.deepEqual(found, {});
});

test('settled_resolves_when_the_follow_that_holds_the_event_ends', async (t) => {
  const { sockets, open } = bridge(t);
  const client = await open();
  sockets[0].say(hello('e:0'));
  const { end } = following(client, []);
  sockets[0].say(own('e:1', 'mine'));
  const found = outcome(client.settled('mine'));
  await settle();
  assert.deepEqual(found, {});
  end();
  await settle();
  assert.equal(found.value.id, 'e:1');
});

test('settled_resolves_after_apply_has_ended_the_follow_that_held_the_event', async (t) => {
  const { sockets, open } = bridge(t);
  const client = await open();
  let answer;
  const end = follow(client, { load: () => new Promise((resolve) => (answer = resolve)), apply: () => end() });
  sockets[0].say(hello('e:0'), update('e:1'), { ...update('e:2'), event_id: 'mine' });
  answer();
  await settle();
  const found = outcome(client.settled('mine'));
  await settle();
  assert.equal(found.value.id, 'e:2');
});

for (const status of ['waiting', 'open']) {
  test(`follow_of_a_client_that_another_handler_closes_when_${status}_loads_nothing`, async (t) => {
    const { sockets, open } = bridge(t);
    const client = await open();
    let loads = 0;
    client.on('state', (state) => state.status === status && client.close());
    t.after(follow(client, { load: () => ++loads, apply() {} }));
    if (status === 'waiting') sockets[0].end();
    else sockets[0].say(hello('e:0'));
    await pass(t, 10_000);
    assert.deepEqual([client.state.status, loads], ['closed', 0]);
  });
}

test('settled_after_the_clock_was_set_back_does_not_resolve_with_an_older_gap', async (t) => {
  const { sockets, open } = bridge(t);
  const client = await open();
  sockets[0].say(hello('e:0', { ping_interval_ms: 100_000 }), { type: 'gap', after: 'e:0', last_event_id: 'e:5', reason: 'trimmed' });
  await pass(t, 60_000);
  const { now } = Date;
  t.mock.method(Date, 'now', () => now() - 1_800_000);
  const found = outcome(client.settled('mine'));
  await settle();
  assert.deepEqual(found, {});
});

test('settled_that_timed_out_leaves_no_listener_on_the_signal', async (t) => {
  const { sockets, open } = bridge(t);
  const client = await open();
  sockets[0].say(hello('e:0', { ping_interval_ms: 100_000 }));
  const { signal } = new AbortController();
  const found = outcome(client.settled('never', { signal }));
  await pass(t, 10_000);
  assert.deepEqual([found.error.code, getEventListeners(signal, 'abort').length], ['timeout', 0]);
});

for (const timeout of [0, 2e9, Infinity]) {
  test(`settled_with_a_timeout_of_${timeout}_waits_without_end`, async (t) => {
    const { sockets, open } = bridge(t);
    const client = await open();
    sockets[0].say(hello('e:0', { ping_interval_ms: 100_000 }));
    const found = outcome(client.settled('mine', { timeout }));
    await pass(t, 60_000);
    assert.deepEqual(found, {});
    sockets[0].say({ ...update('e:1'), event_id: 'mine' });
    await settle();
    assert.equal(found.value.id, 'e:1');
  });
}

test('settled_without_the_event_rejects_after_10_s_or_when_closed', async (t) => {
  const { sockets, open } = bridge(t);
  const client = await open();
  sockets[0].say(hello('e:0', { ping_interval_ms: 100_000 }));
  const late = outcome(client.settled('never'));
  await pass(t, 10_000);
  assert.equal(late.error.code, 'timeout');
  const closed = outcome(client.settled('never'));
  client.close();
  await settle();
  assert.equal(closed.error.code, 'closed');
});

test('settled_of_10000_events_over_reconnects_resolves_each_once', async (t) => {
  const { sockets, open } = bridge(t);
  const client = await open();
  sockets[0].say(hello('e:0'));
  let settled = 0;
  for (let n = 1; n <= 10_000; n++) {
    client.settled(`w${n}`).then(() => settled++);
    if (n % 1_000 === 0) { // the connection breaks before the event, which is replayed
      sockets.at(-1).end();
      await pass(t, client.state.delay);
      sockets.at(-1).say(hello(`e:${n - 1}`, { recovered: true }));
    }
    sockets.at(-1).say(own(`e:${n}`, `w${n}`));
  }
  await settle();
  assert.equal(settled, 10_000);
});

test('settled_remembers_a_bounded_number_of_events', async (t) => {
  const { sockets, open } = bridge(t);
  const client = await open();
  sockets[0].say(hello('e:0'));
  for (let n = 1; n <= 2_001; n++) sockets[0].say(own(`e:${n}`, `w${n}`));
  const [pushedOut, kept] = [outcome(client.settled('w1')), outcome(client.settled('w2'))];
  await settle();
  assert.deepEqual([pushedOut.value, kept.value?.id], [undefined, 'e:2']);
});
