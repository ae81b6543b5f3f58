/** @import { Client } from './types.js' */

const MAX_UNREAD = 10_000; // messages that the loop has not taken; one more ends it with an error: none is lost in silence

/**
 * Messages as an async iterator, from this call on until the signal or the end of the client.
 *
 * @param {Client<any>['on']} on
 * @param {string} type
 * @param {AbortSignal} [signal]
 * @throws {Error} in the loop, if it takes messages more slowly than they come
 */
export function iterate(on, type, signal) {
  const /** @type {any[]} */ unread = [];
  let wake = () => {}, over = false;
  const end = () => {
    over = true;
    wake();
  };
  const off = on(type, (message) => (unread.push(message) > MAX_UNREAD ? end() : wake()));
  const offState = on('state', ({ status }) => status === 'closed' && end());
  signal?.addEventListener('abort', end);
  return (async function* () {
    try {
      while (!signal?.aborted) {
        if (unread.length > MAX_UNREAD) throw new Error(`over ${MAX_UNREAD} messages are unread: the loop is too slow`);
        if (unread.length) yield unread.shift();
        else if (over) return;
        else await /** @type {Promise<void>} */ (new Promise((resolve) => (wake = resolve)));
      }
    } finally {
      off();
      offState();
    }
  })();
}
