/** @import { Client, Connect, Connection, ConnectionHost, Frame, Open, Options, State } from './types.js' */
import { createBackoff } from './backoff.js';
import { createConnection } from './connection.js';
import { createEmitter } from './emitter.js';
import { failure } from './failure.js';
import { unshown } from './holding.js';
import { iterate } from './iterate.js';
import { watchPage } from './page.js';
import { distance } from './position.js';
import { quietly } from './quietly.js';
import { openSocket } from './socket.js';
import { createWaiting } from './waiting.js';

/**
 * A client of one bridge and one user: handlers, the position, duplicates. Streams and shared tabs are extras.
 *
 * @param {Options} options
 * @param {{sse?: Open, choice?: typeof import('./choice.js').createChoice, share?: typeof import('./tabs.js').shareTabs, close?: (key: string) => void,
 *   receipts?: typeof import('./receipts.js').createReceipts}} [extras]
 * @returns {Client<any>}
 */
export function buildClient(options, { sse: openStream, choice: createChoice, share: shareTabs, close: closeTabs, receipts: createReceipts } = {}) {
  const { url, sse, userId = '', getToken, signal, resume, share = true, transports, backoff, debug = quietly(() => document && localStorage.wsbridgeDebug) } = options;
  const { on, emit } = createEmitter();
  const { check, handledBy, ready, settled } = createWaiting(() => state);
  let /** @type {State} */ state = { status: 'idle', attempt: 0 };
  let /** @type {Connection | undefined} */ connection, /** @type {(() => void) | undefined} */ unwatch;
  let position = '', key = '';
  let /** @type {import('./types.js').Choice | undefined} */ choice;
  const after = () => position;
  const receipts = options.receipts ? createReceipts?.((message) => connection?.send(message), after) : undefined;

  /** @param {string} type @param {any} detail */
  const log = (type, detail) => debug && (typeof debug === 'function' ? debug : console.debug)('wsbridge', type, detail);

  /** @param {State} next */
  function show(next) {
    if (next.status === 'connecting' && state.status === next.status && !next.code) return; // a tab that becomes the leader
    state = next;
    log('state', next);
    if (next.status === 'closed') {
      unwatch?.();
      unwatch = undefined;
      stop();
    }
    emit('state', next, () => state !== next);
    check();
  }

  function stop() {
    receipts?.flush();
    connection?.stop();
  }

  /**
   * One rule for all frames, live or replayed, over one connection or two, from the bridge or from another tab: an update
   * at or before the position is a duplicate, the next one is new, and any other means that updates were missed.
   *
   * @param {Frame} frame
   */
  function receive(frame) {
    if (state.status === 'closed') return; // a handler has just closed the client
    const { type, id, recovered, last_event_id } = frame;
    const to = id ?? last_event_id ?? '', step = distance(position, to); // NaN for goodbyes and errors, which have no position
    if ((id || type === 'gap') && step <= 0) return;
    const isFirst = type === 'connected' && !position;
    const isWhole = id ? step === 1 : type !== 'connected' || !position || recovered === false || step <= 0;
    log(isWhole ? type : 'missed', frame);
    if (!isWhole) return connection?.resync();
    receipts?.begin();
    emit(type, frame);
    emit('*', frame);
    if (id || type === 'gap' || isFirst) {
      position = to;
      if (resume === 'session') quietly(() => sessionStorage.setItem(key, to));
    }
    receipts?.end(frame);
    const shown = unshown.get(frame), now = Date.now();
    const done = () => handledBy(frame, now, isFirst);
    if (shown) shown.then(done);
    else done();
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
    if (sse && allows('sse')) choice ??= createChoice?.(keyOf(''), allows('websocket'));
    return createConnection({
      getToken,
      open,
      choice,
      backoff: createBackoff(backoff),
      receive,
      show,
    });
  };

  const allows = /** @param {'websocket' | 'sse'} name */ (name) => !transports || transports.includes(name);

  function connect() {
    if (signal?.aborted) return close();
    if (!allows('websocket') && !sse) throw failure('bad_url', 'sse is missing');
    if (unwatch) return connection?.wake(true);
    key = keyOf();
    if (resume === 'session') quietly(() => (position ||= sessionStorage.getItem(key) ?? ''));
    connection ??= shareTabs ? shareTabs(key, direct, receive, show, after, share && userId && globalThis.navigator?.locks) : direct(receive, show, after);
    unwatch = watchPage({ ...connection, stop, hide: receipts?.flush });
    connection.start();
  }

  const keyOf = (user = userId) => `wsbridge ${absolute(url)} ${user}`;

  function close({ everywhere } = /** @type {{everywhere?: boolean}} */ ({})) {
    if (everywhere) quietly(() => closeTabs?.(keyOf()));
    // A client that is closed already tells its page once more: after a problem, and at a logout. One whose signal
    // is aborted before its first `connect` never begins.
    if (unwatch || state.problem || (signal?.aborted && state.status === 'idle') || (everywhere && !state.reason)) {
      show({ status: 'closed', attempt: 0, ...(everywhere && { reason: 'closed_everywhere' }) });
    }
  }

  signal?.addEventListener('abort', () => close());
  return {
    userId,
    on,
    messages: (type, { signal } = {}) => iterate(on, type, signal),
    connect,
    close,
    ready,
    settled: /** @type {Client<any>['settled']} */ (settled),
    get state() {
      return state;
    },
    get position() {
      return position;
    },
  };
}

/** @param {string | URL} address */
function absolute(address) {
  try {
    return new URL(address, globalThis.location?.href);
  } catch {
    throw failure('bad_url', `${address} is not a URL`);
  }
}
