import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { createClient } from '../src/client.js';
import { reconnects } from '../src/closes.js';
import { distance } from '../src/position.js';
import { fakeSockets, goodbye, hello, pass, settle, still } from './fakes.js';

const vectors = (name) => JSON.parse(readFileSync(new URL(`../../tests/vectors/${name}.json`, import.meta.url)));

const OWN = ['pong', 'authenticated']; // answers for the client, not for the application
const HINT = 7_300;

/** A client that is connecting, its sockets, and the reasons with which it called getToken. */
async function dialled(t) {
  still(t);
  const { sockets, WebSocket } = fakeSockets();
  const reasons = [];
  const getToken = ({ reason }) => (reasons.push(reason), 'a.b.c');
  const client = createClient({ url: 'ws://bridge/ws', share: false, WebSocket, getToken });
  t.after(() => client.close());
  client.connect();
  await settle();
  return { client, sockets, reasons };
}

test('distance_of_the_vectors_has_their_order_or_is_nan', () => {
  for (const { a, b, order } of vectors('positions').order) {
    assert.equal(Math.sign(distance(b, a)), order ?? NaN, `${a} ${b}`);
    assert.equal(Math.sign(distance(a, b)), order === null ? NaN : 0 - order, `${b} ${a}`);
  }
});

test('distance_from_the_start_of_the_epoch_is_the_offset', () => {
  for (const { text, epoch, offset } of vectors('positions').good) assert.equal(distance(`${epoch}:0`, text), offset);
});

test('reconnects_for_each_close_code_agrees_with_the_vectors', () => {
  const { closes, any_code } = vectors('closes');
  for (const { code, reconnect } of [...closes, ...any_code]) assert.equal(reconnects(code), reconnect, code);
});

const DOES = {
  stop: ({ status }) => assert.equal(status, 'closed'),
  backoff: ({ status, delay }) => assert.ok(status === 'waiting' && delay > 0),
  hint: ({ status, delay }) => assert.deepEqual([status, delay], ['waiting', HINT]),
  resume: ({ status, delay }) => assert.deepEqual([status, delay], ['waiting', 0]),
  token: ({ status, delay }) => assert.deepEqual([status, delay], ['waiting', 0]),
};

for (const { code, reason, client: does } of vectors('closes').closes) {
  test(`close_${code}_${reason}_makes_the_client_${does}`, async (t) => {
    const { client, sockets, reasons } = await dialled(t);
    sockets[0].say(hello('k3f9x2:41'));
    if (does === 'hint') sockets[0].say(goodbye(code, reason, HINT));
    sockets[0].end(code, reason);
    DOES[does](client.state);
    assert.deepEqual([client.state.code, client.state.reason], [code, reason]);
    await pass(t, 0);
    assert.deepEqual(reasons, does === 'token' ? ['connect', reason] : does === 'resume' ? ['connect', 'connect'] : ['connect']);
    if (['token', 'resume'].includes(does)) assert.equal(sockets[1].after, 'k3f9x2:41');
  });
}

for (const { name, text } of vectors('messages').server) {
  test(`message_${name}_reaches_the_application_unchanged`, async (t) => {
    const { client, sockets } = await dialled(t);
    const message = JSON.parse(text);
    const got = [];
    const before = message.id ? message.id.replace(/\d+$/, (offset) => offset - 1) : 'k3f9x2:41';
    if (message.type !== 'connected') sockets[0].say(hello(before));
    client.on('*', (each) => got.push(each));
    sockets[0].onmessage({ data: text });
    assert.deepEqual(got, OWN.includes(message.type) ? [] : [message]);
    assert.equal(client.position, message.id ?? message.last_event_id ?? before);
  });
}

test('messages_of_the_client_are_valid_in_the_vectors', async (t) => {
  const { sockets } = await dialled(t);
  const meant = new Set(['ping', 'auth']);
  sockets[0].say(hello('k3f9x2:41', { expires_in_ms: 10_000 }));
  await pass(t, 30_000);
  for (const said of sockets[0].sent) {
    const vector = vectors('messages').client.find(({ text, means }) => means !== 'bad' && text === JSON.stringify(said));
    assert.ok(vector, JSON.stringify(said));
    meant.delete(vector.means);
  }
  assert.deepEqual([...meant], []);
});
