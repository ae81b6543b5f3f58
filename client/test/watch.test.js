import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createWatch } from '../src/watch.js';
import { pass, still } from './fakes.js';

function watching(t) {
  still(t);
  const calls = [];
  const watch = createWatch(() => calls.push('ask'), () => calls.push('dead'));
  watch.start(() => 25_000);
  return { watch, calls };
}

/** A timer that comes late, as on a page that is throttled or a laptop that slept. */
async function sleep(t, ms) {
  t.mock.timers.setTime(Date.now() + ms - 1);
  await pass(t, 1);
}

test('silence is asked about, and no answer within 10 s is the end', async (t) => {
  const { calls } = watching(t);
  await pass(t, 24_999);
  assert.deepEqual(calls, []);
  await pass(t, 1);
  assert.deepEqual(calls, ['ask']);
  await pass(t, 9_999);
  assert.deepEqual(calls, ['ask']);
  await pass(t, 1);
  assert.deepEqual(calls, ['ask', 'dead']);
});

test('whatever comes is a sign of life', async (t) => {
  const { watch, calls } = watching(t);
  await pass(t, 20_000);
  watch.alive();
  await pass(t, 24_999);
  assert.deepEqual(calls, []);
  await pass(t, 1);
  watch.alive(); // the answer
  await pass(t, 24_999);
  assert.deepEqual(calls, ['ask']);
  await pass(t, 1);
  assert.deepEqual(calls, ['ask', 'ask']);
});

test('a page that is throttled to a timer a minute asks again before it believes', async (t) => {
  const { watch, calls } = watching(t);
  for (let minute = 0; minute < 10; minute++) {
    await sleep(t, 60_000);
    assert.equal(calls.pop(), 'ask');
    watch.alive();
  }
  await sleep(t, 60_000);
  await sleep(t, 60_000); // no answer, but the timer was late
  assert.deepEqual(calls, ['ask', 'ask']);
  await sleep(t, 60_000); // nor to the second question
  assert.deepEqual(calls, ['ask', 'ask', 'dead']);
});

test('each silence is excused once', async (t) => {
  const { watch, calls } = watching(t);
  for (let silence = 0; silence < 2; silence++) {
    await sleep(t, 60_000);
    await sleep(t, 60_000);
    assert.deepEqual(calls.splice(0), ['ask', 'ask']);
    watch.alive();
  }
});

test('a new start forgets what was asked before', async (t) => {
  const { watch, calls } = watching(t);
  watch.probe(3_000);
  watch.start(() => 25_000);
  await pass(t, 25_000);
  assert.deepEqual(calls, ['ask', 'ask']);
});

test('a probe does not wait for silence', async (t) => {
  const { watch, calls } = watching(t);
  watch.probe(3_000);
  assert.deepEqual(calls, ['ask']);
  watch.alive();
  await pass(t, 3_000);
  assert.deepEqual(calls, ['ask']);
  watch.probe(3_000);
  await pass(t, 3_000);
  assert.deepEqual(calls, ['ask', 'ask', 'dead']);
});

test('a probe that comes while an answer is due does not put it off', async (t) => {
  const { watch, calls } = watching(t);
  watch.probe(3_000);
  await pass(t, 2_000);
  watch.probe(3_000);
  await pass(t, 1_000);
  assert.deepEqual(calls, ['ask', 'ask', 'dead']);
});

test('a clock that is put back does not keep it from asking', async (t) => {
  const { calls } = watching(t);
  t.mock.method(Date, 'now', () => -3_600_000);
  await pass(t, 25_000);
  assert.deepEqual(calls, ['ask']);
});

test('stopped, it says nothing more', async (t) => {
  const { watch, calls } = watching(t);
  watch.probe(3_000);
  watch.stop();
  await pass(t, 60_000);
  assert.deepEqual(calls, ['ask']);
});
