import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openStream } from '../src/stream.js';
import { fakeStreams, settle } from './fakes.js';

async function reading() {
  const { streams, fetch } = fakeStreams();
  const frames = [], ends = [];
  const over = new AbortController();
  let pongs = 0; // one for each chunk, as a sign of life
  openStream('http://bridge/sse', undefined, {
    frame: (frame) => (frame.type === 'pong' ? pongs++ : frames.push(frame)), end: (code, reason) => ends.push([code, reason]),
  }, over.signal, { fetch });
  streams[0].open();
  await settle();
  return { stream: streams[0], frames, ends, over, pongs: () => pongs };
}

test('stream_in_chunks_of_one_byte_yields_the_data_of_each_event', async () => {
  const { stream, frames } = await reading();
  const text = 'retry: 30000\nevent: a\nid: e:1\ndata: {"type":"a",\ndata: "text":"ü\u2028€"}\n\n:\n\nevent: b\ndata: {"type":"b"}\n\n';
  const bytes = new TextEncoder().encode(text);
  for (const byte of bytes) stream.out.enqueue(new Uint8Array([byte]));
  while (frames.length < 2) await new Promise(setImmediate);
  assert.deepEqual(frames, [{ type: 'a', text: 'ü\u2028€' }, { type: 'b' }]);
});

test('stream_comment_is_only_a_sign_of_life', async () => {
  const { stream, frames, pongs } = await reading();
  stream.write(':\n\n');
  while (!pongs()) await new Promise(setImmediate);
  assert.deepEqual(frames, []);
});

test('stream_that_ends_or_breaks_closes_with_1006', async () => {
  const ended = await reading(), broken = await reading();
  ended.stream.end();
  broken.stream.out.error(new TypeError('network error'));
  while (!ended.ends.length || !broken.ends.length) await new Promise(setImmediate);
  assert.deepEqual([ended.ends, broken.ends], [[[1006, '']], [[1006, '']]]);
});

test('stream_on_its_signal_is_aborted', async () => {
  const { stream, over } = await reading();
  over.abort();
  assert.ok(stream.signal.aborted);
});

test('stream_without_a_token_sends_cookies_and_no_authorization', async () => {
  const asked = [];
  openStream('http://bridge/sse', null, {}, undefined, { fetch: (url, init) => (asked.push(init), new Promise(() => {})) });
  assert.deepEqual(asked[0].headers, { Accept: 'text/event-stream' });
  assert.deepEqual([asked[0].credentials, asked[0].cache], ['include', 'no-store']);
});
