/** @import { Client, Connect, Connection, ConnectionHost, Frame, Open, Options, State } from './types.js' */
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
  const handlers = new EventTarget(); // which keeps a message from no handler if another one throws, and reports the error
  let /** @type {State} */ state = { status: 'idle', attempt: 0 };
  let /** @type {Connection | undefined} */ connection, /** @type {(() => void) | undefined} */ unwatch;
  let position = '', key = '';

  /** @type {Client<any>['on']} */
  const on = (type, handler, { signal } = {}) => {
    const call = /** @param {any} event */ ({ detail }) => handler(detail); // the same handler twice is two
    handlers.addEventListener(type, call, { signal });
    return () => handlers.removeEventListener(type, call);
  };

  /** @param {string} type @param {any} detail */
  const emit = (type, detail) => handlers.dispatchEvent(new CustomEvent(type, { detail }));

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
   * One rule for all that comes, live or replayed, over one connection or two, from the bridge or from another tab: what is
   * at or before the position is known, what follows it is new, and anything else means that something is missing.
   *
   * @param {Frame} frame
   */
  function receive(frame) {
    if (state.status === 'closed') return; // by a handler, just now
    const { type, id, recovered, last_event_id } = frame;
    const step = distance(position, id ?? last_event_id ?? ''); // goodbyes and errors have none
    if ((id || type === 'gap') && step <= 0) return;
    const isWhole = id ? step === 1 : type !== 'connected' || !position || recovered === false || step <= 0;
    if (!isWhole) return connection?.resync();
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
    /** @type {ConnectionHost['open']} */
    const open = (isStream, token, on, signal) => {
      const transport = /** @type {Open} */ (isStream ? openStream : openSocket);
      const address = absolute(/** @type {string | URL} */ (isStream ? sse : url));
      address.protocol = address.protocol.replace(/ws|http/, isStream ? 'http' : 'ws');
      if (userId) address.searchParams.set('user_id', userId);
      if (after()) address.searchParams.set('last_event_id', after());
      return transport(address.href, token, on, signal, options);
    };
    return createConnection({ getToken, open, canStream: openStream && sse, receive, show });
  };

  function connect() {
    if (unwatch || signal?.aborted) return;
    key = `wsbridge ${absolute(url)} ${userId ?? ''}`;
    if (resume === 'session' && !position) inSession((storage) => (position = storage.getItem(key) ?? ''));
    const after = () => position;
    connection ??= shareTabs ? shareTabs(key, direct, receive, show, after) : direct(receive, show, after);
    unwatch = watchPage(connection);
    connection.start();
  }

  function close() {
    if (unwatch) show({ status: 'closed', attempt: 0 });
  }

  signal?.addEventListener('abort', close);
  return {
    on,
    messages: (type, { signal } = {}) => iterate(on, type, signal),
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
