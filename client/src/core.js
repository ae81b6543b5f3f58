/** @import { Client, Connect, Connection, Frame, LinkEvents, Open, Options, State } from './types.js' */
import { createConnection } from './connection.js';
import { iterate } from './iterate.js';
import { watchPage } from './page.js';
import { distance } from './position.js';
import { openSocket } from './socket.js';

/**
 * A client of one bridge and one user: handlers, the position, duplicates. Streams and shared tabs are extras.
 *
 * @param {Options} options
 * @param {{openStream?: Open, shareTabs?: false | typeof import('./tabs.js').shareTabs}} [extras]
 * @returns {Client<any>}
 */
export function buildClient(options, { openStream, shareTabs } = {}) {
  const { url, sse, userId, getToken, signal, resume } = options;
  const handlers = /** @type {Map<string, Set<(message: any) => void>>} */ (new Map());
  let /** @type {State} */ state = { status: 'idle', attempt: 0 };
  let /** @type {Connection | undefined} */ connection, /** @type {(() => void) | undefined} */ unwatch;
  let position = '', key = '';

  /** @type {Client<any>['on']} */
  const on = (type, handler, { signal } = {}) => {
    const ours = handlers.get(type) ?? new Set();
    const call = /** @param {any} message */ (message) => handler(message); // the same handler twice is two
    handlers.set(type, ours.add(call));
    const off = () => void ours.delete(call);
    signal?.addEventListener('abort', off);
    if (signal?.aborted) off();
    return off;
  };

  /** @param {string} type @param {any} message */
  function emit(type, message) {
    for (const handler of [...(handlers.get(type) ?? [])]) {
      try {
        handler(message);
      } catch (error) {
        queueMicrotask(() => {
          throw error; // for `window.onerror` and the console; the other handlers get the message all the same
        });
      }
    }
  }

  /** @param {State} next */
  function show(next) {
    state = next;
    if (next.status === 'closed') {
      unwatch?.();
      unwatch = undefined;
      connection?.stop();
    }
    emit('state', next);
  }

  /**
   * One rule for all that comes, live or replayed, over one link or two, from the bridge or from another tab: what is
   * at or before the position is known, what follows it is new, and anything else means that something is missing.
   *
   * @param {Frame} frame
   */
  function receive(frame) {
    const { type, id, recovered, last_event_id } = frame;
    const step = distance(position, id ?? last_event_id ?? ''); // goodbyes and errors have none
    if (id && step !== 1) return step <= 0 || (position && connection?.resync());
    if (type === 'gap' && step <= 0) return;
    if (type === 'connected' && position && recovered !== false && !(step <= 0)) connection?.resync();
    emit(type, frame);
    emit('*', frame);
    if (id || type === 'gap' || (type === 'connected' && !position)) moveTo(id ?? last_event_id);
  }

  /** @param {string} to */
  function moveTo(to) {
    position = to;
    if (resume === 'session') inSession((storage) => storage.setItem(key, to));
  }

  /** @param {(storage: Storage) => void} use */
  function inSession(use) {
    try {
      use(sessionStorage);
    } catch {
      // forbidden here, or full: as without it
    }
  }

  /** @type {Connect} */
  const direct = (receive, show, after) => {
    /** @param {Open} open @param {string | URL} address @param {string} scheme */
    const opener = (open, address, scheme) => /** @param {any} token @param {LinkEvents} on */ (token, on) => {
      const full = absolute(address);
      full.protocol = full.protocol.replace(/ws|http/, scheme);
      if (userId) full.searchParams.set('user_id', userId);
      if (after()) full.searchParams.set('last_event_id', after());
      return open(full.href, token, on, options);
    };
    return createConnection({
      getToken,
      openSocket: opener(openSocket, url, 'ws'),
      openStream: openStream && sse ? opener(openStream, sse, 'http') : undefined,
      receive,
      show,
    });
  };

  function connect() {
    if (unwatch || signal?.aborted) return;
    key = `wsbridge ${absolute(url)} ${userId ?? ''}`;
    if (resume === 'session' && !position) inSession((storage) => (position = storage.getItem(key) ?? ''));
    const at = () => position;
    connection ??= shareTabs ? shareTabs(key, direct, receive, show, at) : direct(receive, show, at);
    const { start, stop, wake } = connection;
    unwatch = watchPage({ wake, suspend: stop, restore: start });
    start();
  }

  function close() {
    if (unwatch) show({ status: 'closed', attempt: 0 });
  }

  signal?.addEventListener('abort', close);
  return {
    on,
    messages: (type, options = {}) => iterate(on, type, options.signal),
    connect,
    close,
    get state() {
      return state;
    },
    get position() {
      return position;
    },
  };
}

/** @param {string | URL} address */
const absolute = (address) => new URL(address, globalThis.location?.href);
