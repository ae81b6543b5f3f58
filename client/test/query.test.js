import assert from 'node:assert/strict';
import { beforeEach, mock, test } from 'node:test';
import { notifyManager, QueryClient, QueryObserver } from '@tanstack/query-core';
import { afterConnect, bindQueries } from '../query/index.js';
import { Emitter } from './emitter.js';

const TASK = { id: 7, title: 'Buy milk', done: false };
const WITHIN = 50;
const JITTER = 5_000;

let client, queryClient, invalidations;

beforeEach(() => {
  mock.timers.reset();
  mock.restoreAll();
  mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  mock.method(Math, 'random', () => 0.5);
  client = new Emitter();
  queryClient = new QueryClient({ defaultOptions: { queries: { retry: false, staleTime: Infinity } } });
  invalidations = mock.method(queryClient, 'invalidateQueries').mock;
});

/** Run pending promises, then timers that are due now. */
async function settle() {
  for (let turn = 0; turn < 10; turn++) {
    await new Promise(setImmediate);
    mock.timers.tick(0);
  }
}

/** Let `ms` pass in steps, so that a timer set in between counts from that moment. */
async function pass(ms) {
  for (let left = ms; left > 0; left -= WITHIN) {
    mock.timers.tick(Math.min(left, WITHIN));
    await settle();
  }
}

/** A query that a component shows; the test answers its fetches. */
class Shown {
  fetches = [];

  constructor(queryKey) {
    const queryFn = () => new Promise((resolve) => this.fetches.push(resolve));
    this.observer = new QueryObserver(queryClient, { queryKey, queryFn });
    this.end = this.observer.subscribe(() => {});
  }

  async answer(data) {
    this.fetches.at(-1)(data);
    await settle();
  }

  /** A list of the values that a component renders from now on, without repetitions. Called in batches, like TanStack's adapters. */
  shownFrom(look) {
    const shows = [look(this.data)];
    this.observer.subscribe(notifyManager.batchCalls(() => look(this.data) !== shows.at(-1) && shows.push(look(this.data))));
    return shows;
  }

  get data() {
    return this.observer.getCurrentResult().data;
  }
}

async function shown(queryKey, data) {
  const query = new Shown(queryKey);
  await query.answer(data);
  return query;
}

const update = ({ event }) => ({ queryKey: ['task', event.id], updater: (task) => ({ ...task, ...event }) });

test('update_changes_the_data_of_its_query_without_a_fetch', async () => {
  const [task, other] = [await shown(['task', 7], TASK), await shown(['task', 8], { ...TASK, id: 8 })];
  bindQueries(client, queryClient, { task_update: { update } });
  client.emit('task_update', { event: { id: 7, done: true } });
  assert.deepEqual(task.data, { ...TASK, done: true });
  assert.deepEqual(other.data, { ...TASK, id: 8 });
  await pass(WITHIN);
  assert.equal(task.fetches.length, 1);
});

test('updates_a_thousand_in_one_tick_are_applied_in_order', async () => {
  const numbers = await shown(['numbers'], []);
  const append = ({ event }) => ({ queryKey: ['numbers'], updater: (all) => [...all, event] });
  bindQueries(client, queryClient, { number: { update: append } });
  for (let n = 0; n < 1_000; n++) client.emit('number', { event: n });
  assert.deepEqual(numbers.data, Array.from({ length: 1_000 }, (_, n) => n));
});

test('update_of_a_query_without_data_is_ignored', () => {
  bindQueries(client, queryClient, { task_update: { update } });
  client.emit('task_update', { event: { id: 7, done: true } });
  assert.equal(queryClient.getQueryCache().getAll().length, 0);
});

test('update_without_a_query_does_nothing', async () => {
  const task = await shown(['task', 7], TASK);
  bindQueries(client, queryClient, { task_update: { update: () => undefined } });
  client.emit('task_update', { event: { id: 7, done: true } });
  assert.deepEqual(task.data, TASK);
});

