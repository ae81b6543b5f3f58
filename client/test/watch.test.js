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

/** Let `ms` pass so that timers are late, as on a throttled page or a laptop that slept. */
async function sleep(t, ms) {
  t.mock.timers.setTime(Date.now() + ms - 1);
  await pass(t, 1);
}

test('watch_after_silence_asks_and_without_an_answer_within_10_s_is_dead', async (t) => {
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

test('watch_with_any_sign_of_life_starts_the_interval_again', async (t) => {
  const { watch, calls } = watching(t);
  await pass(t, 20_000);
  watch.alive();
  await pass(t, 24_999);
  assert.deepEqual(calls, []);
  await pass(t, 1);
  watch.alive(); // an answer to the question
  await pass(t, 24_999);
  assert.deepEqual(calls, ['ask']);
  await pass(t, 1);
  assert.deepEqual(calls, ['ask', 'ask']);
});

test('watch_with_timers_throttled_to_one_a_minute_asks_twice_before_it_is_dead', async (t) => {
  const { watch, calls } = watching(t);
  for (let minute = 0; minute < 10; minute++) {
    await sleep(t, 60_000);
    assert.equal(calls.pop(), 'ask');
    watch.alive();
  }
  await sleep(t, 60_000);
  await sleep(t, 60_000); // no answer, but the timer was late, so it asks once more
  assert.deepEqual(calls, ['ask', 'ask']);
  await sleep(t, 60_000); // no answer to the second question either
  assert.deepEqual(calls, ['ask', 'ask', 'dead']);
});

test('watch_with_late_timers_asks_once_more_in_each_silence', async (t) => {
  const { watch, calls } = watching(t);
  for (let silence = 0; silence < 2; silence++) {
    await sleep(t, 60_000);
    await sleep(t, 60_000);
    assert.deepEqual(calls.splice(0), ['ask', 'ask']);
    watch.alive();
  }
});

test('watch_started_again_forgets_the_earlier_question', async (t) => {
  const { watch, calls } = watching(t);
  watch.probe(3_000);
  watch.start(() => 25_000);
  await pass(t, 25_000);
  assert.deepEqual(calls, ['ask', 'ask']);
});

test('watch_probe_asks_at_once', async (t) => {
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

test('watch_second_probe_does_not_extend_the_deadline', async (t) => {
  const { watch, calls } = watching(t);
  watch.probe(3_000);
  await pass(t, 2_000);
  watch.probe(3_000);
  await pass(t, 1_000);
  assert.deepEqual(calls, ['ask', 'ask', 'dead']);
});

test('watch_with_the_clock_set_back_still_asks', async (t) => {
  const { calls } = watching(t);
  t.mock.method(Date, 'now', () => -3_600_000);
  await pass(t, 25_000);
  assert.deepEqual(calls, ['ask']);
});

test('watch_stopped_calls_nothing', async (t) => {
  const { watch, calls } = watching(t);
  watch.probe(3_000);
  watch.stop();
  await pass(t, 60_000);
  assert.deepEqual(calls, ['ask']);
});
