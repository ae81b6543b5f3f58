/** Codes below 4000 that mean a bug of the client's own: coming back would repeat it. */
const OWN_BUGS = [1002, 1003, 1007, 1008, 1009];

/**
 * Whether a client comes back after this close code: 4000–4499 do, 4500–4999 stay away (PROTOCOL, section 3).
 *
 * @param {number} code
 */
export const comesBack = (code) => code < 4500 && !OWN_BUGS.includes(code);

/**
 * What a person must do about it, if anything.
 *
 * @param {number} code
 * @param {string} reason
 * @returns {import('./types.js').State['problem']}
 */
export function problemOf(code, reason) {
  if (code === 4401) return 'needs-token';
  if (comesBack(code)) return;
  return code > 4500 && reason !== 'origin_forbidden' ? 'forbidden' : 'misconfigured';
}