test('update_during_a_fetch_survives_the_older_answer', async () => {
  const [task, comments] = [await shown(['task', 7], TASK), await shown(['task', 7, 'comments'], [])];
  bindQueries(client, queryClient, { task_update: { update } });
  queryClient.refetchQueries({ queryKey: ['task'] });
  client.emit('task_update', { event: { id: 7, done: true } });
  await settle();
  const shows = task.shownFrom(({ done }) => done);
  await comments.answer([]);
  await task.answer(TASK); // an older answer
  assert.deepEqual(task.data, { ...TASK, done: true });
  assert.deepEqual(shows, [true]); // the older answer was never shown
  await pass(10 * WITHIN);
  assert.deepEqual([task.fetches.length, comments.fetches.length], [2, 2]);
});

test('invalidations_in_one_tick_cause_one_fetch', async () => {
  const [tasks, users] = [await shown(['tasks', { page: 1 }], []), await shown(['users'], [])];
  bindQueries(client, queryClient, { task_update: { invalidate: [['tasks']] } });
  for (let n = 0; n < 1_000; n++) client.emit('task_update', { event: n });
  await pass(WITHIN - 1);
  client.emit('task_update', { event: 'the last' });
  assert.equal(invalidations.callCount(), 0);
  await pass(1);
  assert.equal(invalidations.callCount(), 1);
  assert.equal(tasks.fetches.length, 2);
  assert.equal(users.fetches.length, 1);
});

test('invalidation_gets_the_message_to_choose_the_queries', async () => {
  const lists = [await shown(['list', 1], []), await shown(['list', 2], []), await shown(['list', 3], [])];
  bindQueries(client, queryClient, { task_update: { invalidate: ({ event }) => [['list', event.from], ['list', event.to]] } });
  client.emit('task_update', { event: { from: 1, to: 3 } });
  await pass(WITHIN);
  assert.deepEqual(lists.map(({ fetches }) => fetches.length), [2, 1, 2]);
});

for (const [which, before] of [['first', 0], ['later', 1]]) {
  test(`invalidation_during_a_${which}_fetch_does_not_abort_it_and_fetches_once_more`, async () => {
    const tasks = before ? await shown(['tasks'], []) : new Shown(['tasks']);
    bindQueries(client, queryClient, { task_update: { invalidate: [['tasks']] } });
    if (before) queryClient.refetchQueries({ queryKey: ['tasks'] });
    for (let n = 0; n < 20; n++) {
      client.emit('task_update', { event: n });
      await pass(WITHIN);
    }
    assert.deepEqual([tasks.fetches.length, invalidations.callCount()], [before + 1, 0]);
    await tasks.answer(['older']);
    assert.deepEqual(tasks.data, ['older']);
    await pass(WITHIN);
    assert.equal(tasks.fetches.length, before + 2);
    await tasks.answer(['newer']);
    await pass(10 * WITHIN);
    assert.deepEqual(tasks.data, ['newer']);
    assert.equal(tasks.fetches.length, before + 2);
  });
}

test('gap_of_one_user_refetches_without_jitter', async () => {
  const tasks = await shown(['tasks'], []);
  bindQueries(client, queryClient, {});
  client.emit('gap', { last_event_id: 'k3f9x2:97', reason: 'expired' });
  await pass(WITHIN);
  assert.equal(tasks.fetches.length, 2);
});

test('gap_reset_twice_refetches_once_after_a_random_delay', async () => {
  const [tasks, users] = [await shown(['tasks'], []), await shown(['users'], [])];
  bindQueries(client, queryClient, {});
  client.emit('gap', { last_event_id: 'k3f9x2:97', reason: 'reset' });
  await pass(JITTER / 2 - 1);
  client.emit('gap', { last_event_id: 'm7q1aa:0', reason: 'reset' });
  assert.equal(invalidations.callCount(), 0);
  await pass(1);
  await pass(WITHIN);
  for (const query of [tasks, users]) await query.answer([]);
  await pass(2 * JITTER);
  assert.equal(invalidations.callCount(), 1);
  assert.deepEqual([tasks.fetches.length, users.fetches.length], [2, 2]);
  client.emit('gap', { last_event_id: 'm7q1aa:9', reason: 'expired' });
  await pass(JITTER);
  await pass(WITHIN);
  assert.equal(invalidations.callCount(), 2);
});

