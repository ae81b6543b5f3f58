const ANSWER = 10_000; // ms that an answer may take
const LATE = 1_000; // ms that a timer is late on a page that sleeps or is throttled, and never on one that runs

/**
 * Notices silence, by the wall clock: after `interval` ms without a sign of life it asks, and if nothing comes back it
 * calls that dead. A late timer proves nothing (what would have answered may be queued behind it), so then it asks
 * once more: background tabs and laptops that slept do not flap.
 *
 * @param {() => void} ask
 * @param {() => void} dead
 */
export function createWatch(ask, dead) {
  let /** @type {number} */ interval, /** @type {number} */ heardAt, /** @type {number} */ due, asked = false, strikes = 0;
  let /** @type {ReturnType<typeof setTimeout>} */ timer;

  /** @param {number} delay */
  function plan(delay) {
    clearTimeout(timer);
    due = Date.now() + delay;
    timer = setTimeout(check, delay);
  }

  function check() {
    const silent = Date.now() - heardAt;
    if (!asked) return silent < interval ? plan(interval - silent) : probe(ANSWER);
    strikes += Date.now() - due > LATE ? 1 : 2;
    if (strikes > 1) return dead();
    ask();
    plan(ANSWER);
  }

  /** @param {number} deadline ms */
  function probe(deadline) {
    asked = true;
    strikes = 0;
    ask();
    plan(deadline);
  }

  return {
    /** @param {number} ms between two signs of life, at most */
    start(ms) {
      interval = ms;
      this.heard();
      plan(ms);
    },
    heard() {
      heardAt = Date.now();
      asked = false;
    },
    probe,
    stop: () => clearTimeout(timer),
  };
}
