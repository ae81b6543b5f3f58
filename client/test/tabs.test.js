import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createClient } from '../src/client.js';
import { fakeOrigin, fakeSockets, hello, pass, replace, settle, still, update } from './fakes.js';

/** Tabs of one origin; the test sends the messages of the bridge on their sockets. */
function origin(t) {
  still(t);
  const { sockets, WebSocket } = fakeSockets();
  const { channels, waiting } = fakeOrigin(t);
  let opened = 0;
  const open = async (options = {}, onState = () => {}) => {
    const client = createClient({ url: 'ws://bridge/ws', userId: 'u', WebSocket, ...options });
    const tab = { client, notes: [], gaps: [], statuses: [], welcomes: [] };
    client.on('note', ({ id }) => tab.notes.push(id));
    client.on('gap', ({ last_event_id }) => tab.gaps.push(last_event_id));
    client.on('connected', ({ last_event_id, recovered }) => tab.welcomes.push([last_event_id, recovered]));
    client.on('state', ({ status }) => tab.statuses.push(status));
    client.on('state', ({ status }) => onState(status, client));
    t.after(() => client.close());
    t.mock.method(Math, 'random', () => (opened += 0.01)); // the addresses of the tabs for answers
    client.connect();
    t.mock.method(Math, 'random', () => 0.5);
    await settle();
    return tab;
  };
  const say = async (...frames) => {
    sockets.at(-1).say(...frames);
    await settle();
  };
  const mute = (number) => { // freezes a tab, which gets no event before it; returns a function that wakes it
    const channel = [...channels][number], { onmessage } = channel;
    channel.onmessage = null;
    return () => (channel.onmessage = onmessage);
  };
  return { sockets, channels, waiting, open, say, mute };
}

test('tabs_of_a_user_share_one_socket_and_each_gets_every_update', async (t) => {
  const { sockets, open, say } = origin(t);
  const first = await open(), second = await open();
  await say(hello('e:0'), update('e:1'));
  const third = await open();
  await say(update('e:2'));
  assert.equal(sockets.length, 1);
  assert.deepEqual([first.notes, second.notes, third.notes], [['e:1', 'e:2'], ['e:1', 'e:2'], ['e:2']]);
  assert.deepEqual([first, second, third].map(({ client }) => client.state.transport), ['websocket', 'tab', 'tab']);
  assert.deepEqual([first, second, third].map(({ client }) => client.position), ['e:2', 'e:2', 'e:2']);
});

test('tabs_with_another_user_or_url_or_without_sharing_have_their_own_sockets', async (t) => {
  const { sockets, open } = origin(t);
  await open();
  await open({ userId: 'another' });
  await open({ url: 'ws://bridge/ws?v=2' });
  await open({ share: false });
  await open({ userId: undefined, getToken: () => 'token' });
  assert.equal(sockets.length, 5);
});

test('follower_shows_the_state_of_the_leader', async (t) => {
  const { sockets, open, say } = origin(t);
  await open();
  const second = await open();
  await say(hello('e:0'));
  sockets[0].end(1011, 'internal');
  await settle();
  assert.deepEqual([second.client.state.status, second.client.state.code, second.client.state.delay], ['waiting', 1011, 375]);
  await pass(t, 375);
  await say(hello('e:0', { recovered: true }));
  assert.deepEqual(second.statuses, ['connecting', 'open', 'waiting', 'connecting', 'open']);
});

test('follower_shows_an_error_that_cannot_be_cloned_as_text', async (t) => {
  const { open } = origin(t);
  const error = Object.assign(() => {}, { toString: () => 'away' });
  const first = await open({ getToken: () => { throw error; } }), second = await open();
  assert.deepEqual([first.client.state.status, first.client.state.error], ['waiting', error]);
  assert.deepEqual([second.client.state.status, second.client.state.error], ['waiting', 'away']);
});

for (const how of ['close', 'no token']) {
  test(`leader_that_ends_by_${how.replace(' ', '_')}_is_replaced_by_another_tab`, async (t) => {
    const { sockets, open, say } = origin(t);
    const tokens = ['token'];
    const leader = await open(how === 'close' ? {} : { getToken: () => tokens.shift() ?? null });
    const second = await open(), third = await open();
    await say(hello('e:0', { expires_in_ms: 10_000, ping_interval_ms: 100_000 }), update('e:1'));
    if (how === 'close') leader.client.close();
    else await pass(t, 8_000);
    await settle();
    assert.ok(sockets[0].closed);
    assert.equal(leader.client.state.status, 'closed');
    assert.equal(sockets.length, 2);
    assert.equal(sockets[1].after, 'e:1');
    await say(hello('e:1', { recovered: true }), update('e:2'));
    assert.deepEqual([leader.notes, second.notes, third.notes], [['e:1'], ['e:1', 'e:2'], ['e:1', 'e:2']]);
    assert.deepEqual([second.client.state.transport, third.client.state.transport], ['websocket', 'tab']);
  });
}

