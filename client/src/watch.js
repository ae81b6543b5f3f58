const LATE = 1_000; // ms that a timer is late on a page that sleeps or is throttled, and never on one that runs

/**
 * Detects silence, by the wall clock. After `interval()` ms without a sign of life it calls `ask`, and after `answer` ms
 * without an answer it calls `dead`. If its timer was late, the answer may be queued behind it, so it asks once more.
 * Therefore background tabs and laptops that slept keep a working connection.
 *
 * @param {() => void} ask
 * @param {() => void} dead
 * @param {number} [answer]
 */
export function createWatch(ask, dead, answer = 10_000) {
  let /** @type {() => number} */ interval, /** @type {number} */ aliveAt, /** @type {number} */ due, asked = false, excused = false;
  let /** @type {ReturnType<typeof setTimeout>} */ timer;

  /** @param {number} delay */
  function plan(delay) {
    clearTimeout(timer);
    due = Date.now() + delay;
    timer = setTimeout(check, delay);
  }

  function check() {
    const silent = Math.abs(Date.now() - aliveAt); // the clock may be set back
    if (!asked) return silent < interval() ? plan(interval() - silent) : probe(answer);
    if (excused || Date.now() - due <= LATE) return dead();
    excused = true;
    ask();
    plan(answer);
  }

  /** @param {number} deadline ms */
  function probe(deadline) {
    ask();
    if (asked && due < Date.now() + deadline) return; // repeated probes do not postpone the end
    asked = true;
    excused = false;
    plan(deadline);
  }

  return {
    /** @param {() => number} next ms between two signs of life, at most */
    start(next) {
      interval = next;
      this.alive();
      plan(next());
    },
    alive() {
      aliveAt = Date.now();
      asked = false;
    },
    probe,
    stop: () => clearTimeout(timer),
  };
}
