const GROWTH = 1.3; // with 1.3 the mean wait after an outage of 10 s is 2 s; doubling made it 5.5 s

/**
 * Delays before retries, in ms. The lower bound stays low, so there is jitter at the upper bound too: after an outage
 * clients reconnect spread over the whole window.
 *
 * @param {{min?: number, max?: number}} [bounds]
 * @returns {(attempt: number) => number} the argument is the number of failed attempts
 */
export function createBackoff({ min = 500, max = 20_000 } = {}) {
  return (attempt) => {
    const most = Math.min(max, min * GROWTH ** attempt);
    return min / 2 + Math.random() * (most - min / 2);
  };
}
