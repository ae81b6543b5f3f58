/** @import { Client, Follow } from './types.js' */
import { createBackoff } from './backoff.js';

const JITTER = 5_000; // ms within which all pages load again after a restart of the bridge, which is a gap for all of them
const MAX_HELD = 100_000; // updates that wait for a load; one more, and the load begins from scratch

/**
 * Loads a state and keeps it fresh: connects, loads, applies the updates since the load began, then each later update.
 * After a gap it loads again. A load that fails is tried again with backoff.
 *
 * @template {object} M
 * @template S
 * @param {Pick<Client<M>, 'connect' | 'on' | 'position' | 'state' | '_messages'>} client
 * @param {Follow<M, S>} how
 * @returns {() => void} ends it
 */
export function follow(client, { load, set, apply, jitter = JITTER, onError = console.error }) {
  const backoff = createBackoff();
  let /** @type {AbortController | undefined} */ current; // the last load that began
  let /** @type {any[] | null} */ held = []; // updates that wait for the state; null once it is loaded
  let /** @type {any} */ timer, attempt = 0;

  /** @param {'first' | 'gap'} cause */
  async function refresh(cause) {
    const mine = begin();
    held ??= [];
    try {
      const state = await load({ cause, signal: mine.signal });
      if (mine !== current) return; // another load has begun
      set?.(state);
    } catch (error) {
      if (mine !== current) return;
      onError(error);
      held = []; // the next load begins after these updates, so its state includes them
      timer = setTimeout(refresh, backoff(attempt++), cause);
      return;
    }
    attempt = 0;
    const updates = held;
    held = null;
    updates.forEach(take);
  }

  function begin() {
    clearTimeout(timer);
    current?.abort();
    return (current = new AbortController());
  }

  /** @param {any} update */
  function take(update) {
    if (held) {
      if (held.push(update) > MAX_HELD) {
        held = [];
        refresh('gap');
      }
    } else {
      try {
        apply(update);
      } catch (error) {
        onError(error);
      }
    }
  }

  const offs = [
    client.on('connected', () => void (current ?? refresh('first'))),
    client.on('gap', ({ reason }) => {
      clearTimeout(timer);
      if (reason === 'reset') timer = setTimeout(refresh, Math.random() * jitter, 'gap');
      else refresh('gap'); // without delay: the gap is this user's, so other users do not load at the same time
    }),
    client.on('*', (message) => void (message.id && take(message))),
  ];
  if (client.position) refresh('first');
  if (client.state.status === 'idle') client.connect();
  return () => {
    offs.forEach((off) => off());
    begin().abort();
  };
}