test('follower_that_opens_later_gets_connected_once_without_recovered', async (t) => {
  const { sockets, open, say } = origin(t);
  await open();
  sockets[0].answers = true;
  await say(hello('e:0'), update('e:1'));
  const second = await open();
  await pass(t, 120_000); // without updates: the follower pings the leader again and again
  assert.deepEqual(second.welcomes, [['e:1', undefined]]);
  assert.deepEqual(second.statuses, ['connecting', 'open']);
  assert.ok(sockets[0].sent.length > 2); // the leader then pings the bridge
  assert.equal(sockets.length, 1);
});

test('follower_that_opens_while_others_resume_is_not_recovered', async (t) => {
  const { sockets, open, say } = origin(t);
  const leader = await open();
  await say(hello('e:7'));
  sockets[0].end();
  const second = await open();
  await pass(t, 375);
  await say(hello('e:7', { recovered: true }));
  assert.deepEqual([leader.welcomes.at(-1), second.welcomes], [['e:7', true], [['e:7', undefined]]]);
});

test('follower_that_returns_without_missed_updates_is_recovered', async (t) => {
  const { sockets, open, say } = origin(t);
  await open();
  const second = await open();
  sockets[0].answers = true;
  await say(hello('e:7'));
  second.client.close();
  second.client.connect();
  await pass(t, 60_000);
  assert.deepEqual(second.welcomes, [['e:7', undefined], ['e:7', true]]);
  assert.equal(sockets.length, 1);
});

test('final_close_of_the_leader_closes_all_tabs', async (t) => {
  const { sockets, open, say } = origin(t);
  const tabs = [await open(), await open(), await open()];
  await say(hello('e:0'));
  sockets[0].end(4509, 'force_disconnect');
  await pass(t, 60_000);
  assert.equal(sockets.length, 1);
  for (const { client } of tabs) assert.deepEqual([client.state.status, client.state.code], ['closed', 4509]);
});

test('follower_with_an_older_position_gets_its_missed_updates_through_the_leader', async (t) => {
  const { sockets, open, say } = origin(t);
  const leader = await open(), second = await open();
  await say(hello('e:0'), update('e:1'));
  const third = await open(); // its position is e:1, like that of the others
  second.client.close(); // it will miss e:2 and e:3
  await say(update('e:2'), update('e:3'));
  second.client.connect();
  await settle();
  await pass(t, 500); // the leader opens a second connection, which resumes from the follower's position
  assert.equal(sockets.length, 2);
  assert.equal(sockets[1].after, 'e:1');
  await say(hello('e:1', { recovered: true }), update('e:2'), update('e:3'), update('e:4'));
  assert.ok(sockets[0].closed);
  assert.deepEqual([leader.notes, second.notes, third.notes],
    [['e:1', 'e:2', 'e:3', 'e:4'], ['e:1', 'e:2', 'e:3', 'e:4'], ['e:2', 'e:3', 'e:4']]);
});

test('tab_that_returns_behind_the_others_is_open_once_it_gets_what_it_missed', async (t) => {
  const { sockets, open, say } = origin(t);
  await open();
  const second = await open();
  await say(hello('e:0'));
  second.client.close();
  await say(update('e:1'));
  second.client.connect();
  await pass(t, 500);
  assert.equal(second.client.state.status, 'connecting');
  sockets[1].say(hello('e:0', { recovered: true }), update('e:1'));
  await settle();
  assert.deepEqual([second.client.state.status, second.client.state.transport, second.notes], ['open', 'tab', ['e:1']]);
});

test('tab_that_returns_soon_after_an_outage_or_again_and_again_waits_no_longer', async (t) => {
  const { sockets, open, say } = origin(t);
  await open();
  const second = await open();
  await say(hello('e:0'));
  for (let failures = 0; failures < 10; failures++) {
    sockets.at(-1).end();
    await pass(t, 5_000);
  }
  await say(hello('e:0', { recovered: true }));
  for (let n = 1; n < 10; n++) {
    const before = sockets.length;
    second.client.close();
    await say(update(`e:${n}`));
    second.client.connect();
    await pass(t, 375);
    assert.equal(sockets.length, before + 1);
    await say(hello(`e:${n - 1}`, { recovered: true }), update(`e:${n}`));
  }
});

