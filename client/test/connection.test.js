import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createClient } from '../src/client.js';
import { alive, fakeSockets, fakeStreams, goodbye, hello, pass, replace, settle, still, update } from './fakes.js';

/** A client that connects to fake sockets and streams, and all that it emitted. */
async function connecting(t, options = {}) {
  still(t);
  const { sockets, WebSocket } = fakeSockets();
  const { streams, fetch } = fakeStreams();
  const client = createClient({ url: 'ws://bridge/ws', userId: 'u', share: false, WebSocket, fetch, ...options });
  const states = [], notes = [], gaps = [];
  client.on('state', (state) => states.push(state));
  client.on('note', ({ event }) => notes.push(event));
  client.on('gap', (gap) => gaps.push(gap));
  t.after(() => client.close());
  client.connect();
  await settle();
  return { client, sockets, streams, states, notes, gaps };
}

/** The same, with its first socket open. */
async function connected(t, options, more) {
  const all = await connecting(t, options);
  all.sockets[0].say(hello('e:0', more));
  return all;
}

const statuses = (states) => states.map(({ status }) => status);

test('client_connects_gets_updates_and_closes', async (t) => {
  const { client, sockets, states, notes } = await connected(t);
  assert.equal(sockets[0].url.href, 'ws://bridge/ws?user_id=u');
  assert.deepEqual(sockets[0].protocols, []);
  sockets[0].say(update('e:1', { title: 'Buy milk' }));
  assert.deepEqual(notes, [{ title: 'Buy milk' }]);
  assert.equal(client.position, 'e:1');
  client.close();
  assert.ok(sockets[0].closed);
  assert.deepEqual(statuses(states), ['connecting', 'open', 'closed']);
  assert.equal(states[1].transport, 'websocket');
  sockets[0].say(update('e:2'));
  sockets[0].end(1000);
  await pass(t, 600_000);
  assert.equal(sockets.length, 1);
  assert.equal(notes.length, 1);
  assert.equal(client.state.status, 'closed');
});

test('lost_connection_is_retried_forever_with_backoff_from_its_position', async (t) => {
  const { client, sockets, states } = await connected(t, { sse: false });
  sockets[0].say(update('e:1'));
  sockets[0].end();
  assert.deepEqual(client.state, {
    status: 'waiting', attempt: 1, code: 1006, reason: '', error: undefined, problem: undefined, delay: 375, retryAt: Date.now() + 375,
  });
  const delays = [];
  for (let attempt = 1; attempt < 100; attempt++) {
    delays.push(client.state.delay);
    await pass(t, client.state.delay);
    assert.equal(sockets.length, attempt + 1);
    assert.equal(sockets.at(-1).after, 'e:1');
    sockets.at(-1).end();
  }
  assert.deepEqual([0, 1, 2, 12, 13, 14].map((at) => Math.round(delays[at])), [375, 450, 548, 5950, 7697, 9968]);
  assert.equal(delays.at(-1), 10_125);
  assert.ok(states.every(({ status }) => status !== 'closed'));
});

test('backoff_is_reset_only_by_a_connection_that_lasted_5_s', async (t) => {
  const { client, sockets } = await connected(t);
  for (const lasted of [4_999, 4_999, 5_000, 0]) {
    await pass(t, lasted);
    sockets.at(-1).end();
    await pass(t, client.state.delay);
    sockets.at(-1).say(hello('e:0', { recovered: true }));
    assert.equal(client.state.attempt, 0);
  }
  sockets.at(-1).end();
  assert.equal(client.state.attempt, 3);
});

test('client_closed_in_a_handler_gets_no_more_messages', async (t) => {
  const { client, sockets } = await connecting(t);
  const heard = [];
  client.on('state', ({ status }) => status === 'open' && client.close());
  client.on('*', ({ type }) => heard.push(type));
  sockets[0].say(hello('e:0'), update('e:1'));
  assert.deepEqual([heard, client.state.status, sockets[0].closed], [[], 'closed', true]);
});

for (const code of [1002, 1003, 1007, 1008, 1009, 4500, 4503, 4509, 4777]) {
  test(`close_${code}_is_final`, async (t) => {
    const { client, sockets } = await connected(t);
    sockets[0].end(code, 'why');
    await pass(t, 600_000);
    assert.equal(sockets.length, 1);
    assert.deepEqual([client.state.status, client.state.code, client.state.reason], ['closed', code, 'why']);
    client.connect(); // only the application can connect it again
    assert.equal(client.state.status, 'connecting');
  });
}

