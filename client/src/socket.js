/** @import { Open } from './types.js' */
import { failure } from './failure.js';

const GRACE = 100; // ms from an error to its close event, which undici does not send for a refused connection

/**
 * A WebSocket. The token is sent as a subprotocol, which keeps it out of URLs and their logs.
 *
 * @type {Open}
 */
export const openSocket = (url, token, on, signal, { WebSocket = globalThis.WebSocket }) => {
  if (!WebSocket) throw failure('no_websocket', 'no WebSocket: pass one');
  const socket = new WebSocket(url, token ? ['wsbridge.v1', `bearer.${token}`] : []);
  let /** @type {unknown} */ error;
  socket.onmessage = ({ data }) => on.frame(JSON.parse(data));
  socket.onclose = ({ code, reason }) => on.end(code, reason, error);
  socket.onerror = (event) => { // without a handler, `ws` ends the process
    error = /** @type {ErrorEvent} */ (event).error;
    setTimeout(on.end, GRACE, 1006, '', error);
  };
  signal.addEventListener('abort', () => socket.close());
  return (message) => socket.send(JSON.stringify(message));
};
