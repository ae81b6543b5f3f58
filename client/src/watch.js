const LATE = 1_000; // ms that a timer is late on a page that sleeps or is throttled, and never on one that runs

/**
 * Notices silence, by the wall clock: after `interval()` ms without a sign of life it asks, and if nothing comes back
 * within `answer` ms it calls that dead. A late timer proves nothing (what would have answered may be queued behind it), so then it asks
 * once more: background tabs and laptops that slept do not flap.
 *
 * @param {() => void} ask
 * @param {() => void} dead
 * @param {number} [answer]
 */
export function createWatch(ask, dead, answer = 10_000) {
  let /** @type {() => number} */ interval, /** @type {number} */ heardAt, /** @type {number} */ due, asked = false, excused = false;
  let /** @type {ReturnType<typeof setTimeout>} */ timer;

  /** @param {number} delay */
  function plan(delay) {
    clearTimeout(timer);
    due = Date.now() + delay;
    timer = setTimeout(check, delay);
  }

  function check() {
    const silent = Math.abs(Date.now() - heardAt); // a clock may be put back
    if (!asked) return silent < interval() ? plan(interval() - silent) : probe(answer);
    if (excused || Date.now() - due <= LATE) return dead();
    excused = true;
    ask();
    plan(answer);
  }

  /** @param {number} deadline ms */
  function probe(deadline) {
    ask();
    if (asked && due < Date.now() + deadline) return; // who asks again and again does not put off the end
    asked = true;
    excused = false;
    plan(deadline);
  }

  return {
    /** @param {() => number} next ms between two signs of life, at most */
    start(next) {
      interval = next;
      this.heard();
      plan(next());
    },
    heard() {
      heardAt = Date.now();
      asked = false;
    },
    probe,
    stop: () => clearTimeout(timer),
  };
}