test('gap_reset_before_a_close_refetches_only_after_the_next_connection', async () => {
  const tasks = await shown(['tasks'], [TASK]);
  client.position = 'k3f9x2:97';
  bindQueries(client, queryClient, {});
  await pass(WITHIN);
  const before = tasks.fetches.length;
  await tasks.answer([TASK]);
  client.emit('gap', { last_event_id: 'm7q1aa:0', reason: 'reset' });
  client.state = { status: 'closed', attempt: 0 };
  await pass(JITTER * 2);
  assert.equal(tasks.fetches.length, before);
  client.state = { status: 'open', attempt: 0 };
  client.emit('connected', { recovered: true });
  await pass(WITHIN);
  assert.equal(tasks.fetches.length, before + 1);
});

for (const [status, fetches] of [['closed', 0], ['open', 1], ['waiting', 1]]) {
  test(`gap_reset_whose_refetch_is_due_while_the_client_connects_waits_until_it_is_${status}`, async () => {
    const tasks = await shown(['tasks'], [TASK]);
    bindQueries(client, queryClient, {});
    client.emit('gap', { last_event_id: 'm7q1aa:0', reason: 'reset' });
    client.state = { status: 'connecting', attempt: 0 }; // a return from the back-forward cache
    await pass(JITTER);
    assert.equal(tasks.fetches.length, 1);
    client.state = { status, attempt: 0 };
    await pass(WITHIN);
    assert.equal(tasks.fetches.length, 1 + fetches);
  });
}

test('gap_with_the_option_query_keys_refetches_only_those', async () => {
  const [tasks, rates] = [await shown(['tasks', 1], []), await shown(['rates'], [])];
  bindQueries(client, queryClient, {}, { queryKeys: [['tasks'], ['task']], jitter: 0 });
  client.emit('gap', { last_event_id: 'k3f9x2:97', reason: 'expired' });
  await pass(2 * WITHIN);
  assert.deepEqual([tasks.fetches.length, rates.fetches.length], [2, 1]);
});

test('connected_the_first_time_refetches_and_a_reconnect_does_not', async () => {
  const [tasks, users] = [await shown(['tasks'], []), new Shown(['users'])];
  bindQueries(client, queryClient, {});
  client.emit('connected', {});
  await pass(WITHIN);
  assert.deepEqual([tasks.fetches.length, users.fetches.length], [2, 1]);
  await tasks.answer([]);
  await users.answer([]);
  await pass(WITHIN);
  assert.deepEqual([tasks.fetches.length, users.fetches.length], [2, 2]);
  await users.answer([]);
  client.position = 'k3f9x2:41';
  client.emit('connected', { recovered: true });
  await pass(2 * JITTER);
  assert.deepEqual([tasks.fetches.length, users.fetches.length], [2, 2]);
});

test('update_during_the_first_fetch_is_applied_to_its_answer', async () => {
  const task = new Shown(['task', 7]);
  bindQueries(client, queryClient, { task_update: { update } });
  client.emit('task_update', { event: { id: 7, done: true } });
  await task.answer(TASK);
  assert.deepEqual(task.data, { ...TASK, done: true });
  await pass(10 * WITHIN);
  assert.equal(task.fetches.length, 1);
});

test('update_during_a_fetch_that_fails_is_dropped', async () => {
  const task = await shown(['task', 7], TASK);
  bindQueries(client, queryClient, { task_update: { update } });
  queryClient.refetchQueries({ queryKey: ['task'] });
  client.emit('task_update', { event: { id: 7, title: 'Older' } });
  task.fetches.at(-1)(Promise.reject(new Error('away')));
  await settle();
  assert.equal(task.data.title, 'Older'); // it was applied at once
  queryClient.refetchQueries({ queryKey: ['task'] });
  await settle();
  await task.answer({ ...TASK, title: 'Newer' });
  assert.equal(task.data.title, 'Newer');
});

