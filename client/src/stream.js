/** @import { LinkEvents, Open } from './types.js' */

/** What a page must mend first is a status (PROTOCOL, section 2), and each has its close code. */
const CODES = /** @type {Record<number, number>} */ ({ 400: 4500, 401: 4401, 403: 4503 });
const LOST = 1006;

/**
 * Server-Sent Events as a link, by a streaming fetch: unlike EventSource it sees statuses and sends the token in a header.
 *
 * @type {Open}
 */
export const openStream = (url, token, on, { fetch = globalThis.fetch }) => {
  const abort = new AbortController();
  const headers = { Accept: 'text/event-stream', ...(token && { Authorization: `Bearer ${token}` }) };
  fetch(url, { headers, signal: abort.signal, cache: 'no-store', credentials: 'include' })
    .then((response) => (response.status === 200 ? read(response, on) : refusal(response)))
    .catch(() => ({ code: LOST, reason: '' }))
    .then(({ code, reason }) => on.end(code, reason));
  return { close: () => abort.abort() };
};

/** @param {Response} response */
async function refusal(response) {
  const { detail } = await response.json().catch(() => ({}));
  return { code: CODES[response.status] ?? LOST, reason: String(detail ?? '') };
}

/**
 * Events as the bridge writes them (HTML standard, section 9.2): a message's JSON is in its `data` lines.
 *
 * @param {Response} response
 * @param {LinkEvents} on
 */
async function read(response, on) {
  const reader = /** @type {ReadableStream} */ (response.body).pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = '', chunk; !(chunk = await reader.read()).done; ) {
    on.heard();
    const events = (rest + chunk.value).split('\n\n');
    rest = /** @type {string} */ (events.pop());
    for (const event of events) {
      const data = event.split('\n').filter((line) => line.startsWith('data: '));
      if (data[0]) on.frame(JSON.parse(data.map((line) => line.slice(6)).join('\n')));
    }
  }
  return { code: LOST, reason: '' };
}