for (const code of [1000, 1001, 1005, 1006, 1011, 1013, 4000, 4429, 4499]) {
  test(`close_${code}_reconnects`, async (t) => {
    const { client, sockets } = await connected(t);
    sockets[0].end(code);
    assert.equal(client.state.status, 'waiting');
    await pass(t, 500);
    assert.equal(sockets.length, 2);
  });
}

test('close_4408_resumes_at_once_the_first_time_then_with_backoff', async (t) => {
  const { client, sockets } = await connected(t);
  sockets[0].end(4408, 'slow_consumer');
  assert.equal(client.state.delay, 0);
  await pass(t, 0);
  sockets[1].say(hello('e:0', { recovered: true }));
  sockets[1].end(4408, 'slow_consumer');
  assert.equal(client.state.delay, 375);
  await pass(t, 375);
  sockets[2].say(hello('e:0', { recovered: true }));
  await pass(t, 5_000); // then the connection counts as stable
  sockets[2].end(4408, 'slow_consumer');
  assert.equal(client.state.delay, 0);
});

test('goodbye_opens_a_successor_before_the_old_connection_ends', async (t) => {
  const { client, sockets, states, notes } = await connected(t);
  sockets[0].say(goodbye(1012, 'shutdown', 7_300, 20_000), update('e:1'));
  await pass(t, 7_299);
  assert.equal(sockets.length, 1);
  await pass(t, 1);
  assert.equal(sockets[1].after, 'e:1');
  sockets[0].say(update('e:2')); // both connections are open, and each event is emitted once
  assert.ok(!sockets[0].closed);
  sockets[1].say(hello('e:1', { recovered: true }), update('e:2'), update('e:3'));
  assert.ok(sockets[0].closed);
  sockets[0].end(1012, 'shutdown');
  assert.deepEqual(notes, ['e:1', 'e:2', 'e:3']);
  assert.deepEqual(statuses(states), ['connecting', 'open', 'open']);
  await pass(t, 20_000);
  assert.equal(sockets.length, 2);
  assert.equal(client.state.status, 'open');
});

test('goodbye_then_an_early_close_reconnects_at_the_time_of_the_goodbye', async (t) => {
  const { client, sockets } = await connected(t);
  sockets[0].say(goodbye(1012, 'shutdown', 7_300, 20_000));
  await pass(t, 3_000);
  sockets[0].end(1012, 'shutdown');
  assert.deepEqual([client.state.status, client.state.delay, client.state.code], ['waiting', 4_300, 1012]);
  await pass(t, 4_300);
  assert.equal(sockets.length, 2);
});

test('goodbye_then_a_clock_set_back_reconnects_within_the_delay_of_the_goodbye', async (t) => {
  const { client, sockets } = await connected(t);
  sockets[0].say(goodbye(1012, 'shutdown', 7_000, 20_000));
  await pass(t, 1_000);
  const { now } = Date;
  t.mock.method(Date, 'now', () => now() - 3_600_000);
  sockets[0].end(1012, 'shutdown');
  assert.equal(client.state.delay, 7_000);
});

test('successor_that_fails_is_retried_while_the_old_connection_works', async (t) => {
  const { client, sockets, states, notes } = await connected(t);
  sockets[0].say(goodbye(1012, 'shutdown', 1_000, 20_000));
  await pass(t, 1_000);
  sockets[1].end();
  sockets[0].say(update('e:1'));
  await pass(t, 375);
  sockets[2].say(hello('e:1', { recovered: true }));
  assert.deepEqual(notes, ['e:1']);
  assert.deepEqual(statuses(states), ['connecting', 'open', 'open']);
  assert.equal(client.state.status, 'open');
});

test('successor_being_opened_when_the_old_connection_ends_is_used', async (t) => {
  const { sockets, states } = await connected(t);
  sockets[0].say(goodbye(1012, 'shutdown', 1_000, 20_000));
  await pass(t, 1_000);
  sockets[0].end(1012, 'shutdown');
  assert.equal(states.at(-1).status, 'connecting');
  sockets[1].say(hello('e:0', { recovered: true }));
  await pass(t, 10_000);
  assert.equal(sockets.length, 2);
  assert.equal(states.at(-1).status, 'open');
});

