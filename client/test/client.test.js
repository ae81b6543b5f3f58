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

// Connect and close.

test('client_before_connect_opens_nothing_and_needs_no_browser', async (t) => {
  const { client: fresh, sockets } = client(t, { url: '/ws', resume: 'session', getToken: () => assert.fail() });
  await pass(t, 60_000);
  assert.deepEqual([fresh.state, fresh.position], [{ status: 'idle', attempt: 0 }, '']);
  assert.equal(sockets.length, 0);
});

test('connect_with_an_invalid_url_throws', (t) => {
  assert.throws(() => client(t, { url: 'ws://[' }).client.connect(), { code: 'bad_url' });
});

test('connect_twice_opens_one_socket', async (t) => {
  const { client, sockets } = await connected(t);
  client.connect();
  await settle();
  assert.equal(sockets.length, 1);
});

test('connect_after_a_close_resumes_from_the_position', async (t) => {
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

test('close_before_connect_does_nothing', (t) => {
  const { client: fresh } = client(t);
  fresh.close();
  assert.deepEqual(fresh.state, { status: 'idle', attempt: 0 });
});

test('connect_without_a_user_id_sends_no_user_in_the_url', async (t) => {
  const { sockets } = await connected(t, { userId: undefined, getToken: () => 'token' });
  assert.equal(sockets[0].url.href, 'ws://bridge/ws');
});

test('signal_when_aborted_closes_the_client_and_prevents_a_connect', async (t) => {
  const over = new AbortController();
  const { client, sockets } = await connected(t, { signal: over.signal });
  over.abort();
  assert.equal(client.state.status, 'closed');
  client.connect();
  await settle();
  assert.equal(sockets.length, 1);
});

for (const when of ['before', 'after']) {
  test(`signal_aborted_${when}_the_client_was_created_closes_a_client_that_never_connected`, async (t) => {
    const over = new AbortController();
    if (when === 'before') over.abort();
    const { client: idle, sockets } = client(t, { signal: over.signal });
    const ready = assert.rejects(idle.ready(), { code: 'closed' });
    over.abort();
    idle.connect();
    assert.deepEqual([idle.state, sockets.length], [{ status: 'closed', attempt: 0 }, 0]);
    await ready;
  });
}

test('connect_with_a_relative_url_resolves_it_and_keeps_its_parameters', async (t) => {
  replace(t, globalThis, 'location', { href: 'https://app.example/shop/' });
  const { client: relative, sockets } = client(t, { url: '../push/ws?v=1', userId: 'ü&/' });
  relative.connect();
  await settle();
  assert.equal(sockets[0].url.href, 'wss://app.example/push/ws?v=1&user_id=%C3%BC%26%2F');
});

// The position.

test('position_without_any_event_is_that_of_connected', async (t) => {
  const { client, sockets } = await connected(t, {}, 'e:41');
  assert.equal(client.position, 'e:41');
  sockets[0].end();
  await pass(t, 500);
  assert.equal(sockets[1].after, 'e:41');
});

test('update_at_or_before_the_position_is_a_duplicate_and_offsets_compare_as_numbers', async (t) => {
  const { sockets, notes } = await connected(t, {}, 'e:8');
  sockets[0].say(...['e:9', 'e:10', 'e:9', 'e:10', 'e:8', 'e:11'].map((id) => update(id)));
  assert.deepEqual(notes, ['e:9', 'e:10', 'e:11']);
});

test('update_after_missed_ones_is_held_back_and_a_second_connection_resumes', async (t) => {
  const { client, sockets, notes } = await connected(t);
  sockets[0].say(update('e:1'), update('e:3'), update('e:4'));
  assert.equal(client.position, 'e:1');
  await pass(t, 500);
  assert.equal(sockets.length, 2);
  assert.equal(sockets[1].after, 'e:1');
  sockets[0].say(update('e:4'));
  await pass(t, 1_000);
  assert.equal(sockets.length, 2); // the second socket is still being opened
  sockets[1].say(hello('e:1', { recovered: true }), update('e:2'), update('e:3'), update('e:4'));
  assert.ok(sockets[0].closed);
  assert.deepEqual(notes, ['e:1', 'e:2', 'e:3', 'e:4']);
});

test('connected_beyond_the_position_is_followed_by_a_connection_that_resumes', async (t) => {
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

test('missed_updates_delay_the_resume_with_backoff_only_if_they_repeat', async (t) => {
  const { sockets } = await connected(t);
  const delays = [];
  for (const lasted of [10_000, 10_000, 0, 0, 10_000]) { // `Math.random` returns 0.5, so each delay is the middle of its range
    await pass(t, lasted);
    sockets.at(-1).say(update('e:9'));
    const { length } = sockets, since = Date.now();
    while (sockets.length === length) await pass(t, 75);
    delays.push(Date.now() - since);
    sockets.at(-1).say(hello('e:0', { recovered: true }));
  }
  assert.deepEqual(delays, [375, 375, 450, 600, 375]);
});

test('position_during_the_handlers_is_the_old_one', async (t) => {
  const { client, sockets } = await connected(t);
  const seen = [];
  client.on('note', () => seen.push(client.position));
  sockets[0].say(update('e:1'));
  assert.deepEqual([seen, client.position], [['e:0'], 'e:1']);
});

test('gap_sent_twice_is_emitted_once_and_moves_the_position', async (t) => {
  const { client, sockets, notes, gaps } = await connected(t, {}, 'e:5');
  sockets[0].end();
  await pass(t, 500);
  const gap = { type: 'gap', after: 'e:5', last_event_id: 'f:2', reason: 'reset' };
  sockets[1].say(hello('f:2', { recovered: false }), gap, gap, update('f:3'));
  assert.deepEqual([gaps, notes, client.position], [['f:2'], ['f:3'], 'f:3']);
});

test('gap_in_the_middle_of_a_session_moves_the_position', async (t) => {
  const { client, sockets, notes, gaps } = await connected(t);
  sockets[0].say(update('e:1'), { type: 'gap', after: 'e:1', last_event_id: 'e:97', reason: 'trimmed' }, update('e:98'));
  assert.deepEqual([gaps, notes, client.position], [['e:97'], ['e:1', 'e:98'], 'e:98']);
});

// Resume after a reload.

function sessionStorage(t) {
  const kept = new Map();
  replace(t, globalThis, 'sessionStorage', { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) });
  return kept;
}

test('reload_resumes_only_with_the_option_and_for_the_same_user', async (t) => {
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

test('resume_with_forbidden_storage_works_without_it', async (t) => {
  replace(t, globalThis, 'sessionStorage', { getItem: () => { throw new Error('forbidden'); }, setItem: () => { throw new Error('full'); } });
  const { sockets, notes } = await connected(t, { resume: 'session' });
  sockets[0].say(update('e:1'));
  assert.deepEqual(notes, ['e:1']);
});

// Handlers.

test('handler_added_twice_is_called_twice_and_removed_by_its_function_or_signal', async (t) => {
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

test('handler_removed_by_another_handler_is_not_called', async (t) => {
  const { client, sockets } = await connected(t);
  const seen = [];
  client.on('note', () => off());
  const off = client.on('note', ({ id }) => seen.push(id));
  sockets[0].say(update('e:1'));
  assert.deepEqual(seen, []);
});

test('messages_after_return_leave_no_listener_on_the_signal', async (t) => {
  const { client } = await connected(t);
  const { signal } = new AbortController();
  for (let i = 0; i < 3; i++) await client.messages('note', { signal }).return();
  assert.equal(getEventListeners(signal, 'abort').length, 0);
});

test('handler_that_throws_does_not_stop_the_others_and_its_error_is_reported', async (t) => {
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

for (const status of ['connecting', 'waiting', 'open']) {
  test(`client_closed_in_a_handler_of_${status}_shows_the_other_handlers_no_older_state`, async (t) => {
    const { client: closed, sockets } = client(t, { sse: false });
    const seen = [];
    closed.on('state', (state) => state.status === status && closed.close());
    closed.on('state', (state) => seen.push(state.status));
    closed.connect();
    await settle();
    if (status === 'waiting') sockets[0].end();
    if (status === 'open') sockets[0].say(hello('e:0'));
    assert.deepEqual(seen, status === 'connecting' ? ['closed'] : ['connecting', 'closed']);
  });
}

test('handlers_for_all_types_and_for_errors_get_their_messages', async (t) => {
  const { client, sockets } = await connected(t);
  const all = [], errors = [];
  client.on('*', ({ type }) => all.push(type));
  client.on('error', ({ code }) => errors.push(code));
  sockets[0].say({ type: 'error', code: 'bad_message', message: '' }, { type: 'pong' }, update('e:1'), { type: 'new', id: 'e:2' });
  assert.deepEqual([all, errors], [['error', 'note', 'new'], ['bad_message']]);
});

// Messages as an async iterator.

test('messages_yields_from_the_call_until_the_client_is_closed', async (t) => {
  const { client, sockets } = await connected(t);
  const messages = client.messages('note');
  sockets[0].say(update('e:1'), update('e:2'));
  client.close();
  const seen = [];
  for await (const { id } of messages) seen.push(id);
  assert.deepEqual(seen, ['e:1', 'e:2']);
});

test('messages_waits_for_the_next_message_and_ends_with_its_signal', async (t) => {
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

test('messages_read_too_slowly_throws', async (t) => {
  const { client, sockets } = await connected(t);
  const messages = client.messages('note');
  for (let offset = 1; offset <= 10_002; offset++) sockets[0].say(update(`e:${offset}`));
  await assert.rejects(messages.next(), /10000 messages are unread/);
});

/** Returns an `on` for `iterate`, and the handlers that are registered with it. */
function listening() {
  const handlers = {};
  const on = (type, handler, { signal }) => {
    handlers[type] = handler;
    signal.addEventListener('abort', () => delete handlers[type]);
  };
  return { handlers, on };
}

test('messages_over_the_limit_are_not_collected_any_more', async () => {
  const { handlers, on } = listening();
  const messages = iterate(on, 'note');
  for (let unread = 0; unread < 10_000; unread++) handlers.note({ unread });
  assert.deepEqual(await messages.next(), { value: { unread: 0 }, done: false });
  handlers.note({});
  handlers.note({});
  assert.deepEqual(handlers, {});
  await assert.rejects(messages.next(), /unread/);
});

test('messages_with_an_aborted_signal_ends_at_once', async () => {
  const { handlers, on } = listening();
  const messages = iterate(on, 'note', AbortSignal.abort());
  assert.deepEqual(handlers, {});
  assert.equal((await messages.next()).done, true);
});

test('messages_while_waiting_ends_on_return', async (t) => {
  const { client } = await connected(t);
  const messages = client.messages('note');
  const next = messages.next();
  await messages.return();
  assert.deepEqual(await next, { value: undefined, done: true });
});

// Events of a page.

function browser(t) {
  const window = new EventTarget(), document = new EventTarget();
  replace(t, globalThis, 'window', window);
  replace(t, globalThis, 'document', document);
  const fire = (target, type, more = {}) => target.dispatchEvent(Object.assign(new Event(type), more));
  return { window, document, fire };
}

test('page_online_while_waiting_tries_within_a_second', async (t) => {
  const { window, fire } = browser(t);
  const { client, sockets } = await connected(t, { sse: false });
  for (let failed = 0; failed < 20; failed++) {
    sockets.at(-1).end();
    await pass(t, failed < 19 ? 20_000 : 1_000);
  }
  const before = sockets.length;
  fire(window, 'online');
  assert.equal(client.state.delay, 500); // `Math.random` returns 0.5
  await pass(t, 500);
  assert.equal(sockets.length, before + 1);
  sockets.at(-1).say(hello('e:0', { recovered: true }));
  await pass(t, 20_000); // long enough for the attempt that was planned before
  assert.equal(sockets.length, before + 1);
});

test('page_online_during_a_try_makes_the_next_delay_short', async (t) => {
  const { window, fire } = browser(t);
  const { client, sockets } = await connected(t, { sse: false });
  for (let failed = 0; failed < 20; failed++) {
    sockets.at(-1).end();
    await pass(t, client.state.delay);
  }
  fire(window, 'online');
  sockets.at(-1).end(); // it was opened in the old network
  assert.equal(client.state.delay, 375);
});

test('page_online_after_the_planned_try_has_no_negative_delay', async (t) => {
  const { window, fire } = browser(t);
  const { client, sockets } = await connected(t);
  sockets[0].end();
  t.mock.method(Date, 'now', () => 2_000_000); // while a laptop sleeps, timers stop and the clock goes on
  fire(window, 'online');
  assert.equal(client.state.delay, 0);
});

test('page_online_while_waiting_after_a_goodbye_keeps_its_delay', async (t) => {
  const { window, fire } = browser(t);
  const { client, sockets } = await connected(t);
  sockets[0].say({ type: 'goodbye', code: 1012, reason: 'shutdown', reconnect: true, reconnect_after_ms: 7_000, close_after_ms: 9_000 });
  sockets[0].end(1012);
  fire(window, 'online');
  assert.equal(client.state.delay, 7_000);
});

for (const [target, type] of [['window', 'online'], ['document', 'visibilitychange']]) {
  test(`page_${type}_with_a_dead_connection_detects_it_within_3_s`, async (t) => {
    const page = browser(t);
    const { client, sockets } = await connected(t);
    page.fire(page[target], type);
    assert.deepEqual(sockets[0].sent, [{ type: 'ping' }]);
    await pass(t, 3_000);
    assert.equal(client.state.reason, 'silent');
  });
}

test('page_that_becomes_hidden_sends_no_ping', async (t) => {
  const { document, fire } = browser(t);
  const { sockets } = await connected(t);
  document.hidden = true;
  fire(document, 'visibilitychange');
  assert.deepEqual(sockets[0].sent, []);
});

for (const [away, back] of [['pagehide', 'pageshow'], ['freeze', 'resume']]) {
  test(`page_between_${away}_and_${back}_has_no_connection`, async (t) => {
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
    fire(document, 'resume'); // browsers fire both events
    await settle();
    assert.equal(sockets.length, 2);
    sockets[1].say(hello('e:1', { recovered: true }), update('e:2'));
    assert.deepEqual(notes, ['e:1', 'e:2']);
  });
}

test('page_first_pageshow_opens_no_second_socket', async (t) => {
  const { window, fire } = browser(t);
  const { sockets } = await connected(t);
  fire(window, 'pageshow', { persisted: false });
  await settle();
  assert.equal(sockets.length, 1);
});

test('page_resume_without_a_freeze_opens_no_socket', async (t) => {
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

test('page_events_after_a_close_do_nothing', async (t) => {
  const { window, document, fire } = browser(t);
  const { client, sockets } = await connected(t);
  client.close();
  fire(window, 'pageshow', { persisted: true });
  fire(document, 'resume');
  fire(window, 'online');
  await pass(t, 60_000);
  assert.equal(sockets.length, 1);
});
