import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createBackoff } from '../src/backoff.js';

const backoff = createBackoff();

test('backoff_upper_bound_grows_by_1.3_up_to_20_s_and_lower_bound_stays_at_250_ms', (t) => {
  t.mock.method(Math, 'random', () => 0);
  assert.deepEqual([0, 1, 9, 1000].map(backoff), [250, 250, 250, 250]);
  t.mock.method(Math, 'random', () => 1);
  assert.deepEqual([0, 1, 2, 5, 13, 14, 15, 1000].map((attempt) => Math.round(backoff(attempt))), [500, 650, 845, 1856, 15_144, 19_687, 20_000, 20_000]);
});

test('backoff_with_own_bounds_stays_within_them', (t) => {
  t.mock.method(Math, 'random', () => 0);
  assert.equal(createBackoff({ min: 100 })(50), 50);
  t.mock.method(Math, 'random', () => 1);
  assert.equal(createBackoff({ max: 5_000 })(50), 5_000);
});

test('backoff_at_the_upper_bound_is_spread_over_the_whole_window', (t) => {
  t.mock.method(Math, 'random', () => 0.5);
  assert.equal(backoff(50), 10_125);
});

test('backoff_after_an_outage_of_10_s_reconnects_within_2_s_on_average', () => {
  const runs = 4_000;
  let late = 0;
  for (let run = 0; run < runs; run++) {
    let time = 0;
    for (let attempt = 0; time < 10_000; attempt++) time += backoff(attempt);
    late += time - 10_000;
  }
  assert.ok(late / runs < 2_500, `${late / runs}`); // measured: 1.9 s; with a growth of 2 it would be 5.5 s
});
