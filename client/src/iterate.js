/** @import { Client } from './types.js' */
import { failure } from './failure.js';

const MAX_UNREAD = 10_000; // messages that wait for the loop; one more ends it with an error, so none is lost unnoticed

/**
 * Messages as an async iterator, from this call on until the signal or the end of the client.
 *
 * @param {Client<any>['on']} on
 * @param {string} type
 * @param {AbortSignal} [signal]
 * @throws {Error} in the loop, if it is slower than the messages
 */
export function iterate(on, type, signal) {
  const /** @type {any[]} */ unread = [];
  const over = new AbortController();
  let wake = () => {};
  const end = () => {
    over.abort();
    wake();
  };
  on(type, (message) => (unread.push(message) > MAX_UNREAD ? end() : wake()), over);
  on('state', ({ status }) => status === 'closed' && end(), over);
  signal?.addEventListener('abort', end, over);
  if (signal?.aborted) end();

  const loop = (async function* () {
    while (!signal?.aborted) {
      if (unread.length > MAX_UNREAD) throw failure('too_slow', `${MAX_UNREAD} messages are unread`);
      if (unread.length) yield unread.shift();
      else if (over.signal.aborted) return;
      else await /** @type {Promise<void>} */ (new Promise((resolve) => (wake = resolve)));
    }
  })();
  const leave = loop.return.bind(loop); // a generator that waits, or has not begun, would not notice it
  loop.return = (value) => {
    end();
    return leave(value);
  };
  return loop;
}