test('successor_still_being_opened_when_a_goodbye_is_due_is_replaced', async (t) => {
  const { sockets } = await connected(t);
  sockets[0].say(update('e:3')); // e:1 and e:2 were missed
  await pass(t, 375);
  sockets[0].say(goodbye(1012, 'shutdown', 1_000, 20_000));
  await pass(t, 1_000);
  assert.deepEqual(sockets.map(({ closed }) => closed), [false, true, false]);
});

test('successor_open_before_a_goodbye_is_due_is_kept', async (t) => {
  const { client, sockets } = await connected(t);
  sockets[0].say(update('e:3')); // e:1 and e:2 were missed
  await pass(t, 375);
  sockets[0].say(goodbye(1012, 'shutdown', 5_000, 20_000));
  sockets[1].say(hello('e:0', { recovered: true }));
  await pass(t, 5_000);
  assert.equal(sockets.length, 2);
  sockets[1].end();
  assert.equal(client.state.delay, 375);
});

test('successor_messages_are_no_sign_of_life_of_the_live_connection', async (t) => {
  const { sockets } = await connected(t);
  sockets[0].say(goodbye(1012, 'shutdown', 30_000, 60_000));
  await pass(t, 30_000);
  sockets[1].say({ type: 'pong' });
  await pass(t, 5_000);
  assert.deepEqual(sockets.map(({ closed }) => closed), [true, false]);
});

test('goodbye_right_before_the_close_or_final_opens_no_successor', async (t) => {
  const { sockets } = await connected(t);
  sockets[0].say(goodbye(4401, 'token_expired'), goodbye(4509, 'force_disconnect', 0, 20_000));
  await pass(t, 19_000);
  assert.equal(sockets.length, 1);
});

test('backoff_is_reset_by_a_stable_connection_that_ends_with_a_goodbye', async (t) => {
  const { client, sockets } = await connecting(t, { sse: false });
  for (let failed = 0; failed < 4; failed++) {
    sockets.at(-1).end();
    await pass(t, client.state.delay);
  }
  sockets.at(-1).say(hello('e:0'));
  await pass(t, 5_000);
  sockets.at(-1).say(goodbye(1012, 'shutdown', 1_000, 20_000));
  await pass(t, 1_000);
  sockets.at(-1).say(hello('e:0', { recovered: true }));
  sockets.at(-1).end();
  assert.equal(client.state.delay, 375);
});

test('socket_without_connected_within_10_s_fails', async (t) => {
  const { client, sockets } = await connecting(t, { sse: false });
  await pass(t, 10_000);
  assert.ok(sockets[0].closed);
  assert.deepEqual([client.state.status, client.state.code, client.state.reason], ['waiting', 1006, 'timeout']);
});

test('silent_connection_is_pinged_then_replaced', async (t) => {
  const { client, sockets } = await connected(t);
  await pass(t, 25_000);
  assert.deepEqual(sockets[0].sent, [{ type: 'ping' }]);
  sockets[0].say({ type: 'pong' });
  await pass(t, 25_000);
  assert.equal(sockets[0].sent.length, 2);
  await pass(t, 10_000);
  assert.ok(sockets[0].closed);
  assert.deepEqual([client.state.status, client.state.reason], ['waiting', 'silent']);
});

test('socket_whose_constructor_throws_waits_and_has_the_error', async (t) => {
  const { client } = await connecting(t, { WebSocket: function () { throw new SyntaxError('no such protocol'); } });
  assert.deepEqual([client.state.status, client.state.reason], ['waiting', '']);
  assert.match(String(client.state.error), /no such protocol/);
});

// Tokens.

test('token_is_fetched_for_each_connection_and_sent_as_a_subprotocol', async (t) => {
  const asked = [];
  const { sockets } = await connected(t, { getToken: ({ reason }) => `token${asked.push(reason)}` });
  assert.deepEqual(sockets[0].protocols, ['wsbridge.v1', 'bearer.token1']);
  assert.ok(!sockets[0].url.href.includes('token'));
  sockets[0].end();
  await pass(t, 500);
  assert.deepEqual(sockets[1].protocols, ['wsbridge.v1', 'bearer.token2']);
  assert.deepEqual(asked, ['connect', 'connect']);
});