test('connection_that_loses_updates_again_and_again_is_opened_less_and_less_often', async (t) => {
  const { sockets, open, say } = origin(t);
  const tab = await open();
  await say(hello('e:0'));
  for (let n = 1; n < 10; n++) {
    await say(update(`e:${2 * n}`)); // one was lost before it
    await pass(t, 125 + 250 * 1.3 ** (n - 1) - 1);
    assert.equal(sockets.length, n);
    await pass(t, 1);
    assert.equal(sockets.length, n + 1);
    assert.equal(sockets[n].after, `e:${2 * n - 2}`);
    await say(hello(`e:${2 * n - 2}`, { recovered: true }), update(`e:${2 * n - 1}`), update(`e:${2 * n}`));
  }
  assert.deepEqual([tab.notes.length, sockets.length], [18, 10]);
});

for (const order of ['the older', 'the newer']) {
  test(`followers_with_two_older_positions_resume_from_the_oldest_if_${order.replace(' ', '_')}_asks_first`, async (t) => {
    const { sockets, open, say } = origin(t);
    await open();
    const older = await open(), newer = await open();
    await say(hello('e:0'), update('e:1'));
    older.client.close();
    await say(update('e:2'));
    newer.client.close();
    await say(update('e:3'));
    for (const { client } of order === 'the older' ? [older, newer] : [newer, older]) client.connect();
    await pass(t, 500);
    assert.equal(sockets[1].after, 'e:1');
    await say(hello('e:1', { recovered: true }), update('e:2'), update('e:3'));
    assert.deepEqual([older.notes, newer.notes], [['e:1', 'e:2', 'e:3'], ['e:1', 'e:2', 'e:3']]);
    await pass(t, 20_000);
    assert.equal(sockets.length, 2);
    sockets[1].end();
    await pass(t, 500);
    assert.equal(sockets[2].after, 'e:3'); // the older position is no longer needed
  });
}

test('follower_whose_history_is_gone_gets_a_gap_and_the_leader_does_not', async (t) => {
  const { sockets, open, say } = origin(t);
  const leader = await open(), second = await open();
  await say(hello('old:7'));
  second.client.close();
  sockets[0].end();
  await pass(t, 375);
  await say(hello('new:0', { recovered: false }), { type: 'gap', after: 'old:7', last_event_id: 'new:0', reason: 'reset' });
  assert.deepEqual(leader.gaps, ['new:0']);
  second.client.connect();
  await settle();
  await pass(t, 500);
  assert.equal(sockets.at(-1).after, 'old:7');
  await say(hello('new:0', { recovered: false }), { type: 'gap', after: 'old:7', last_event_id: 'new:0', reason: 'reset' }, update('new:1'));
  assert.deepEqual([leader.gaps, second.gaps], [['new:0'], ['new:0']]);
  assert.deepEqual([leader.notes, second.notes], [['new:1'], ['new:1']]);
});

test('leader_that_is_frozen_is_replaced_by_a_visible_tab_and_follows_when_it_wakes', async (t) => {
  const { sockets, open, say, mute } = origin(t);
  const leader = await open(), second = await open(), third = await open();
  await say(hello('e:0'), update('e:1'));
  await pass(t, 6_000); // until then, a tab that has just opened waits for longer
  const unmute = mute(0);
  await pass(t, 2_000 + 2_500); // silence, then the time for an answer
  assert.equal(sockets.length, 2);
  assert.equal(sockets[1].after, 'e:1');
  unmute();
  await say(hello('e:1', { recovered: true }), update('e:2'));
  assert.deepEqual(sockets.map(({ closed }) => closed), [true, false]);
  for (const { notes } of [leader, second, third]) assert.deepEqual(notes, ['e:1', 'e:2']);
  assert.deepEqual([leader, second, third].map(({ client }) => client.state.transport), ['tab', 'tab', 'websocket']);
  second.client.close();
  third.client.close();
  await settle();
  assert.equal(leader.client.state.status, 'connecting'); // it is the leader again
  assert.equal(sockets.length, 3);
});

test('leader_that_wakes_and_loses_its_socket_before_its_lock_leaves_no_tab_in_waiting', async (t) => {
  const { sockets, open, say, mute } = origin(t);
  const { locks } = navigator;
  let hearsOfItsLock, isFirst = true;
  const later = new Promise((resolve) => (hearsOfItsLock = resolve));
  const request = (...args) => {
    const held = locks.request(...args), wasFirst = isFirst;
    isFirst = false;
    return wasFirst ? held.catch(async (error) => { await later; throw error; }) : held;
  };
  replace(t, globalThis, 'navigator', { locks: { request } });
  const tabs = [await open(), await open(), await open()];
  await say(hello('e:0'));
  sockets[0].answers = true;
  await pass(t, 6_000);
  const unmute = mute(0);
  await pass(t, 6_000);
  sockets[1].answers = true;
  await say(hello('e:0', { recovered: true }));
  unmute();
  sockets[0].end(); // the other tabs hear of it
  await settle();
  hearsOfItsLock();
  await pass(t, 10_000);
  await say(update('e:1'));
  for (const { client, notes } of tabs) assert.deepEqual([client.state.status, notes], ['open', ['e:1']]);
});

