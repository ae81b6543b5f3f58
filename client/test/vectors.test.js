import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { comesBack } from '../src/closes.js';
import { distance } from '../src/position.js';

const vectors = (name) => JSON.parse(readFileSync(new URL(`../../tests/vectors/${name}.json`, import.meta.url)));

test('after each close code of the vectors the client does what they say', () => {
  const { closes, any_code } = vectors('closes');
  for (const { code, reconnect } of [...closes, ...any_code]) assert.equal(comesBack(code), reconnect, code);
});

test('positions of the vectors compare as they say, or not at all', () => {
  for (const { a, b, order } of vectors('positions').order) {
    assert.equal(Math.sign(distance(b, a)), order ?? NaN, `${a} ${b}`);
    assert.equal(Math.sign(distance(a, b)), order === null ? NaN : 0 - order, `${b} ${a}`);
  }
});

test('every good position of the vectors is a number of events after the beginning of its epoch', () => {
  for (const { text, epoch, offset } of vectors('positions').good) assert.equal(distance(`${epoch}:0`, text), offset);
});