test('token_refused_is_replaced_at_once_the_first_time_then_with_backoff', async (t) => {
  const asked = [];
  const { client, sockets } = await connecting(t, { getToken: ({ reason }) => `token${asked.push(reason)}` });
  sockets[0].end(4401, 'token_expired');
  assert.equal(client.state.delay, 0);
  await pass(t, 0);
  sockets[1].end(4401, 'token_invalid');
  assert.equal(client.state.delay, 375);
  await pass(t, 375);
  assert.equal(sockets[2].protocols[1], 'bearer.token3');
  sockets[2].say(hello('e:0'));
  sockets[2].end();
  await pass(t, client.state.delay);
  assert.deepEqual(asked, ['connect', 'token_expired', 'token_invalid', 'connect']);
});

test('token_before_it_expires_is_refreshed_on_the_open_connection', async (t) => {
  const asked = [];
  const { sockets, states } = await connected(t, { getToken: ({ reason }) => `token${asked.push(reason)}` }, { expires_in_ms: 3_600_000, ping_interval_ms: 10_000_000 });
  for (let minute = 0; minute < 59; minute++) {
    assert.deepEqual(asked, ['connect']);
    await pass(t, 60_000);
  }
  assert.deepEqual(asked, ['connect', 'refresh']);
  assert.deepEqual(sockets[0].sent.at(-1), { type: 'auth', token: 'token2' });
  sockets[0].say({ type: 'authenticated', expires_in_ms: 10_000 });
  await pass(t, 8_000); // 20 % early, if that is less than a minute
  assert.deepEqual(sockets[0].sent.at(-1), { type: 'auth', token: 'token3' });
  assert.equal(sockets.length, 1);
  assert.deepEqual(statuses(states), ['connecting', 'open']);
  sockets[0].end();
  await pass(t, 500);
  assert.deepEqual(asked, ['connect', 'refresh', 'refresh', 'connect']);
});

test('refresh_that_fails_is_retried_on_the_open_connection', async (t) => {
  let asked = 0;
  const getToken = () => {
    if (++asked === 2) throw new Error('away');
    return `token${asked}`;
  };
  const { client, sockets } = await connected(t, { getToken }, { expires_in_ms: 10_000 });
  await pass(t, 8_000);
  assert.equal(client.state.status, 'open');
  assert.equal(client.state.error.message, 'away');
  await pass(t, 2_165);
  assert.deepEqual(sockets[0].sent, [{ type: 'auth', token: 'token3' }]);
});

test('refresh_of_a_lost_connection_is_cancelled', async (t) => {
  const asked = [];
  const { sockets } = await connected(t, { getToken: ({ reason }) => `token${asked.push(reason)}` }, { expires_in_ms: 10_000 });
  await pass(t, 7_900);
  sockets[0].end();
  await pass(t, 200);
  assert.deepEqual(asked, ['connect']);
});

test('refresh_with_an_expired_token_waits_5_s', async (t) => {
  let asked = 0;
  const { sockets } = await connected(t, { getToken: () => `token${++asked}` }, { expires_in_ms: 0 });
  await pass(t, 5_000);
  sockets[0].say({ type: 'authenticated', expires_in_ms: 0 });
  await pass(t, 4_999);
  assert.equal(asked, 2);
});

for (const how of ['that_resolves', 'that_rejects']) {
  test(`refresh_${how}_after_its_connection_ended_changes_nothing`, async (t) => {
    const pending = [];
    let asked = 0;
    const getToken = () => (++asked === 2 ? new Promise((resolve, reject) => pending.push({ resolve, reject })) : 'token');
    const { client, sockets } = await connected(t, { getToken }, { expires_in_ms: 10_000 });
    await pass(t, 8_000);
    sockets[0].end();
    if (how === 'that_resolves') pending[0].resolve('late');
    else pending[0].reject(new Error('late'));
    await settle();
    assert.equal(client.state.status, 'waiting');
    await pass(t, 375);
    sockets[1].say(hello('e:0', { recovered: true }));
    assert.deepEqual([...sockets[0].sent, ...sockets[1].sent], []);
  });
}

