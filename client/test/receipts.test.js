import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createClient } from '../src/client.js';
import { fakeOrigin, fakeSockets, hello, pass, replace, settle, still, update } from './fakes.js';

/** A connected client, and the reports that the bridge has got on the last socket. */
async function connected(t, options = {}, greeting = { receipts: true }) {
  still(t);
  const { sockets, WebSocket } = fakeSockets();
  const client = createClient({ url: 'ws://bridge/ws', userId: 'u', share: false, WebSocket, receipts: true, ...options });
  t.after(() => client.close());
  client.connect();
  await settle();
  sockets[0].say(hello('e:0', greeting));
  const reports = () => sockets.at(-1).sent.filter(({ type }) => type === 'handled');
  return { client, sockets, reports };
}

test('receipts_report_the_last_position_once_a_second', async (t) => {
  const { sockets, reports } = await connected(t);
  sockets[0].say(update('e:1'), update('e:2'));
  assert.deepEqual(reports(), []);
  await pass(t, 1_000);
  sockets[0].say(update('e:3'));
  await pass(t, 5_000);
  assert.deepEqual(reports().map(({ last_event_id }) => last_event_id), ['e:2', 'e:3']);
});

test('report_has_the_times_of_one_event', async (t) => {
  const { client, sockets, reports } = await connected(t);
  let now = 100;
  t.mock.method(performance, 'now', () => now);
  client.on('note', () => (now += 7));
  sockets[0].say({ ...update('e:1'), timestamp: 'first' });
  now += 5;
  sockets[0].say({ ...update('e:2'), timestamp: 'second' });
  now += 20;
  await pass(t, 1_000);
  assert.deepEqual(reports(), [{ type: 'handled', last_event_id: 'e:2', timestamp: 'first', handlers_ms: 7, held_ms: 32 }]);
});

test('receipts_are_reported_before_a_close', async (t) => {
  const { client, sockets, reports } = await connected(t);
  sockets[0].say(update('e:1'));
  client.close();
  assert.deepEqual([reports()[0].last_event_id, sockets[0].closed], ['e:1', true]);
});

test('receipts_are_reported_when_the_page_is_hidden_or_left', async (t) => {
  replace(t, globalThis, 'document', Object.assign(new EventTarget(), { hidden: false }));
  replace(t, globalThis, 'window', new EventTarget());
  const { sockets, reports } = await connected(t);
  sockets[0].say(update('e:1'));
  document.dispatchEvent(new Event('visibilitychange'));
  assert.equal(reports().length, 0);
  document.hidden = true;
  document.dispatchEvent(new Event('visibilitychange'));
  assert.equal(reports().length, 1);
  sockets[0].say(update('e:2'));
  window.dispatchEvent(new Event('pagehide'));
  assert.deepEqual([reports().length, sockets[0].closed], [2, true]);
});

test('receipts_are_not_reported_by_default_or_if_the_bridge_does_not_take_them', async (t) => {
  for (const [options, greeting] of [[{ receipts: undefined }, { receipts: true }], [{}, {}]]) {
    await t.test(async (t) => {
      const { client, sockets, reports } = await connected(t, options, greeting);
      sockets[0].say(update('e:1'));
      await pass(t, 5_000);
      client.close();
      assert.deepEqual(reports(), []);
    });
  }
});

test('receipts_without_a_connection_are_left_to_the_resume', async (t) => {
  const { sockets, reports } = await connected(t);
  sockets[0].say(update('e:1'));
  sockets[0].end();
  await pass(t, 5_000);
  assert.equal(sockets[1].after, 'e:1');
  sockets[1].say(hello('e:1', { recovered: true, receipts: true }), update('e:2'));
  await pass(t, 1_000);
  assert.deepEqual(reports().map(({ last_event_id }) => last_event_id), ['e:2']);
});

test('tabs_report_through_the_tab_that_has_the_connection', async (t) => {
  still(t);
  fakeOrigin(t);
  const { sockets, WebSocket } = fakeSockets();
  for (let tab = 0; tab < 2; tab++) {
    const client = createClient({ url: 'ws://bridge/ws', userId: 'u', WebSocket, receipts: true });
    t.after(() => client.close());
    client.connect();
    await settle();
  }
  sockets[0].say(hello('e:0', { receipts: true }), update('e:1'));
  await pass(t, 1_000);
  assert.equal(sockets.length, 1);
  assert.deepEqual(sockets[0].sent.filter(({ type }) => type === 'handled').map((report) => report.last_event_id), ['e:1']);
});
