/** @import { Choice, Connection, ConnectionHost, Frame, TransportEvents, Send, State, TokenReason } from './types.js' */
import { LOST, reconnects, problemOf } from './closes.js';
import { failure } from './failure.js';
import { createWatch } from './watch.js';

const CONNECT_TIMEOUT = 10_000; // ms from asking for a token to `connected`
const STABLE = 5_000; // ms after which a connection counts as stable: delays after its end are short again
const PATIENCE = 3_000; // ms that a socket may take before a stream is tried beside it: some proxies swallow the upgrade
const LESS = 1_000; // ms by which that is shorter after each of the first two failures, because Firefox then delays sockets
const PROBE = 3_000; // ms for an answer after the user or the network has returned
const COMMENTS = 16_000; // the same on a stream, which cannot be pinged and sends a comment every 15 s
const EARLY = 60_000; // ms before a token expires at which a fresh one is fetched, at most
const REFRESH = 8; // refreshes are retried with the backoff of this attempt: about 2 s
const MAX_TIMER = 2e9; // ms, 23 days: a timer cannot wait for 25

/**
 * A connection to the bridge that reconnects: transports, tokens, liveness, goodbyes. Positions are handled elsewhere.
 *
 * A transport is one socket or one stream. The `live` one got `connected`. Of those that are being opened, the first one to
 * get `connected` becomes the live one and ends all others. The old live one stays open until then, so no update is late.
 * A stream is opened beside a slow socket even if another one is live, because that one may lack updates that were missed.
 * Each has a signal that ends it.
 *
 * @param {ConnectionHost} host
 * @returns {Connection}
 */