test('connect_after_a_close_resets_attempts_and_backoff', async (t) => {
  const { client, sockets } = await connecting(t);
  for (let times = 0; times < 2; times++) {
    sockets.at(-1).end(4401, 'token_expired');
    assert.equal(client.state.delay, 0);
    await pass(t, 0);
    sockets.at(-1).end(4401, 'token_expired');
    assert.equal(client.state.delay, 375);
    client.close();
    client.connect();
    assert.deepEqual(client.state, { status: 'connecting', attempt: 0 });
    await settle();
  }
});

test('close_cancels_all_timers', async (t) => {
  const asked = [];
  const { client, sockets } = await connected(t, { getToken: ({ reason }) => `token${asked.push(reason)}` }, { expires_in_ms: 10_000 });
  client.close();
  await pass(t, 20_000);
  assert.deepEqual(asked, ['connect']);
  client.connect();
  await settle();
  sockets[1].end();
  client.close(); // while it waits for the next attempt
  await pass(t, 20_000);
  assert.equal(sockets.length, 2);
  client.connect();
  await settle();
  assert.equal(sockets.length, 3);
});

test('authenticated_without_an_expiry_plans_no_refresh', async (t) => {
  const asked = [];
  const { sockets } = await connected(t, { getToken: ({ reason }) => `token${asked.push(reason)}` });
  sockets[0].say({ type: 'authenticated' });
  await pass(t, 20_000);
  assert.deepEqual(asked, ['connect']);
});

test('client_without_get_token_sends_no_token', async (t) => {
  const { sockets } = await connected(t, {}, { expires_in_ms: 10_000 });
  sockets[0].say({ type: 'error', code: 'unavailable', message: '' });
  await pass(t, 20_000);
  assert.deepEqual(sockets[0].sent, []);
});

test('successor_replaces_the_time_of_the_refresh', async (t) => {
  const asked = [];
  const { sockets } = await connected(t, { getToken: ({ reason }) => `token${asked.push(reason)}` }, { expires_in_ms: 10_000 });
  sockets[0].say(goodbye(1012, 'shutdown', 5_000, 20_000));
  await pass(t, 5_000);
  sockets[1].say(hello('e:0', { recovered: true, expires_in_ms: 100_000 }));
  await pass(t, 10_000);
  assert.deepEqual(asked, ['connect', 'connect']);
});

test('token_that_outlasts_the_longest_timer_is_not_refreshed_at_once', async (t) => {
  const delays = [];
  await connecting(t, { getToken: () => 'token', WebSocket: class {
    constructor() {
      queueMicrotask(() => {
        const { setTimeout } = globalThis;
        t.mock.method(globalThis, 'setTimeout', (task, delay) => (delays.push(delay), setTimeout(task, delay)));
        this.onmessage({ data: JSON.stringify(hello('e:0', { expires_in_ms: 366 * 86_400_000 })) });
      });
    }
    close() {}
  } });
  assert.ok(Math.max(...delays) > 86_400_000);
  assert.ok(Math.max(...delays) < 2 ** 31);
});

test('refresh_that_works_clears_the_error_of_the_last_one', async (t) => {
  let asked = 0;
  const getToken = () => (++asked === 2 ? Promise.reject(new Error('away')) : 'token');
  const { client, sockets } = await connected(t, { getToken }, { expires_in_ms: 10_000 });
  await pass(t, 10_165);
  sockets[0].say({ type: 'authenticated', expires_in_ms: 3_600_000 });
  assert.deepEqual([client.state.status, client.state.transport, client.state.error], ['open', 'websocket', undefined]);
});

test('error_unavailable_repeats_the_refresh', async (t) => {
  let asked = 0;
  const { sockets } = await connected(t, { getToken: () => `token${++asked}` }, { expires_in_ms: 10_000 });
  await pass(t, 8_000);
  sockets[0].say({ type: 'error', code: 'unavailable', message: '' });
  await pass(t, 2_165);
  assert.deepEqual(sockets[0].sent.map(({ token }) => token), ['token2', 'token3']);
});

test('error_bad_message_causes_no_refresh', async (t) => {
  const { sockets } = await connected(t, { getToken: () => 'token' });
  sockets[0].say({ type: 'error', code: 'bad_message', message: '' }, { type: 'new', code: 'unavailable' });
  await pass(t, 4_000);
  assert.deepEqual(sockets[0].sent, []);
});

