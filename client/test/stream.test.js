import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openStream } from '../src/stream.js';
import { fakeStreams, settle } from './fakes.js';

async function reading() {
  const { streams, fetch } = fakeStreams();
  const frames = [], ends = [];
  let heard = 0;
  const link = openStream('http://bridge/sse', undefined, {
    frame: (frame) => frames.push(frame), heard: () => heard++, end: (code, reason) => ends.push([code, reason]),
  }, { fetch });
  streams[0].open();
  await settle();
  return { stream: streams[0], frames, ends, link, heard: () => heard };
}

test('events in pieces of any size, over several lines, with what is no data left out', async () => {
  const { stream, frames } = await reading();
  const text = 'retry: 30000\nevent: a\nid: e:1\ndata: {"type":"a",\ndata: "text":"ü\u2028€"}\n\n:\n\nevent: b\ndata: {"type":"b"}\n\n';
  const bytes = new TextEncoder().encode(text);
  for (const byte of bytes) stream.out.enqueue(new Uint8Array([byte]));
  while (frames.length < 2) await new Promise(setImmediate);
  assert.deepEqual(frames, [{ type: 'a', text: 'ü\u2028€' }, { type: 'b' }]);
});

test('a comment is a sign of life and nothing else', async () => {
  const { stream, frames, heard } = await reading();
  stream.write(':\n\n');
  while (!heard()) await new Promise(setImmediate);
  assert.deepEqual(frames, []);
});

test('a stream that ends or breaks is lost; one that we close is not heard of', async () => {
  const ended = await reading(), broken = await reading(), closed = await reading();
  ended.stream.end();
  broken.stream.out.error(new TypeError('network error'));
  while (!ended.ends.length || !broken.ends.length) await new Promise(setImmediate);
  assert.deepEqual([ended.ends, broken.ends], [[[1006, '']], [[1006, '']]]);
  closed.link.close();
  assert.ok(closed.stream.signal.aborted);
});

test('without a token there is no header for it; cookies go along', async () => {
  const asked = [];
  openStream('http://bridge/sse', null, {}, { fetch: (url, init) => (asked.push(init), new Promise(() => {})) });
  assert.deepEqual(asked[0].headers, { Accept: 'text/event-stream' });
  assert.deepEqual([asked[0].credentials, asked[0].cache], ['include', 'no-store']);
});
