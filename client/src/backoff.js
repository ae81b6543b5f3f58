const MIN = 500;
const MAX = 20_000;

/**
 * Milliseconds until the next try. The lower bound stays low, so that the jitter survives the cap: after an outage
 * clients come back spread over the whole window.
 *
 * @param {number} attempt how many have failed before
 */
export function backoff(attempt) {
  const most = Math.min(MAX, MIN * 2 ** attempt);
  return MIN / 2 + Math.random() * (most - MIN / 2);
}
