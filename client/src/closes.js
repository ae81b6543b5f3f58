/** Codes below 4000 that mean a bug of the client's own: coming back would repeat it. */
const OWN_BUGS = [1002, 1003, 1007, 1008, 1009];

/**
 * Whether a client comes back after this close code: 4000–4499 do, 4500–4999 stay away (PROTOCOL, section 3).
 *
 * @param {number} code
 */
export const comesBack = (code) => code < 4500 && !OWN_BUGS.includes(code);
