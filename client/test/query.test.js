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

/** Let promises go on, then timers that are due now. */
async function settle() {
  for (let turn = 0; turn < 10; turn++) {
    await new Promise(setImmediate);
    mock.timers.tick(0);
  }
}

/** In steps, so that a timer that is set meanwhile counts from then. */
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

  /** What a component that renders shows from now on, when it changes: as TanStack's adapters they are called in batches. */
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

test('an update changes the data of its query and fetches nothing', async () => {
  const [task, other] = [await shown(['task', 7], TASK), await shown(['task', 8], { ...TASK, id: 8 })];
  bindQueries(client, queryClient, { task_update: { update } });
  client.emit('task_update', { event: { id: 7, done: true } });
  assert.deepEqual(task.data, { ...TASK, done: true });
  assert.deepEqual(other.data, { ...TASK, id: 8 });
  await pass(WITHIN);
  assert.equal(task.fetches.length, 1);
});

test('a thousand updates in one tick are all applied, in order', async () => {
  const numbers = await shown(['numbers'], []);
  const append = ({ event }) => ({ queryKey: ['numbers'], updater: (all) => [...all, event] });
  bindQueries(client, queryClient, { number: { update: append } });
  for (let n = 0; n < 1_000; n++) client.emit('number', { event: n });
  assert.deepEqual(numbers.data, Array.from({ length: 1_000 }, (_, n) => n));
});

test('data that was never fetched is not made up', () => {
  bindQueries(client, queryClient, { task_update: { update } });
  client.emit('task_update', { event: { id: 7, done: true } });
  assert.equal(queryClient.getQueryCache().getAll().length, 0);
});

test('an update may concern no query', async () => {
  const task = await shown(['task', 7], TASK);
  bindQueries(client, queryClient, { task_update: { update: () => undefined } });
  client.emit('task_update', { event: { id: 7, done: true } });
  assert.deepEqual(task.data, TASK);
});

test('an update that comes during a fetch is not lost to an older answer', async () => {
  const [task, comments] = [await shown(['task', 7], TASK), await shown(['task', 7, 'comments'], [])];
  bindQueries(client, queryClient, { task_update: { update } });
  queryClient.refetchQueries({ queryKey: ['task'] });
  client.emit('task_update', { event: { id: 7, done: true } });
  await settle();
  const shows = task.shownFrom(({ done }) => done);
  await comments.answer([]);
  await task.answer(TASK); // which is older
  assert.deepEqual(task.data, { ...TASK, done: true });
  assert.deepEqual(shows, [true]); // and was never seen
  await pass(10 * WITHIN);
  assert.deepEqual([task.fetches.length, comments.fetches.length], [2, 2]);
});

test('many messages are one invalidation and one fetch', async () => {
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

test('what a message makes stale may depend on it', async () => {
  const lists = [await shown(['list', 1], []), await shown(['list', 2], []), await shown(['list', 3], [])];
  bindQueries(client, queryClient, { task_update: { invalidate: ({ event }) => [['list', event.from], ['list', event.to]] } });
  client.emit('task_update', { event: { from: 1, to: 3 } });
  await pass(WITHIN);
  assert.deepEqual(lists.map(({ fetches }) => fetches.length), [2, 1, 2]);
});

for (const [which, before] of [['first', 0], ['later', 1]]) {
  test(`a message during a ${which} fetch does not cut it off, and is followed by one more`, async () => {
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

test('gaps of a restart are one refetch of everything, after a random delay', async () => {
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

test('only the queries that events keep fresh are fetched after a gap', async () => {
  const [tasks, rates] = [await shown(['tasks', 1], []), await shown(['rates'], [])];
  bindQueries(client, queryClient, {}, { queryKeys: [['tasks'], ['task']], jitter: 0 });
  client.emit('gap', { last_event_id: 'k3f9x2:97', reason: 'expired' });
  await pass(2 * WITHIN);
  assert.deepEqual([tasks.fetches.length, rates.fetches.length], [2, 1]);
});

test('what was fetched before the first connection is fetched again; a later one needs nothing', async () => {
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

test('first_fetch_that_runs_gets_the_updates_that_came_meanwhile', async () => {
  const task = new Shown(['task', 7]);
  bindQueries(client, queryClient, { task_update: { update } });
  client.emit('task_update', { event: { id: 7, done: true } });
  await task.answer(TASK);
  assert.deepEqual(task.data, { ...TASK, done: true });
  await pass(10 * WITHIN);
  assert.equal(task.fetches.length, 1);
});

test('fetch_that_fails_forgets_the_updates_that_came_meanwhile', async () => {
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
  assert.deepEqual([fetched, other.fetches.length], [['tasks', 'users'], 2]); // the other one began before
  await queryClient.refetchQueries({ queryKey: ['tasks'] });
  assert.deepEqual(fetched, ['tasks', 'users', 'tasks']); // connected: at once
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

for (const what of ['invalidation', 'gap']) {
  test(`pending_${what}_is_done_after_unbind_and_bind`, async () => {
    client.position = 'k3f9x2:41';
    const [tasks, users] = [await shown(['tasks'], []), await shown(['users'], [])];
    const rules = { task_update: { invalidate: [['tasks']] } };
    bindQueries(client, queryClient, rules)(); // the fetch of the first bind is none of this test's
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

test('events_between_unbind_and_bind_are_a_refetch', async () => {
  client.position = 'k3f9x2:41';
  const tasks = await shown(['tasks'], []);
  const unbind = bindQueries(client, queryClient, {});
  await pass(WITHIN);
  await tasks.answer([]);
  unbind();
  bindQueries(client, queryClient, {})();
  bindQueries(client, queryClient, {});
  await pass(WITHIN);
  assert.equal(tasks.fetches.length, 2); // nothing came in between
  client.position = 'k3f9x2:42';
  bindQueries(client, queryClient, {})();
  client.position = 'k3f9x2:43';
  bindQueries(client, queryClient, {});
  await pass(WITHIN);
  assert.equal(tasks.fetches.length, 3);
});

test('after_unbind_nothing_is_fetched_but_what_was_pending_is_stale', async () => {
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