export function createConnection(host) {
  const { getToken, open, choice, backoff, receive, show } = host;
  /** @typedef {{isStream: boolean, tried?: boolean, send?: Send | void, goodbye?: Frame, abort: AbortController, deadline?: any, patience?: any}} Transport */
  const /** @type {Set<Transport>} */ opening = new Set();
  let /** @type {Transport | null} */ live = null;
  let attempt = 0, resyncs = 0, retriedAtOnce = false, openedAt = 0;
  let /** @type {any} */ timer, /** @type {any} */ refreshTimer, planned = 0, retryAt = 0;
  let /** @type {'retry' | 'hint' | 'upgrade'} */ plan = 'retry';
  let /** @type {TokenReason} */ tokenReason = 'connect';
  let /** @type {Partial<State>} */ last = {};

  const watch = createWatch(
    () => live?.send?.({ type: 'ping' }),
    () => live && end(live, LOST, 'silent'),
  );

  /** @param {State['status']} status @param {Partial<State>} [more] */
  const showStatus = (status, more) => show({ status, attempt, ...last, ...more });

  /** @param {Transport} transport @param {unknown} [error] */
  function showOpen({ isStream }, error) {
    last = { error };
    showStatus('open', { attempt: 0, transport: isStream ? 'sse' : 'websocket' });
  }

  /** @param {number} delay ms @param {typeof plan} [what] */
  function later(delay, what = 'retry') {
    clearTimeout(timer);
    plan = what;
    planned = delay;
    retryAt = Date.now() + delay;
    timer = setTimeout(connect, delay);
    if (!live) showStatus('waiting', { delay, retryAt });
  }

  const upgradeLater = () => later(/** @type {Choice} */ (choice).pause(), 'upgrade');

  async function connect() {
    timer = 0;
    const upgrade = plan === 'upgrade';
    const isStream = !!choice?.isStream(upgrade);
    if (upgrade && isStream) return upgradeLater(); // another page has just found sockets silent
    abortOpening();
    const transport = begin(isStream);
    if (!live) showStatus('connecting');
    try {
      const token = await fetchToken(transport);
      if (last.reason === 'token') attempt = 0; // the delays were for getToken, not for the bridge
      if (opening.has(transport)) run(transport, token);
    } catch (error) {
      end(transport, LOST, 'token', error);
    }
  }

  /** @param {boolean} isStream */
  function begin(isStream) {
    const transport = /** @type {Transport} */ ({ isStream, abort: new AbortController() });
    opening.add(transport);
    transport.deadline = setTimeout(end, CONNECT_TIMEOUT, transport, LOST, 'timeout');
    return transport;
  }

  /** @param {Transport} transport @param {string | null | undefined} token */
  function run(transport, token) {
    transport.tried = true;
    try {
      transport.send = open(transport.isStream, token, events(transport), transport.abort.signal);
      if (choice && !transport.isStream && plan !== 'upgrade') {
        transport.patience = setTimeout(() => run(begin(true), token), PATIENCE - LESS * Math.min(attempt, 2));
      }
    } catch (error) {
      end(transport, LOST, '', error);
    }
  }

  /** @param {Transport} transport @returns {TransportEvents} ignored once a newer transport has replaced it */
  const events = (transport) => ({
    frame: (frame) => isOurs(transport) && take(transport, frame),
    end: (code, reason, error) => end(transport, code, reason, error),
  });

  /** @param {Transport} transport */
  const isOurs = (transport) => transport === live || opening.has(transport);

  /** @param {Transport} transport @param {Frame} frame */
  function take(transport, frame) {
    const { type } = frame;
    if (type === 'connected') opened(transport, frame);
    if (transport === live) watch.alive();
    if (type === 'pong') return;
    if (type === 'authenticated') {
      if (last.error) showOpen(transport); // a refresh had failed before
      return refreshBefore(frame.expires_in_ms);
    }
    if (type === 'error' && frame.code === 'unavailable') refreshAfter(backoff(REFRESH));
    if (type === 'goodbye') {
      transport.goodbye = frame;
      if (frame.reconnect && frame.close_after_ms) {
        resetBackoff();
        later(frame.reconnect_after_ms, 'hint');
      }
    }
    receive(frame);
  }

  /** @param {Transport} transport @param {Frame} frame */
  function opened(transport, { ping_interval_ms, expires_in_ms }) {
    stopTimers(transport);
    opening.delete(transport);
    choice?.opened(transport.isStream, opening.size);
    stop(); // all others
    live = transport;
    openedAt = Date.now();
    tokenReason = 'connect';
    watch.start(() => ping_interval_ms);
    refreshBefore(expires_in_ms);
    if (transport.isStream) upgradeLater();
    showOpen(transport);
  }

  /** @param {Transport} transport @param {number} code @param {string} reason @param {unknown} [error] */
  function end(transport, code, reason, error) {
    if (!isOurs(transport)) return;
    abort(transport);
    if (transport.goodbye && code < 4000) ({ code, reason } = transport.goodbye); // streams have no close frame, and some engines hide 1012 and 1013
    if (transport === live) {
      live = null;
      watch.stop();
      clearTimeout(refreshTimer);
      resetBackoff();
    } else {
      opening.delete(transport);
      if (transport.tried) choice?.refused(transport.isStream, code, reason === 'timeout', live?.isStream); // without a token, no transport was tried
    }
    last = { code, reason, error, problem: problemOf(code, reason) };
    if (!reconnects(code)) return finish(last);
    if (code === 4401) tokenReason = /** @type {TokenReason} */ (reason);
    reconnect(transport, code);
  }

  /** After a stable connection, delays are short again. */
  function resetBackoff() {
    if (Date.now() - openedAt < STABLE) return;
    attempt = resyncs = 0;
    retriedAtOnce = false;
  }

  /** @param {Transport} transport @param {number} code */
  function reconnect({ isStream, goodbye }, code) {
    const hint = goodbye?.reconnect_after_ms;
    if (opening.size && plan !== 'upgrade') return live || showStatus('connecting'); // do not wait for a socket that may be silent
    if (timer && plan !== 'upgrade') return later(remaining(), plan); // keep the time that a goodbye or an earlier failure set
    if (live?.isStream && !isStream) return upgradeLater();
    if (!isStream && choice?.isStream(false)) return later(0); // the delays are for a bridge that fails, not for blocked sockets
    if ((code === 4401 || code === 4408) && !retriedAtOnce) {
      retriedAtOnce = true; // only once: a second refusal in a row waits
      return later(0);
    }
    later(hint || backoff(attempt++), hint ? 'hint' : 'retry');
  }

  const remaining = () => Math.max(0, Math.min(planned, retryAt - Date.now())); // the clock may be set back

  /** @param {number | undefined} ms until the token expires */
  function refreshBefore(ms) {
    if (ms !== undefined) refreshAfter(Math.max(STABLE, ms - Math.min(EARLY, ms / 5))); // getToken may return the old token
  }

  /** @param {number} delay ms */
  function refreshAfter(delay) {
    clearTimeout(refreshTimer);
    if (getToken) refreshTimer = setTimeout(refresh, Math.min(MAX_TIMER, delay));
  }

  async function refresh() {
    const transport = /** @type {Transport} */ (live);
    if (!transport.send) { // a stream cannot send a token: open another one with it
      tokenReason = 'refresh';
      return later(0);
    }
    try {
      const token = await fetchToken(transport, 'refresh');
      if (transport === live) transport.send({ type: 'auth', token });
    } catch (error) {
      if (transport !== live) return;
      refreshAfter(backoff(REFRESH));
      showOpen(transport, error);
    }
  }

  /**
   * @param {Transport} transport is ended if there is no token
   * @param {TokenReason} [reason]
   * @throws the error of getToken; a ClientError if its result is not a token; the browser's own error would show the result
   */
  async function fetchToken(transport, reason = tokenReason) {
    const token = await getToken?.({ reason, signal: transport.abort.signal });
    if (/[^\w.-]/.test(/** @type {string} */ (token))) throw failure('bad_token', 'not a JWT'); // null and undefined count as text
    if (getToken && !token && isOurs(transport)) finish({ reason: 'no_token', problem: 'needs-token' });
    return token;
  }

  /** @param {Transport | null} transport */
  function abort(transport) {
    stopTimers(transport);
    transport?.abort.abort();
  }

  function abortOpening() {
    const transports = [...opening];
    opening.clear(); // first, because a socket may report its close at once
    transports.forEach(abort);
  }

  /** @param {Transport | null} transport */
  function stopTimers(transport) {
    clearTimeout(transport?.deadline);
    clearTimeout(transport?.patience);
  }

  function stop() {
    clearTimeout(timer);
    timer = 0;
    watch.stop();
    clearTimeout(refreshTimer);
    abortOpening();
    const transport = live;
    live = null;
    abort(transport);
  }

  /** @param {Partial<State>} how */
  function finish(how) {
    stop();
    last = how;
    showStatus('closed');
  }

  return {
    start() {
      if (live || opening.size || timer) return;
      attempt = resyncs = 0;
      retriedAtOnce = false;
      last = {};
      plan = 'retry';
      connect();
    },
    stop,
    send: (message) => live?.send?.(message),
    wake(now) {
      if (live) watch.probe(live.send ? PROBE : COMMENTS);
      else if (timer && (now || plan !== 'hint')) later(now ? 0 : Math.min(remaining(), Math.random() * 1000));
      else attempt = 0; // if the try under way fails, the next delay is short
    },
    resync(before) {
      if (!live || (plan !== 'upgrade' && opening.size) || (timer && plan === 'retry')) return;
      resetBackoff();
      later(backoff(before ?? resyncs++)); // a proxy may lose updates on every connection
    },
  };
}
