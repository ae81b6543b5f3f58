/** @import { Client, Follow } from './types.js' */
import { createBackoff } from './backoff.js';
import { unshown } from './holding.js';

const JITTER = 5_000; // ms within which all pages load again after a restart of the bridge, which is a gap for all of them
const PATIENCE = 3_000; // ms without a connection after which the state is loaded without one, and again once connected
const MAX_HELD = 100_000; // updates that wait for a load; one more, and the load begins from scratch

/**
 * Loads a state and keeps it fresh: connects, loads, applies the updates since the load began, then each later update.
 * After a gap it loads again. A load that fails is tried again with backoff. A later load waits while the client connects.
 * While the client is closed nothing is loaded or set, because another user may be logged in by then. Only a mistake in
 * the page or the bridge says nothing about the user: then it loads without updates. After the next connection it loads again.
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
  let /** @type {Promise<void> | undefined} */ shown, show = () => {}; // the next load has ended, or none will begin

  const is = /** @param {import('./types.js').State['status']} status */ (status) => client.state.status === status;
  const report = /** @param {unknown} error */ (error) => queueMicrotask(() => onError(error)); // it may throw

  /** @param {'first' | 'gap'} [cause] */
  async function refresh(cause = 'first') {
    if (is('closed') && client.state.problem !== 'misconfigured') return; // a mistake says nothing about the user
    const mine = begin();
    held = []; // earlier updates are part of the state
    try {
      const state = await load({ cause, signal: mine.signal });
      if (mine === current) set?.(state);
    } catch (error) {
      if (mine === current) {
        report(error);
        return plan(backoff(attempt++), cause);
      }
    }
    if (mine !== current) return; // another load has begun, or `set` has ended it
    attempt = 0;
    const updates = held;
    held = null;
    updates.forEach(take);
    if (!timer) release(); // otherwise a gap came during this load
  }

  /** @param {any} message its change is on the page once the state is loaded */
  function hold(message) {
    shown ??= new Promise((resolve) => (show = resolve));
    unshown.set(message, Promise.all([unshown.get(message), shown])); // another `follow` may hold it too
  }

  function release() {
    show();
    shown = undefined;
  }

  /** @param {number} delay ms @param {'first' | 'gap'} [cause] */
  function plan(delay, cause) {
    clearTimeout(timer);
    timer = setTimeout(due, delay, cause);
  }

  /**
   * Loads again, but not while the client connects: after a return from the back-forward cache another user may be logged
   * in. Then the attempt closes the client, which cancels the load.
   *
   * @param {'first' | 'gap'} [cause]
   */
  function due(cause) {
    if (current && is('connecting')) plan(PATIENCE, cause);
    else refresh(cause);
  }

  function begin() {
    clearTimeout(timer);
    timer = undefined;
    current?.abort();
    return (current = new AbortController());
  }

  /** @param {any} update */
  function take(update) {
    if (held) {
      hold(update);
      if (held.push(update) > MAX_HELD) refresh('gap');
    } else {
      try {
        apply(update);
      } catch (error) {
        report(error);
      }
    }
  }

  function stop() {
    begin().abort();
    current = undefined;
    held = []; // not null: `apply` may have caused the stop, and the updates after it wait for the next load
    release();
  }

  function look() {
    if (is('closed')) {
      stop();
      refresh();
    } else if (!current && !timer) plan(PATIENCE);
  }

  const offs = [
    client.on('state', look),
    client.on('connected', (message) => {
      if (current && client.position) return;
      hold(message);
      refresh(); // the first connection does not replay
    }),
    client.on('gap', (gap) => {
      hold(gap);
      if (gap.reason === 'reset') plan(Math.random() * jitter, 'gap');
      else refresh('gap'); // without delay: the gap is this user's, so other users do not load at the same time
    }),
    client.on('*', (message) => void (message.id && take(message))),
  ];
  look();
  if (!current && (client.position || is('open'))) refresh();
  if (is('idle')) client.connect();
  return () => {
    offs.forEach((off) => off());
    stop();
  };
}