for (const how of ['by_its_last_observer', 'by_the_page']) {
  test(`update_during_a_fetch_cancelled_${how}_is_not_applied_to_a_later_answer`, async () => {
    const answers = [];
    const show = () => {
      const observer = new QueryObserver(queryClient, { queryKey: ['task', 7], queryFn: ({ signal }) => new Promise((resolve) => answers.push(resolve), signal) });
      return { observer, leave: observer.subscribe(() => {}) };
    };
    bindQueries(client, queryClient, { task_update: { update } });
    const { observer, leave } = show();
    await settle();
    client.emit('task_update', { event: { id: 7, title: 'Older' } });
    if (how === 'by_the_page') await queryClient.cancelQueries();
    else leave();
    await settle();
    client.emit('task_update', { event: { id: 7, title: 'Newer' } }); // no data, and no fetch that it would have to survive
    if (how === 'by_the_page') observer.refetch();
    else show();
    await settle();
    answers[1]({ ...TASK, title: 'Newer' });
    await settle();
    assert.equal(queryClient.getQueryData(['task', 7]).title, 'Newer');
  });
}

test('query_that_is_removed_during_its_fetch_leaves_no_timer', async () => {
  const task = new Shown(['task', 7]);
  bindQueries(client, queryClient, { task_update: { invalidate: [['task']] } });
  client.emit('task_update', { event: {} });
  await pass(WITHIN);
  task.end();
  queryClient.clear();
  await pass(WITHIN);
  const timers = mock.method(globalThis, 'setTimeout').mock;
  await pass(10 * WITHIN);
  assert.equal(timers.callCount(), 0);
});

test('page_load_whose_queries_wait_for_the_connection_fetches_once', async () => {
  const fetched = [];
  const queryFn = afterConnect(client, ({ queryKey }) => (fetched.push(queryKey[0]), []));
  for (const key of ['tasks', 'users']) new QueryObserver(queryClient, { queryKey: [key], queryFn }).subscribe(() => {});
  const other = await shown(['other'], []);
  bindQueries(client, queryClient, {});
  await pass(WITHIN);
  assert.deepEqual(fetched, []);
  client.emit('connected', {});
  client.position = 'k3f9x2:41';
  await pass(10 * WITHIN);
  assert.deepEqual([fetched, other.fetches.length], [['tasks', 'users'], 2]); // `other` was fetched before the connection, so again after it
  await queryClient.refetchQueries({ queryKey: ['tasks'] });
  assert.deepEqual(fetched, ['tasks', 'users', 'tasks']); // while connected, a fetch does not wait
});

test('page_load_without_a_connection_fetches_after_3_s_and_again_when_connected', async () => {
  const fetched = [];
  const queryFn = afterConnect(client, ({ queryKey }) => (fetched.push(queryKey[0]), []));
  new QueryObserver(queryClient, { queryKey: ['tasks'], queryFn }).subscribe(() => {});
  bindQueries(client, queryClient, {});
  await pass(3_000);
  assert.deepEqual(fetched, ['tasks']);
  client.emit('connected', {});
  client.position = 'k3f9x2:41';
  await pass(10 * WITHIN);
  assert.deepEqual(fetched, ['tasks', 'tasks']);
});

test('page_load_of_a_client_that_was_connected_and_is_closed_fails', async () => {
  client.position = 'k3f9x2:41';
  client.state = { status: 'closed', attempt: 0 };
  const queryFn = mock.fn(() => []);
  const observer = new QueryObserver(queryClient, { queryKey: ['tasks'], queryFn: afterConnect(client, queryFn) });
  observer.subscribe(() => {});
  await settle();
  assert.deepEqual([queryFn.mock.callCount(), observer.getCurrentResult().error?.code], [0, 'closed']);
});

test('page_load_of_a_client_that_a_mistake_has_closed_fetches_after_3_s', async () => {
  client.state = { status: 'closed', attempt: 0, problem: 'misconfigured' };
  const queryFn = mock.fn(() => []);
  new QueryObserver(queryClient, { queryKey: ['tasks'], queryFn: afterConnect(client, queryFn) }).subscribe(() => {});
  await pass(3_000);
  assert.equal(queryFn.mock.callCount(), 1);
});