test('token_null_closes_without_a_socket', async (t) => {
  const { client, sockets } = await connecting(t, { getToken: async () => null });
  assert.deepEqual([client.state.status, client.state.reason, client.state.code], ['closed', 'no_token', undefined]);
  assert.equal(sockets.length, 0);
});

test('refresh_null_closes_the_open_connection', async (t) => {
  const tokens = ['first', null];
  const { client, sockets } = await connected(t, { getToken: () => tokens.shift() }, { expires_in_ms: 10_000 });
  await pass(t, 8_000);
  assert.deepEqual([client.state.status, client.state.reason], ['closed', 'no_token']);
  assert.ok(sockets[0].closed);
});

test('token_that_fails_is_retried_and_the_state_has_error_and_time', async (t) => {
  let asked = 0;
  const { client, sockets } = await connecting(t, { getToken: async () => {
    if (++asked < 3) throw new Error('the endpoint is away');
    return 'token';
  } });
  const { status, error, delay, retryAt, code, reason } = client.state;
  assert.deepEqual([status, error.message, delay, retryAt, code, reason], ['waiting', 'the endpoint is away', 375, Date.now() + 375, 1006, 'token']);
  await pass(t, 375);
  await pass(t, client.state.delay);
  assert.equal(sockets[0].protocols[1], 'bearer.token');
});

test('token_that_fails_with_a_circular_error_is_retried', async (t) => {
  const error = new Error('away');
  error.response = { error, size: 1n };
  const { client, states, sockets } = await connecting(t, { getToken: () => Promise.reject(error) });
  for (let n = 0; n < 3; n++) await pass(t, client.state.delay);
  assert.deepEqual(statuses(states).slice(0, 4), ['connecting', 'waiting', 'connecting', 'waiting']);
  assert.deepEqual([client.state.error, sockets.length], [error, 0]);
});

test('token_after_many_failures_begins_with_short_delays_again', async (t) => {
  let asked = 0;
  const { client, sockets } = await connecting(t, { getToken: () => {
    if (++asked <= 12) throw new Error('the endpoint is away');
    return 'token';
  } });
  while (!sockets.length) await pass(t, client.state.delay);
  sockets[0].end();
  assert.deepEqual([client.state.attempt, client.state.delay], [1, 375]);
});

test('token_without_an_answer_within_10_s_fails_and_is_aborted', async (t) => {
  let signal;
  const { client } = await connecting(t, { getToken: (request) => new Promise(() => ({ signal } = request)) });
  await pass(t, 10_000);
  assert.ok(signal.aborted);
  assert.equal(client.state.status, 'waiting');
});

test('token_after_the_close_opens_nothing', async (t) => {
  let give;
  const { client, sockets } = await connecting(t, { getToken: () => new Promise((resolve) => (give = resolve)) });
  client.close();
  give('late');
  await pass(t, 60_000);
  assert.equal(sockets.length, 0);
  assert.equal(client.state.status, 'closed');
});

test('token_failures_do_not_count_as_blocked_sockets', async (t) => {
  let isThere = false;
  const { client, sockets, streams } = await connecting(t, { getToken: () => {
    if (!isThere) throw new Error('the endpoint is away');
    return 'token';
  } });
  for (let failed = 1; failed < 5; failed++) await pass(t, client.state.delay);
  isThere = true;
  await pass(t, client.state.delay);
  assert.deepEqual([sockets.length, streams.length], [1, 0]);
});

for (const token of ['Bearer a.b.c', '"a.b.c"', { token: 'a.b.c' }]) {
  test(`token_${JSON.stringify(token)}_that_is_not_a_jwt_is_neither_sent_nor_in_the_error`, async (t) => {
    const { client, sockets } = await connecting(t, { getToken: () => token });
    assert.equal(sockets.length, 0);
    assert.match(client.state.error.message, /not a JWT/);
    assert.doesNotMatch(client.state.error.message, /a\.b\.c/);
  });
}

// Streams.

/** A client whose first three sockets failed, so it opens a stream. */
async function streaming(t, options) {
  const all = await connecting(t, options);
  for (let failed = 0; failed < 3; failed++) {
    all.sockets.at(-1).end();
    await pass(t, all.client.state.delay);
  }
  assert.equal(all.sockets.length, 3);
  assert.equal(all.streams.length, 1);
  return all;
}

/** The same, and the stream is open. */
async function streamed(t) {
  const scene = await streaming(t);
  scene.streams[0].open();
  await settle();
  scene.streams[0].say(hello('e:0'));
  await settle();
  return scene;
}

