import assert from 'node:assert/strict';
import { test } from 'node:test';
import { follow } from '../index.js';
import { Emitter } from './emitter.js';
import { pass, settle, still } from './fakes.js';

/** A page that follows a client; the test answers its loads. */
function page(t, options = {}, client = new Emitter()) {
  still(t);
  const loads = [], errors = [], causes = [];
  const shown = { tasks: null, loads, errors, causes, client };
  shown.end = follow(client, {
    load: ({ signal, cause }) => {
      causes.push(cause);
      return new Promise((resolve, reject) => loads.push({ resolve, reject, signal }));
    },
    set: (tasks) => (shown.tasks = [...tasks]),
    apply: ({ event }) => shown.tasks.push(event),
    onError: ({ message }) => errors.push(message),
    ...options,
  });
  shown.update = (n) => {
    client.emit('*', { type: 'task_update', id: `e:${n}`, event: n });
    client.position = `e:${n}`;
  };
  shown.connected = (more = {}) => {
    client.emit('connected', more);
    client.position ||= 'e:0';
  };
  return shown;
}

test('follow_connects_loads_then_applies_the_updates_since_the_load_began', async (t) => {
  const shown = page(t);
  assert.deepEqual([shown.client.calls, shown.loads.length], [['connect'], 0]);
  shown.connected();
  shown.update(1);
  shown.update(2);
  shown.loads[0].resolve(['old']);
  await settle();
  shown.update(3);
  assert.deepEqual([shown.tasks, shown.causes], [['old', 1, 2, 3], ['first']]);
  shown.connected({ recovered: true }); // a reconnect needs no load
  assert.equal(shown.loads.length, 1);
});

test('follow_of_a_connected_client_loads_at_once', (t) => {
  const client = Object.assign(new Emitter(), { position: 'e:5', state: { status: 'open', attempt: 0 } });
  const shown = page(t, {}, client);
  assert.deepEqual([shown.loads.length, client.calls], [1, []]);
});

test('follow_of_a_client_that_resumed_after_a_reload_loads', (t) => {
  const shown = page(t);
  shown.client.position = 'e:5';
  shown.connected({ recovered: true });
  assert.equal(shown.loads.length, 1);
});

test('follow_gap_of_one_user_loads_again_at_once_and_holds_updates', async (t) => {
  const shown = page(t);
  shown.connected();
  shown.loads[0].resolve([]);
  await settle();
  shown.client.emit('gap', { reason: 'trimmed' });
  shown.update(9);
  assert.deepEqual(shown.tasks, []);
  shown.loads[1].resolve(['new']);
  await settle();
  assert.deepEqual([shown.tasks, shown.causes], [['new', 9], ['first', 'gap']]);
});

test('follow_gap_reset_loads_within_the_jitter_and_applies_updates_until_then', async (t) => {
  const shown = page(t);
  shown.connected();
  shown.loads[0].resolve([]);
  await settle();
  shown.client.emit('gap', { reason: 'reset' });
  shown.update(1);
  assert.deepEqual(shown.tasks, [1]);
  await pass(t, 2_499);
  assert.equal(shown.loads.length, 1);
  await pass(t, 1);
  assert.equal(shown.loads.length, 2);
});

test('follow_load_replaced_by_a_newer_one_is_aborted_and_ignored', async (t) => {
  const shown = page(t);
  shown.connected();
  shown.update(1);
  shown.client.emit('gap', { reason: 'expired' });
  assert.ok(shown.loads[0].signal.aborted);
  shown.loads[0].resolve(['older']);
  await settle();
  assert.equal(shown.tasks, null);
  shown.client.emit('gap', { reason: 'expired' });
  shown.loads[1].reject(new Error('aborted'));
  await settle();
  shown.loads[2].resolve(['newer']);
  await settle();
  assert.deepEqual(shown.tasks, ['newer', 1]);
  assert.deepEqual(shown.errors, []);
});

test('follow_load_that_fails_is_reported_and_retried_with_backoff', async (t) => {
  const shown = page(t);
  shown.connected();
  for (const delay of [375, 450]) {
    shown.update(delay);
    shown.loads.at(-1).reject(new Error(`away ${delay}`));
    await pass(t, delay - 1);
    const before = shown.loads.length;
    await pass(t, 1);
    assert.equal(shown.loads.length, before + 1);
  }
  shown.update(9);
  shown.loads[2].resolve(['all of them']);
  await settle();
  assert.deepEqual([shown.tasks, shown.errors], [['all of them', 9], ['away 375', 'away 450']]);
});

test('follow_apply_that_throws_is_reported_and_the_next_update_is_applied', async (t) => {
  const seen = [];
  const shown = page(t, { apply: ({ event }) => {
    if (event === 2) throw new Error('a bug');
    seen.push(event);
  } });
  shown.connected();
  [1, 2, 3].forEach(shown.update);
  shown.loads[0].resolve([]);
  await settle();
  shown.update(4);
  assert.deepEqual([seen, shown.errors], [[1, 3, 4], ['a bug']]);
});

test('follow_with_too_many_updates_during_a_load_begins_from_scratch', async (t) => {
  const shown = page(t);
  shown.connected();
  for (let n = 1; n <= 100_001; n++) shown.update(n);
  assert.deepEqual([shown.loads.length, shown.loads[0].signal.aborted], [2, true]);
  shown.update(100_002);
  shown.loads[1].resolve(['state']);
  await settle();
  assert.deepEqual(shown.tasks, ['state', 100_002]);
});

test('follow_after_its_end_does_nothing', async (t) => {
  const shown = page(t);
  shown.connected();
  shown.client.emit('gap', { reason: 'reset' });
  shown.end();
  assert.deepEqual([shown.client.subscriptions, shown.loads[0].signal.aborted], [0, true]);
  shown.loads[0].resolve(['late']);
  await pass(t, 10_000);
  assert.deepEqual([shown.tasks, shown.loads.length], [null, 1]);
});
