/** @import { Open } from './types.js' */

/**
 * A WebSocket. The token goes as a subprotocol, which keeps it out of URLs and their logs.
 *
 * @type {Open}
 */
export const openSocket = (url, token, on, signal, { WebSocket = globalThis.WebSocket }) => {
  const socket = new WebSocket(url, token ? ['wsbridge.v1', `bearer.${token}`] : []);
  socket.onmessage = ({ data }) => on.frame(JSON.parse(data));
  socket.onclose = ({ code, reason }) => on.end(code, reason);
  signal.addEventListener('abort', () => socket.close());
  return (message) => socket.send(JSON.stringify(message));
};
