const INTERVAL = 1_000; // ms between two reports

/**
 * Reports to the bridge up to which event all handlers have run, and how long they took for one event of each report.
 *
 * @param {(message: object) => void} send
 * @param {() => string} position
 */
export function createReceipts(send, position) {
  let /** @type {boolean | undefined} */ isWanted, /** @type {any} */ timer;
  let began = 0, ended = 0, /** @type {object | undefined} */ sample;
  const now = () => performance.now();

  function flush() {
    clearTimeout(timer);
    if (sample) send({ type: 'handled', last_event_id: position(), ...sample, held_ms: now() - ended });
    sample = timer = undefined;
  }

  return {
    flush,
    begin: () => void (began = now()),
    /** @param {import('./types.js').Frame} frame whose handlers have run */
    end({ type, id, timestamp, receipts }) {
      if (type === 'connected') isWanted = receipts;
      if (!id || !isWanted) return;
      sample ??= { timestamp, handlers_ms: (ended = now()) - began };
      timer ??= setTimeout(flush, INTERVAL);
    },
  };
}
