import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backoff } from '../src/backoff.js';

test('the upper bound doubles up to 20 s, the lower one stays at 250 ms', (t) => {
  t.mock.method(Math, 'random', () => 0);
  assert.deepEqual([0, 1, 9, 1000].map(backoff), [250, 250, 250, 250]);
  t.mock.method(Math, 'random', () => 1);
  assert.deepEqual([0, 1, 2, 5, 6, 1000].map(backoff), [500, 1000, 2000, 16_000, 20_000, 20_000]);
});

test('behind the cap clients still spread over the whole window', (t) => {
  t.mock.method(Math, 'random', () => 0.5);
  assert.equal(backoff(50), 10_125);
});
