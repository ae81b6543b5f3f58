/** @import { Connection, ConnectionHost, Frame, LineEvents, Send, State, TokenReason } from './types.js' */
import { createChoice } from './choice.js';
import { reconnects, problemOf } from './closes.js';
import { failure } from './failure.js';
import { createWatch } from './watch.js';

const LOST = 1006; // the code of browsers for a close without a close frame
const DIAL_TIMEOUT = 10_000; // ms from asking for a token to `connected`
const STABLE = 5_000; // ms after which a connection counts as stable: delays after its end are short again
const PATIENCE = 3_000; // ms that a socket may take before a stream is tried beside it: some proxies swallow the upgrade
const UPGRADE = 10_000; // ms on a stream before a socket is tried beside it (an outage looks like a block); doubled each time
const SELDOM = 3_600_000; // the same, at most
const PROBE = 3_000; // ms for an answer after the user or the network has returned
const COMMENTS = 16_000; // the same on a stream, which cannot be pinged and sends a comment every 15 s
const EARLY = 60_000; // ms before a token expires at which a fresh one is fetched, at most
const REFRESH = 8; // refreshes are retried with the backoff of this attempt: about 2 s
const MAX_TIMER = 2 ** 31 - 1; // ms that a timer can wait

/**
 * A connection to the bridge that reconnects: transports, tokens, liveness, goodbyes. Positions are handled elsewhere.
 *
 * A line is one socket or one stream. The `live` line got `connected`. Of the lines that are being opened, the first one
 * to get `connected` becomes the live one and ends all others. The old live line stays open until then, so no update is
 * late. Two lines are opened at the same time only if none is live. Each line has a signal that ends it.
 *
 * @param {ConnectionHost} host
 * @returns {Connection}
 */