test('stream_after_three_failed_sockets_opens_with_the_token_in_a_header', async (t) => {
  const { client, streams, notes } = await streaming(t, { getToken: () => 'token' });
  assert.equal(streams[0].url.href, 'http://bridge/sse?user_id=u');
  assert.deepEqual(streams[0].headers, { Accept: 'text/event-stream', Authorization: 'Bearer token' });
  streams[0].open();
  await settle();
  streams[0].say(hello('e:0'), update('e:1'));
  await settle();
  assert.deepEqual([client.state.status, client.state.transport], ['open', 'sse']);
  assert.deepEqual(notes, ['e:1']);
});

test('stream_tries_sockets_beside_it_less_and_less_often_and_ends_when_one_opens', async (t) => {
  const { client, sockets, streams, notes } = await streaming(t);
  streams[0].open();
  await settle();
  streams[0].say(hello('e:0'));
  await settle();
  await alive(t, streams[0], 10_000);
  assert.equal(sockets.length, 4);
  sockets[3].end();
  await alive(t, streams[0], 19_000);
  assert.equal(sockets.length, 4);
  await alive(t, streams[0], 1_000);
  assert.equal(sockets.length, 5);
  streams[0].say(update('e:1'));
  await settle();
  sockets[4].say(hello('e:0', { recovered: true }), update('e:1'), update('e:2'));
  assert.ok(streams[0].signal.aborted);
  assert.deepEqual(notes, ['e:1', 'e:2']);
  assert.equal(client.state.transport, 'websocket');
  for (let failed = 0; failed < 4; failed++) { // the first of them was open
    sockets.at(-1).end();
    await pass(t, client.state.delay);
  }
  streams[1].open();
  await settle();
  streams[1].say(hello('e:2', { recovered: true }));
  await settle();
  const { length } = sockets;
  await alive(t, streams[1], 10_000);
  assert.equal(sockets.length, length + 1);
});

test('stream_that_is_silent_is_replaced', async (t) => {
  const { client, streams } = await streamed(t);
  await alive(t, streams[0], 50_000);
  assert.equal(client.state.status, 'open');
  await pass(t, 35_000);
  assert.deepEqual([client.state.reason, client.state.code], ['silent', 1006]);
  assert.ok(streams[0].signal.aborted);
});

test('stream_then_close_and_connect_opens_a_stream_again', async (t) => {
  const { client, sockets, streams } = await streamed(t);
  client.close();
  client.connect();
  await settle();
  assert.deepEqual([sockets.length, streams.length], [3, 2]);
});

test('stream_without_a_comment_16_s_after_the_page_is_visible_is_replaced', async (t) => {
  const document = new EventTarget();
  replace(t, globalThis, 'document', document);
  const { client, streams } = await streamed(t);
  document.dispatchEvent(new Event('visibilitychange'));
  await pass(t, 15_999);
  assert.equal(client.state.status, 'open');
  await pass(t, 1);
  assert.equal(client.state.reason, 'silent');
});

test('stream_tries_a_socket_at_least_once_an_hour', async (t) => {
  const { sockets, streams } = await streamed(t);
  for (const seconds of [10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600, 3_600]) {
    const { length } = sockets;
    await alive(t, streams[0], seconds * 1_000 - 1_000);
    assert.equal(sockets.length, length);
    await alive(t, streams[0], 1_000);
    assert.equal(sockets.length, length + 1);
    sockets.at(-1).end();
  }
});

test('stream_goodbye_keeps_its_delay_if_a_socket_beside_it_fails', async (t) => {
  const { client, sockets, streams } = await streamed(t);
  await alive(t, streams[0], 10_000);
  streams[0].say(goodbye(1012, 'shutdown', 7_000, 20_000));
  await settle();
  sockets[3].end();
  await pass(t, 6_999);
  assert.equal(streams.length, 1);
  await pass(t, 1);
  assert.equal(streams.length, 2);
  assert.equal(client.state.status, 'open');
});

test('stream_that_ends_does_not_wait_for_a_silent_socket_beside_it', async (t) => {
  const { client, sockets, streams } = await streamed(t);
  await alive(t, streams[0], 10_000);
  streams[0].end();
  await pass(t, 0);
  assert.deepEqual([client.state.status, client.state.delay, sockets.length], ['waiting', 375, 4]);
  await pass(t, 375);
  assert.deepEqual([streams.length, sockets[3].closed], [2, true]);
});

