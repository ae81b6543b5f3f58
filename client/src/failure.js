/**
 * An error of the client. Its `code` does not change between versions; `docs` is a link to its row in the guide.
 *
 * @param {import('./types.js').ClientErrorCode} code
 * @param {string} text
 * @returns {import('./types.js').ClientError}
 */
export function failure(code, text) {
  const docs = `FRONTEND_INTEGRATION.md#${code}`;
  return Object.assign(new Error(`wsbridge: ${text} (${docs})`), { code, docs });
}