test('page_load_of_a_client_that_is_closed_meanwhile_fails_and_fetches_once_when_connected', async () => {
  const fetched = [];
  const queryFn = afterConnect(client, ({ queryKey }) => (fetched.push(queryKey[0]), []));
  const observer = new QueryObserver(queryClient, { queryKey: ['tasks'], queryFn });
  observer.subscribe(() => {});
  bindQueries(client, queryClient, {});
  client.state = { status: 'closed', attempt: 0 };
  await pass(3_000);
  assert.deepEqual([fetched, observer.getCurrentResult().error.code], [[], 'closed']);
  client.state = { status: 'open', attempt: 0 };
  client.emit('connected', {});
  client.position = 'k3f9x2:41';
  await pass(10 * WITHIN);
  assert.deepEqual(fetched, ['tasks']);
});

for (const what of ['invalidation', 'gap']) {
  test(`pending_${what}_when_unbound_is_done_after_the_next_bind`, async () => {
    client.position = 'k3f9x2:41';
    const [tasks, users] = [await shown(['tasks'], []), await shown(['users'], [])];
    const rules = { task_update: { invalidate: [['tasks']] } };
    bindQueries(client, queryClient, rules)(); // the first bind refetches, which is not tested here
    const unbind = bindQueries(client, queryClient, rules);
    await pass(WITHIN);
    for (const query of [tasks, users]) await query.answer([]);
    const before = [tasks.fetches.length, users.fetches.length];
    if (what === 'gap') client.emit('gap', { reason: 'reset' });
    else client.emit('task_update', { event: {} });
    unbind();
    bindQueries(client, queryClient, rules);
    await pass(WITHIN);
    assert.deepEqual([tasks.fetches.length - before[0], users.fetches.length - before[1]], [1, what === 'gap' ? 1 : 0]);
  });
}

for (const kind of ['other', 'the_same']) {
  test(`pending_invalidations_of_two_binds_with_${kind}_keys_are_done_after_both_are_bound_again`, async () => {
    client.position = 'k3f9x2:41';
    const [tasks, users] = [await shown(['tasks'], []), await shown(['users'], [])];
    const bind = (type, key) => bindQueries(client, queryClient, { [type]: { invalidate: [[key]] } }, { queryKeys: kind === 'other' ? [[key]] : [['none']] });
    const binds = [() => bind('task_update', 'tasks'), () => bind('user_update', 'users')];
    const unbind = binds.map((bind) => bind());
    await pass(WITHIN);
    for (const query of [tasks, users]) if (query.fetches.length > 1) await query.answer([]);
    const before = [tasks.fetches.length, users.fetches.length];
    client.emit('task_update', {});
    client.emit('user_update', {});
    for (const end of unbind) end();
    for (const again of binds) again();
    await pass(WITHIN);
    assert.deepEqual([tasks.fetches.length - before[0], users.fetches.length - before[1]], [1, 1]);
  });
}

test('bind_after_events_while_unbound_refetches', async () => {
  client.position = 'k3f9x2:41';
  const tasks = await shown(['tasks'], []);
  const unbind = bindQueries(client, queryClient, {});
  await pass(WITHIN);
  await tasks.answer([]);
  unbind();
  bindQueries(client, queryClient, {})();
  bindQueries(client, queryClient, {});
  await pass(WITHIN);
  assert.equal(tasks.fetches.length, 2); // no event while unbound
  client.position = 'k3f9x2:42';
  bindQueries(client, queryClient, {})();
  client.position = 'k3f9x2:43';
  bindQueries(client, queryClient, {});
  await pass(WITHIN);
  assert.equal(tasks.fetches.length, 3);
});

test('unbind_fetches_nothing_and_marks_pending_queries_stale', async () => {
  const [task, tasks] = [await shown(['task', 7], TASK), await shown(['tasks'], [])];
  const unbind = bindQueries(client, queryClient, { task_update: { update, invalidate: [['tasks']] } });
  client.emit('task_update', { event: { id: 7, done: true } });
  unbind();
  assert.equal(client.subscriptions, 0);
  client.emit('task_update', { event: { id: 7, title: 'Buy more' } });
  await pass(2 * JITTER);
  assert.deepEqual(task.data, { ...TASK, done: true });
  assert.equal(tasks.fetches.length, 1);
  assert.deepEqual(['task', 'tasks'].map((key) => queryClient.getQueryCache().findAll({ queryKey: [key] })[0].state.isInvalidated), [false, true]);
});