test('stream_and_socket_that_both_fail_are_tried_in_turn', async (t) => {
  const { client, sockets, streams } = await streaming(t);
  const next = () => pass(t, client.state.delay);
  streams[0].fail();
  await settle();
  await next();
  assert.deepEqual([sockets.length, streams.length], [4, 1]);
  sockets[3].end();
  await next();
  assert.deepEqual([sockets.length, streams.length], [4, 2]);
  streams[1].fail();
  await settle();
  await next();
  assert.deepEqual([sockets.length, streams.length], [5, 2]);
});

test('stream_is_tried_only_after_sockets_that_failed_in_a_row', async (t) => {
  const { client, sockets, streams } = await connecting(t);
  const fail = async (times) => {
    for (let failed = 0; failed < times; failed++) {
      sockets.at(-1).end();
      await pass(t, client.state.delay);
    }
  };
  await fail(2);
  sockets.at(-1).say(hello('e:0'));
  await fail(3); // the first of them was open
  assert.deepEqual([sockets.length, streams.length], [6, 0]);
  sockets.at(-1).end(1013, 'overloaded'); // a close frame proves that sockets are not blocked
  await pass(t, client.state.delay);
  await fail(2);
  assert.equal(streams.length, 0);
  await fail(1);
  assert.equal(streams.length, 1);
});

for (const [status, code, reason, ends] of [
  [400, 4500, 'user_id_required', true], [403, 4503, 'origin_forbidden', true], [401, 4401, 'token_expired', false],
]) {
  test(`stream_refused_with_${status}_has_the_code_${code}`, async (t) => {
    const { client, streams } = await streaming(t);
    streams[0].refuse(status, reason);
    await settle();
    assert.deepEqual([client.state.status, client.state.code, client.state.reason], [ends ? 'closed' : 'waiting', code, reason]);
  });
}

for (const status of [400, 401, 403]) {
  test(`stream_refused_with_${status}_by_a_proxy_reconnects`, async (t) => {
    const { client, streams } = await streaming(t);
    streams[0].answer(new Response('<h1>No</h1>', { status }));
    await settle();
    assert.deepEqual([client.state.status, client.state.code], ['waiting', 1006]);
  });
}

for (const status of [404, 429, 500, 502, 503]) {
  test(`stream_answered_with_${status}_reconnects`, async (t) => {
    const { client, streams } = await streaming(t);
    streams[0].refuse(status);
    await settle();
    assert.deepEqual([client.state.status, client.state.code], ['waiting', 1006]);
  });
}

test('stream_goodbye_overloaded_reconnects_at_the_time_of_the_goodbye', async (t) => {
  const { client, streams } = await streaming(t);
  streams[0].open();
  await settle();
  streams[0].say(goodbye(1013, 'overloaded', 30_000));
  streams[0].end();
  await settle();
  assert.deepEqual([client.state.status, client.state.code, client.state.delay], ['waiting', 1013, 30_000]);
  await pass(t, 30_000);
  assert.equal(streams.length, 2);
});

test('stream_token_before_it_expires_is_refreshed_by_a_successor', async (t) => {
  const asked = [];
  const { streams, client } = await streaming(t, { getToken: ({ reason }) => `token${asked.push(reason)}` });
  streams[0].open();
  await settle();
  streams[0].say(hello('e:0', { expires_in_ms: 10_000 }));
  await settle();
  await pass(t, 8_000);
  assert.equal(asked.at(-1), 'refresh');
  assert.equal(streams[1].url.searchParams.get('last_event_id'), 'e:0');
  streams[1].open();
  await settle();
  streams[1].say(hello('e:0', { recovered: true }));
  await settle();
  assert.ok(streams[0].signal.aborted);
  assert.equal(client.state.status, 'open');
});

test('client_without_a_stream_url_tries_only_sockets', async (t) => {
  const { client, sockets, streams } = await connecting(t, { url: 'ws://bridge/socket' });
  for (let failed = 0; failed < 6; failed++) {
    sockets.at(-1).end();
    await pass(t, client.state.delay);
  }
  assert.deepEqual([sockets.length, streams.length], [7, 0]);
});
