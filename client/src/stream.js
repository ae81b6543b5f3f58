/** @import { TransportEvents, Open } from './types.js' */
import { LOST } from './closes.js';

/** HTTP status of a refusal → the close code that a WebSocket would get (docs/protocol.md). */
const CODES = /** @type {Record<number, number>} */ ({ 400: 4500, 401: 4401, 403: 4503 });

/**
 * Server-Sent Events over a streaming fetch. Unlike EventSource, it can read the status and send the token in a header.
 *
 * @type {Open}
 */
export const openStream = (url, token, on, signal, { fetch = globalThis.fetch }) => {
  const headers = { Accept: 'text/event-stream', ...(token && { Authorization: `Bearer ${token}` }) };
  fetch(url, { headers, signal, cache: 'no-store', credentials: 'include' })
    .then((response) => (response.status === 200 ? read(response, on) : refusal(response)))
    .catch(() => /** @type {Awaited<ReturnType<typeof read>>} */ ({}))
    .then(({ code = LOST, reason = '' }) => on.end(code, reason));
};

/**
 * @param {Response} response of the bridge if it is a problem document (RFC 9457), else of a proxy
 * @returns {ReturnType<typeof read>}
 */
async function refusal(response) {
  const { detail } = await response.json().catch(() => ({}));
  const code = detail && CODES[response.status];
  return code ? { code, reason: detail } : {};
}

/**
 * Events as the bridge writes them (HTML standard, section 9.2): a message's JSON is in its `data` lines.
 *
 * @param {Response} response
 * @param {TransportEvents} on
 * @returns {Promise<{code?: number, reason?: string}>} none: the stream was lost
 */
async function read(response, on) {
  const reader = /** @type {ReadableStream} */ (response.body).pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = '', chunk; !(chunk = await reader.read()).done; ) {
    on.frame({ type: 'pong' }); // any chunk is a sign of life, even a comment
    const events = (rest + chunk.value).split('\n\n');
    rest = /** @type {string} */ (events.pop());
    for (const event of events) {
      const data = event.split('\n').filter((line) => line.startsWith('data: '));
      if (data[0]) on.frame(JSON.parse(data.map((line) => line.slice(6)).join('\n')));
    }
  }
  return {};
}
