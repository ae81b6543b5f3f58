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
  shown.is = (status, problem) => client.emit('state', (client.state = { status, attempt: 0, problem }));
  shown.connected = (more = {}) => {
    shown.is('open');
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
  assert.deepEqual(shown.tasks, ['newer']); // without update 1, which may be older than this state
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

test('follow_on_error_that_throws_is_reported_and_ends_neither_retries_nor_updates', async (t) => {
  const applied = [], reported = [];
  const shown = page(t, {
    apply: ({ event }) => {
      applied.push(event);
      throw new Error(`update ${event}`);
    },
    onError: (error) => { throw error; },
  });
  process.setUncaughtExceptionCaptureCallback(({ message }) => reported.push(message));
  t.after(() => process.setUncaughtExceptionCaptureCallback(null));
  shown.connected();
  shown.loads[0].reject(new Error('away'));
  await pass(t, 375);
  [1, 2].forEach(shown.update);
  shown.loads[1].resolve([]);
  await settle();
  await new Promise(setImmediate);
  assert.deepEqual([applied, reported], [[1, 2], ['away', 'update 1', 'update 2']]);
});

for (const how of ['ended', 'closed']) {
  test(`follow_${how}_in_set_applies_no_held_update`, async (t) => {
    const applied = [];
    const shown = page(t, { set: () => (how === 'ended' ? shown.end() : shown.is('closed')), apply: ({ event }) => applied.push(event) });
    shown.connected();
    shown.update(1);
    shown.loads[0].resolve([]);
    await settle();
    assert.deepEqual(applied, []);
  });

  test(`follow_${how}_in_apply_applies_none_of_the_other_held_updates`, async (t) => {
    const applied = [];
    const shown = page(t, { apply: ({ event }) => {
      applied.push(event);
      if (how === 'ended') shown.end();
      else shown.is('closed');
    } });
    shown.connected();
    [1, 2, 3].forEach(shown.update);
    shown.loads[0].resolve([]);
    await settle();
    assert.deepEqual(applied, [1]);
  });
}

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

test('follow_of_a_client_that_is_closed_sets_no_state_and_loads_again_after_the_next_connection', async (t) => {
  const shown = page(t);
  shown.connected();
  shown.is('closed');
  assert.ok(shown.loads[0].signal.aborted);
  shown.loads[0].resolve(['of another user']);
  await settle();
  assert.equal(shown.tasks, null);
  shown.is('connecting');
  shown.connected({ recovered: true });
  assert.equal(shown.loads.length, 2);
  shown.loads[1].resolve(['own']);
  await settle();
  shown.update(1);
  assert.deepEqual([shown.tasks, shown.errors], [['own', 1], []]);
});

test('follow_of_a_client_that_a_mistake_has_closed_loads_without_it_until_the_page_closes_it', async (t) => {
  const shown = page(t);
  shown.is('closed', 'misconfigured'); // says nothing about the user
  shown.loads[0].resolve(['without updates']);
  await settle();
  assert.deepEqual([shown.tasks, shown.causes], [['without updates'], ['first']]);
  shown.is('closed', 'misconfigured');
  shown.is('closed'); // a logout
  assert.ok(shown.loads[1].signal.aborted);
  shown.loads[1].resolve(['of another user']);
  await settle();
  assert.deepEqual([shown.tasks, shown.loads.length], [['without updates'], 2]);
});

for (const problem of ['needs-token', 'forbidden']) {
  test(`follow_of_a_client_that_the_problem_${problem}_has_closed_does_not_load`, async (t) => {
    const shown = page(t);
    shown.is('closed', problem); // another user may be logged in
    await pass(t, 10_000);
    assert.equal(shown.loads.length, 0);
  });
}

for (const [name, plan] of Object.entries({
  a_gap: (shown) => shown.client.emit('gap', { reason: 'reset' }),
  a_failure: (shown) => shown.loads[0].reject(new Error('away')),
})) {
  test(`follow_of_a_client_that_is_closed_does_not_load_as_planned_after_${name}`, async (t) => {
    const shown = page(t);
    shown.connected();
    plan(shown);
    await settle();
    shown.is('closed');
    await pass(t, 10_000);
    assert.equal(shown.loads.length, 1);
  });
}

test('follow_load_that_is_due_while_the_client_connects_waits_for_the_outcome', async (t) => {
  for (const [status, loads] of [['closed', 1], ['open', 2], ['waiting', 2]]) {
    const shown = page(t);
    shown.connected();
    shown.client.emit('gap', { reason: 'reset' });
    shown.is('connecting'); // a return from the back-forward cache
    await pass(t, 5_000);
    assert.deepEqual([shown.loads.length, shown.loads[0].signal.aborted], [1, false]);
    shown.is(status);
    await pass(t, 3_000);
    assert.equal(shown.loads.length, loads);
    assert.deepEqual(shown.causes, ['first', 'gap'].slice(0, loads));
    t.mock.reset();
  }
});

for (const type of ['connected', 'gap']) {
  test(`follow_of_a_client_that_another_handler_of_${type}_closes_loads_nothing_until_the_next_connection`, async (t) => {
    const client = new Emitter();
    let closes = true;
    client.on(type, () => closes && shown.is('closed'));
    const shown = page(t, {}, client);
    shown.connected();
    if (type === 'gap') for (const reason of ['expired', 'reset']) client.emit('gap', { reason });
    closes = false;
    await pass(t, 10_000);
    assert.equal(shown.loads.length, type === 'gap' ? 1 : 0); // before the gap
    shown.connected({ recovered: true });
    assert.deepEqual(shown.loads.map(({ signal }) => signal.aborted), type === 'gap' ? [true, false] : [false]);
  });
}

test('follow_begun_by_a_handler_of_the_first_connected_loads_at_once', async (t) => {
  const client = new Emitter();
  let shown;
  client.on('connected', () => (shown ??= page(t, {}, client)));
  client.state = { status: 'open', attempt: 0 };
  client.emit('connected', {});
  client.position = 'e:0';
  assert.equal(shown.loads.length, 1);
  await pass(t, 10_000);
  assert.equal(shown.loads.length, 1);
});

test('follow_of_a_closed_client_loads_nothing_until_it_is_connected', async (t) => {
  const client = Object.assign(new Emitter(), { position: 'e:5', state: { status: 'closed', attempt: 0 } });
  const shown = page(t, {}, client);
  await pass(t, 10_000);
  assert.deepEqual([shown.loads.length, client.calls], [0, []]);
  shown.is('connecting');
  shown.connected({ recovered: true });
  assert.equal(shown.loads.length, 1);
});

test('follow_without_a_connection_for_3_s_loads_once_and_again_when_connected', async (t) => {
  const shown = page(t);
  for (const status of ['connecting', 'waiting', 'connecting']) shown.is(status);
  await pass(t, 2_999);
  assert.equal(shown.loads.length, 0);
  await pass(t, 1);
  shown.loads[0].resolve(['without a bridge']);
  await settle();
  assert.deepEqual(shown.tasks, ['without a bridge']);
  shown.is('waiting');
  await pass(t, 10_000);
  assert.equal(shown.loads.length, 1);
  shown.connected();
  shown.update(1);
  shown.loads[1].resolve(['connected']);
  await settle();
  assert.deepEqual(shown.tasks, ['connected', 1]);
});