test('tab_opened_while_the_leader_is_frozen_takes_over_after_5_s', async (t) => {
  const { sockets, open, mute } = origin(t);
  await open();
  mute(0);
  await open();
  await pass(t, 4_999);
  assert.equal(sockets.length, 1);
  await pass(t, 1);
  assert.equal(sockets.length, 2);
});

test('hidden_tab_does_not_take_over_from_a_frozen_leader', async (t) => {
  replace(t, globalThis, 'document', Object.assign(new EventTarget(), { hidden: true }));
  const { sockets, open, say, mute } = origin(t);
  await open();
  sockets[0].answers = true;
  await say(hello('e:0'));
  mute(0);
  await open();
  await pass(t, 600_000);
  assert.equal(sockets.length, 1);
  document.hidden = false;
  document.dispatchEvent(new Event('visibilitychange'));
  await pass(t, 5_000);
  assert.equal(sockets.length, 2);
});

test('tab_that_opens_makes_the_leader_ping_the_bridge', async (t) => {
  const { sockets, open, say } = origin(t);
  await open();
  await say(hello('e:0'));
  await open();
  assert.deepEqual(sockets[0].sent, [{ type: 'ping' }]);
});

test('answer_to_a_tab_is_ignored_by_the_other_tabs', async (t) => {
  const { sockets, channels, open, say } = origin(t);
  await open();
  await say(hello('e:0'));
  const second = await open();
  second.client.close();
  second.client.connect();
  const channel = [...channels].at(-1), { onmessage } = channel;
  channel.onmessage = () => (channel.onmessage = onmessage); // the answer to this tab is lost
  await settle();
  await open(); // the answer to this one arrives
  assert.deepEqual([second.client.state.status, sockets.length], ['connecting', 1]);
});

test('tab_closed_in_a_handler_of_its_first_state_stays_closed', async (t) => {
  const { sockets, channels, open } = origin(t);
  const { client } = await open({}, (status, client) => status === 'connecting' && client.close());
  await pass(t, 60_000);
  assert.deepEqual([sockets.length, channels.size, client.state.status], [0, 0, 'closed']);
});

test('tab_closed_in_a_handler_of_open_gets_no_connected', async (t) => {
  const { open, say } = origin(t);
  await open();
  await say(hello('e:0'));
  const { client, welcomes } = await open({}, (status, client) => status === 'open' && client.close());
  assert.deepEqual([client.state.status, welcomes], ['closed', []]);
});

test('tabs_without_locks_have_their_own_sockets_and_share_a_final_close', async (t) => {
  const { sockets, open, say } = origin(t);
  replace(t, globalThis, 'navigator', { locks: { request: async () => { throw new DOMException('', 'SecurityError'); } } });
  const tabs = [await open(), await open()];
  await say(hello('e:0'));
  sockets[0].end(4509, 'force_disconnect');
  await settle();
  assert.deepEqual(tabs.map(({ client }) => client.state.code), [4509, 4509]);
  assert.ok(sockets[1].closed);
});

test('frame_without_locks_has_its_own_connection', async (t) => {
  const { sockets, open, say } = origin(t);
  replace(t, globalThis, 'navigator', { locks: { request: async () => { throw new DOMException('', 'SecurityError'); } } });
  const tab = await open();
  await say(hello('e:0'), update('e:1'));
  assert.deepEqual([sockets.length, tab.notes], [1, ['e:1']]);
});

for (const [what, channel] of [['no', undefined], ['a forbidden', function () { throw new DOMException('', 'SecurityError'); }]]) {
  test(`page_with_${what.replace(' ', '_')}_channel_has_its_own_connection`, async (t) => {
    replace(t, globalThis, 'document', new EventTarget());
    const { sockets, open, say } = origin(t);
    replace(t, globalThis, 'BroadcastChannel', channel);
    const tab = await open();
    await say(hello('e:0'), update('e:1'));
    document.dispatchEvent(new Event('resume'));
    await settle();
    assert.deepEqual([sockets.length, tab.notes], [1, ['e:1']]);
    tab.client.close();
    assert.ok(sockets[0].closed);
    tab.client.connect();
    await settle();
    assert.equal(sockets[1].after, 'e:1');
  });
}

test('tab_closed_leaves_the_queue_of_the_lock', async (t) => {
  const { waiting, open } = origin(t);
  await open();
  const { client } = await open();
  client.close();
  await settle();
  assert.deepEqual([...waiting.values()].map((queue) => queue.length), [1]);
});

test('tab_with_a_resume_event_while_joined_opens_no_second_channel', async (t) => {
  replace(t, globalThis, 'document', new EventTarget());
  const { channels, open } = origin(t);
  await open();
  document.dispatchEvent(new Event('resume'));
  await settle();
  assert.equal(channels.size, 1);
});
