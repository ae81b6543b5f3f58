/** The code of browsers for a close without a close frame. */
export const LOST = 1006;

/** Codes below 4000 that mean a bug of the client: a reconnect would repeat it. */
const OWN_BUGS = [1002, 1003, 1007, 1008, 1009];

/**
 * Whether a client reconnects after this close code: yes after 4000–4499, no after 4500–4999 (docs/protocol.md).
 *
 * @param {number} code
 */
export const reconnects = (code) => code < 4500 && !OWN_BUGS.includes(code);

/**
 * The remedy after a close, if a person must act.
 *
 * @param {number} code
 * @param {string} reason
 * @returns {import('./types.js').State['problem']}
 */
export function problemOf(code, reason) {
  if (code === 4401) return 'needs-token';
  if (reconnects(code)) return;
  return code > 4500 && reason !== 'origin_forbidden' ? 'forbidden' : 'misconfigured';
}
