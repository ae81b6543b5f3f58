/** @import { Connection, ConnectionHost, Frame, LineEvents, Send, State, TokenReason } from './types.js' */
import { backoff } from './backoff.js';
import { comesBack } from './closes.js';
import { createWatch } from './watch.js';

const LOST = 1006; // what a browser says where no close frame came
const DIAL_TIMEOUT = 10_000; // ms from asking for a token to `connected`
const STABLE = 5_000; // ms after which a connection has been one: its end is followed by short delays again
const SOCKETS = 3; // that fail in a row before a stream is tried
const UPGRADE = 10_000; // ms on a stream before a socket is tried beside it (an outage looks like a block); doubled each time
const SELDOM = 3_600_000; // the same, at most
const PROBE = 3_000; // ms for an answer where the user or the network has just come back
const COMMENTS = 16_000; // the same on a stream, which cannot be asked and says something every 15 s
const EARLY = 60_000; // ms before the end of a token that a fresh one is fetched, at most
const REFRESH = 3; // the attempt whose backoff lies between two of a refresh: 2 s or so
const MAX_TIMER = 2 ** 31 - 1; // ms that a timer can wait

/**
 * A connection to the bridge that comes back: transports, tokens, liveness, goodbyes. Knows nothing of positions.
 *
 * At most two lines are there: the `live` one, which has said `connected`, and the one that is being dialled. If there
 * are both, the second succeeds the first, which stays until then: no dark moment. Each has a signal that ends all of it.
 *
 * @param {ConnectionHost} host
 * @returns {Connection}
 */
