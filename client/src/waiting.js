/** @import { Frame, Limits, State } from './types.js' */
import { failure } from './failure.js';

const REMEMBERED = 2_000; // ids of handled events; a `settled` for an older one waits until its time-out
const SETTLE = 10_000; // ms that `settled` waits, and that a gap counts which came before it
const ENDLESS = 2e9; // ms, 23 days: after 25, a timer would fire at once

/**
 * Lets an application wait for a state, or until an event was handled.
 *
 * @param {() => State} current
 */
export function createWaiting(current) {
  const looks = /** @type {Set<() => void>} */ (new Set());
  const handled = /** @type {Map<string, Frame>} */ (new Map()); // by `event_id`, the oldest first
  let /** @type {Frame | undefined} */ lastGap, gapAt = 0;

  const check = () => looks.forEach((look) => look());

  /**
   * The first value that `find` returns, now or at a later check.
   *
   * @template T
   * @param {() => T | undefined | false} find
   * @param {Limits} limits
   * @returns {Promise<T>}
   */
  const until = (find, { timeout, signal }) => new Promise((resolve, reject) => {
    const look = (/** @type {unknown} */ late = false) => { // `true` from the timer, an event from the signal
      const found = find(), { status, code, reason } = current();
      if (signal?.aborted) reject(signal.reason);
      else if (found) resolve(found);
      else if (status === 'closed') reject(failure('closed', `closed: ${code ?? ''} ${reason ?? 'by the page'}`));
      else if (late) reject(failure('timeout', `${timeout} ms passed`));
      else return;
      looks.delete(look);
      clearTimeout(timer);
      signal?.removeEventListener('abort', look);
    };
    const timer = /** @type {any} */ (timeout && timeout < ENDLESS && setTimeout(look, timeout, true));
    looks.add(look);
    signal?.addEventListener('abort', look);
    look();
  });

  return {
    check,
    /**
     * @param {Frame} frame whose handlers have run
     * @param {number} at when it came, in ms since 1970
     * @param {boolean} isFirst `connected` of the first connection: like a gap, because earlier events are not replayed, but
     *   not for later calls, because each page has it
     */
    handledBy(frame, at, isFirst) {
      const { event_id, type } = frame;
      if (isFirst || type === 'gap') {
        lastGap = frame;
        gapAt = isFirst ? 0 : at;
      }
      if (event_id) handled.set(event_id, frame);
      if (handled.size > REMEMBERED) handled.delete(/** @type {string} */ (handled.keys().next().value));
      check();
    },
    /** @param {Limits} [limits] */
    ready: (limits = {}) => until(() => current().status === 'open' && current(), limits),
    /** @param {string} eventId @param {Limits} [limits] */
    settled(eventId, limits) {
      const before = Math.abs(Date.now() - gapAt) < SETTLE ? undefined : lastGap; // the event may have come while the change was on its way
      return until(() => handled.get(eventId) ?? (lastGap !== before && lastGap), { timeout: SETTLE, ...limits });
    },
  };
}