export function createConnection(host) {
  const { getToken, open, canStream, canSocket, backoff, receive, show } = host, choice = createChoice(host);
  /** @typedef {{isStream: boolean, upgrade: boolean, dialled?: boolean, send?: Send | void, goodbye?: Frame, abort: AbortController, deadline?: any, patience?: any}} Line */
  const /** @type {Set<Line>} */ dialling = new Set();
  let /** @type {Line | null} */ live = null;
  let attempt = 0, hurried = false, upgradeAfter = UPGRADE, openedAt = 0;
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
    hangUpDialled();
    const upgrade = plan === 'upgrade';
    const line = begin(choice.isStream(upgrade), upgrade);
    if (!live) tell('connecting');
    try {
      const token = await fetchToken(line);
      if (dialling.has(line)) run(line, token);
    } catch (error) {
      end(line, LOST, 'token', error);
    }
  }

  /** @param {boolean} isStream @param {boolean} [upgrade] */
  function begin(isStream, upgrade = false) {
    const line = /** @type {Line} */ ({ isStream, upgrade, abort: new AbortController() });
    dialling.add(line);
    line.deadline = setTimeout(end, DIAL_TIMEOUT, line, LOST, 'timeout');
    return line;
  }

  /** @param {Line} line @param {string | null | undefined} token */
  function run(line, token) {
    line.dialled = true;
    try {
      line.send = open(line.isStream, token, events(line), line.abort.signal);
      if (canStream && !line.isStream) line.patience = setTimeout(() => live || run(begin(true), token), PATIENCE);
    } catch (error) {
      end(line, LOST, '', error);
    }
  }

  /** @param {Line} line @returns {LineEvents} ignored once a newer line has replaced it */
  const events = (line) => ({
    frame: (frame) => isOurs(line) && take(line, frame),
    end: (code, reason, error) => end(line, code, reason, error),
  });

  /** @param {Line} line */
  const isOurs = (line) => line === live || dialling.has(line);

  /** @param {Line} line @param {Frame} frame */
  function take(line, frame) {
    const { type } = frame;
    if (type === 'connected') opened(line, frame);
    if (line === live) watch.alive();
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
    stopTimers(line);
    clearTimeout(timer);
    timer = 0;
    dialling.delete(line);
    hangUpDialled();
    hangUp(live);
    live = line;
    openedAt = Date.now();
    tokenReason = 'connect';
    watch.start(() => ping_interval_ms);
    refreshBefore(expires_in_ms);
    choice.opened(line.isStream);
    if (!line.isStream) upgradeAfter = UPGRADE;
    else if (canSocket) later(upgradeAfter, 'upgrade');
    tellOpen(line);
  }

  /** @param {Line} line @param {number} code @param {string} reason @param {unknown} [error] */
  function end(line, code, reason, error) {
    if (!isOurs(line)) return;
    hangUp(line);
    if (line.goodbye && code < 4000) ({ code, reason } = line.goodbye); // streams have no close frame, and some engines hide 1012 and 1013
    if (line === live) {
      live = null;
      watch.stop();
      clearTimeout(refreshTimer);
      forgive();
    } else {
      dialling.delete(line);
      if (line.dialled) choice.refused(line.isStream, code); // without a token, no transport was tried
    }
    last = { code, reason, error, problem: problemOf(code, reason) };
    if (!reconnects(code)) return finish(last);
    if (code === 4401) tokenReason = /** @type {TokenReason} */ (reason);
    comeBack(line, code);
  }

  /** After a stable connection, delays are short again. */
  function forgive() {
    if (Date.now() - openedAt < STABLE) return;
    attempt = 0;
    hurried = false;
  }

  /** @param {Line} line @param {number} code */
  function comeBack({ upgrade, goodbye }, code) {
    const hint = goodbye?.reconnect_after_ms;
    if (dialling.size) return live || tell('connecting');
    if (timer && plan !== 'upgrade') return later(remaining(), plan); // keep the time that a goodbye or an earlier failure set
    if (live && upgrade) return later((upgradeAfter = Math.min(2 * upgradeAfter, SELDOM)), 'upgrade');
    if ((code === 4401 || code === 4408) && !hurried) {
      hurried = true; // only once: a second refusal in a row waits
      return later(0);
    }
    later(hint || backoff(attempt++), hint ? 'hint' : 'retry');
  }

  const remaining = () => Math.max(0, retryAt - Date.now());

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
    const line = /** @type {Line} */ (live);
    if (!line.send) { // a stream cannot send a token: open another one with it
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
   * @param {Line} line is ended if there is no token
   * @param {TokenReason} [reason]
   * @throws the error of getToken; a ClientError if its result is not a token; the browser's own error would show the result
   */
  async function fetchToken(line, reason = tokenReason) {
    const token = await getToken?.({ reason, signal: line.abort.signal });
    if (token && /[^\w.-]/.test(token)) throw failure('bad_token', 'getToken gave something that is not a JWT');
    if (getToken && !token && isOurs(line)) finish({ reason: 'no_token', problem: 'needs-token' });
    return token;
  }

  /** @param {Line | null} line */
  function hangUp(line) {
    stopTimers(line);
    line?.abort.abort();
  }

  function hangUpDialled() {
    const lines = [...dialling];
    dialling.clear(); // first, because a socket may report its close at once
    lines.forEach(hangUp);
  }

  /** @param {Line | null} line */
  function stopTimers(line) {
    clearTimeout(line?.deadline);
    clearTimeout(line?.patience);
  }

  function stop() {
    clearTimeout(timer);
    timer = 0;
    watch.stop();
    clearTimeout(refreshTimer);
    hangUpDialled();
    const line = live;
    live = null;
    hangUp(line);
  }

  /** @param {Partial<State>} how */
  function finish(how) {
    stop();
    last = how;
    tell('closed');
  }

  return {
    start() {
      if (live || dialling.size || timer) return;
      attempt = 0;
      hurried = false;
      last = {};
      plan = 'retry';
      dial();
    },
    stop,
    wake(now) {
      if (live) watch.probe(live.send ? PROBE : COMMENTS);
      else if (timer && (now || plan !== 'hint')) later(now ? 0 : Math.min(remaining(), Math.random() * 1000));
    },
    resync() {
      if (!live || dialling.size || (timer && plan === 'retry')) return;
      forgive();
      later(backoff(attempt++));
    },
  };
}