export function createConnection({ getToken, open, canStream, receive, show }) {
  /** @typedef {{isStream: boolean, upgrade: boolean, dialled?: boolean, send?: Send | void, goodbye?: Frame, abort: AbortController, deadline?: any}} Line */
  let /** @type {Line | null} */ live = null, /** @type {Line | null} */ dialling = null;
  let attempt = 0, hurried = false, failedSockets = 0, upgradeAfter = UPGRADE, openedAt = 0;
  let /** @type {any} */ timer, /** @type {any} */ refreshTimer, retryAt = 0;
  let /** @type {'retry' | 'hint' | 'upgrade'} */ plan = 'retry';
  let /** @type {TokenReason} */ tokenReason = 'connect';
  let /** @type {Partial<State>} */ last = {};

  const watch = createWatch(
    () => live?.send?.({ type: 'ping' }),
    () => live && end(live, LOST, 'silent'),
  );

  /** @param {State['status']} status @param {Partial<State>} [more] */
  const tell = (status, more) => show({ status, attempt, ...last, ...more });

  /** @param {Line} line @param {unknown} [error] */
  function tellOpen({ isStream }, error) {
    last = { error };
    tell('open', { transport: isStream ? 'sse' : 'websocket' });
  }

  /** @param {number} delay ms @param {typeof plan} [what] */
  function later(delay, what = 'retry') {
    clearTimeout(timer);
    plan = what;
    retryAt = Date.now() + delay;
    timer = setTimeout(dial, delay);
    if (!live) tell('waiting', { delay, retryAt });
  }

  async function dial() {
    timer = 0;
    hangUp(dialling);
    const upgrade = plan === 'upgrade';
    const isStream = !!canStream && !upgrade && failedSockets >= SOCKETS;
    const line = /** @type {Line} */ ({ isStream, upgrade, abort: new AbortController() });
    dialling = line;
    line.deadline = setTimeout(() => end(line, LOST, 'timeout'), DIAL_TIMEOUT);
    if (!live) tell('connecting');
    try {
      const token = await fetchToken(line);
      if (dialling !== line) return;
      line.dialled = true;
      line.send = open(isStream, token, events(line), line.abort.signal);
    } catch (error) {
      end(line, LOST, line.dialled ? '' : 'token', error);
    }
  }

  /** @param {Line} line @returns {LineEvents} deaf once its successor is there */
  const events = (line) => ({
    frame: (frame) => isOurs(line) && take(line, frame),
    end: (code, reason) => end(line, code, reason),
  });

  /** @param {Line} line */
  const isOurs = (line) => line === live || line === dialling;

  /** @param {Line} line @param {Frame} frame */
  function take(line, frame) {
    const { type } = frame;
    if (type === 'connected') opened(line, frame);
    if (line === live) watch.heard();
    if (type === 'pong') return;
    if (type === 'authenticated') {
      if (last.error) tellOpen(line); // a refresh had failed before
      return refreshBefore(frame.expires_in_ms);
    }
    if (type === 'error' && frame.code === 'unavailable') refreshAfter(backoff(REFRESH));
    if (type === 'goodbye') {
      line.goodbye = frame;
      if (frame.reconnect && frame.close_after_ms) {
        forgive();
        later(frame.reconnect_after_ms, 'hint');
      }
    }
    receive(frame);
  }

  /** @param {Line} line @param {Frame} frame */
  function opened(line, { ping_interval_ms, expires_in_ms }) {
    clearTimeout(line.deadline);
    clearTimeout(timer);
    timer = 0;
    hangUp(live);
    live = line;
    dialling = null;
    openedAt = Date.now();
    tokenReason = 'connect';
    watch.start(ping_interval_ms);
    refreshBefore(expires_in_ms);
    if (line.isStream) later(upgradeAfter, 'upgrade');
    else {
      failedSockets = 0;
      upgradeAfter = UPGRADE;
    }
    tellOpen(line);
  }

  /** @param {Line} line @param {number} code @param {string} reason @param {unknown} [error] */
  function end(line, code, reason, error) {
    if (!isOurs(line)) return;
    hangUp(line);
    if (line.isStream && line.goodbye) ({ code, reason } = line.goodbye); // a stream has no close frame
    if (line === live) {
      live = null;
      watch.stop();
      clearTimeout(refreshTimer);
      forgive();
    } else undialled(line, code);
    last = { code, reason, error };
    if (!comesBack(code)) return finish(last);
    if (code === 4401) tokenReason = /** @type {TokenReason} */ (reason);
    comeBack(line, code);
  }

  /** After a connection that has lasted, delays are short again. */
  function forgive() {
    if (Date.now() - openedAt < STABLE) return;
    attempt = 0;
    hurried = false;
  }

  /** @param {Line} line @param {number} code */
  function undialled({ isStream, upgrade, dialled }, code) {
    dialling = null;
    if (!dialled) return; // for want of a token: the transport was not tried
    if (isStream) {
      if (code === LOST) failedSockets = SOCKETS - 1; // neither gets through: in turn from now on
    } else if (code !== LOST) failedSockets = 0;
    else if (!upgrade) failedSockets++;
  }

  /** @param {Line} line @param {number} code */
  function comeBack({ upgrade, goodbye }, code) {
    const hint = goodbye?.reconnect_after_ms;
    if (dialling) return tell('connecting');
    if (timer && plan !== 'upgrade') return later(remaining(), plan); // as was said
    if (live && upgrade) return later((upgradeAfter = Math.min(2 * upgradeAfter, SELDOM)), 'upgrade');
    if ((code === 4401 || code === 4408) && !hurried) {
      hurried = true; // once: a second refusal in a row waits like any other
      return later(0);
    }
    later(hint || backoff(attempt++), hint ? 'hint' : 'retry');
  }

  const remaining = () => Math.max(0, retryAt - Date.now());

  /** @param {number | undefined} ms that the token lasts */
  function refreshBefore(ms) {
    if (ms !== undefined) refreshAfter(Math.max(STABLE, ms - Math.min(EARLY, ms / 5))); // the old token may come again
  }

  /** @param {number} delay ms */
  function refreshAfter(delay) {
    clearTimeout(refreshTimer);
    if (getToken) refreshTimer = setTimeout(refresh, Math.min(MAX_TIMER, delay));
  }

  async function refresh() {
    const line = /** @type {Line} */ (live);
    if (!line.send) { // a stream cannot take it: its successor brings it
      tokenReason = 'refresh';
      return later(0);
    }
    try {
      const token = await fetchToken(line, 'refresh');
      if (line === live) line.send({ type: 'auth', token });
    } catch (error) {
      if (line !== live) return;
      refreshAfter(backoff(REFRESH));
      tellOpen(line, error);
    }
  }

  /**
   * @param {Line} line of which nothing is left if there is no token
   * @param {TokenReason} [reason]
   * @throws what getToken throws; an error of ours if it gives something else: a browser's own error would tell it
   */
  async function fetchToken(line, reason = tokenReason) {
    const token = await getToken?.({ reason, signal: line.abort.signal });
    if (token && /[^\w.-]/.test(token)) throw new Error('getToken gave no JWT');
    if (getToken && !token && isOurs(line)) finish({ reason: 'no_token' });
    return token;
  }

  /** @param {Line | null} line */
  function hangUp(line) {
    clearTimeout(line?.deadline);
    line?.abort.abort();
  }

  function stop() {
    clearTimeout(timer);
    timer = 0;
    watch.stop();
    clearTimeout(refreshTimer);
    const lines = [live, dialling];
    live = dialling = null;
    lines.forEach(hangUp);
  }

  /** @param {Partial<State>} how */
  function finish(how) {
    stop();
    last = how;
    tell('closed');
  }

  return {
    start() {
      if (live || dialling || timer) return;
      attempt = 0;
      hurried = false;
      last = {};
      plan = 'retry';
      dial();
    },
    stop,
    wake() {
      if (live) watch.probe(live.send ? PROBE : COMMENTS);
      else if (timer && plan !== 'hint') later(Math.min(remaining(), Math.random() * 1000));
    },
    resync() {
      if (!live || dialling || (timer && plan === 'retry')) return;
      forgive();
      later(backoff(attempt++));
    },
  };
}
