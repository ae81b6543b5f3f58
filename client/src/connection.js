/** @import { Connection, ConnectionHost, Frame, Link, LinkEvents, State, TokenReason } from './types.js' */
import { backoff } from './backoff.js';
import { comesBack } from './closes.js';
import { createWatch } from './watch.js';

const LOST = 1006; // what a browser says where no close frame came
const DIAL_TIMEOUT = 10_000; // ms from asking for a token to `connected`
const STABLE = 5_000; // ms after which a connection has been one: its end is followed by short delays again
const SOCKETS = 3; // that fail in a row before a stream is tried
const UPGRADE = 60_000; // ms on a stream before a socket is tried beside it; doubled each time
const PROBE = 3_000; // ms for an answer where the user or the network has just come back
const COMMENTS = 16_000; // the same on a stream, which cannot be asked and says something every 15 s
const EARLY = 60_000; // ms before the end of a token that a fresh one is fetched, at most
const MAX_TIMER = 2 ** 31 - 1; // ms that a timer can wait

/**
 * A connection to the bridge that comes back: transports, tokens, liveness, goodbyes. Knows nothing of positions.
 *
 * At most two links are there: the `live` one, which has said `connected`, and the one that is being dialled. If there
 * are both, the second succeeds the first, which stays until then: no dark moment.
 *
 * @param {ConnectionHost} host
 * @returns {Connection}
 */
export function createConnection({ getToken, openSocket, openStream, receive, show }) {
  /** @typedef {{transport: 'websocket' | 'sse', upgrade: boolean, link?: Link, goodbye?: Frame, abort: AbortController, deadline?: any}} Line */
  let /** @type {Line | null} */ live = null, /** @type {Line | null} */ dialling = null;
  let attempt = 0, hurried = false, failedSockets = 0, upgradeAfter = UPGRADE, openedAt = 0;
  let /** @type {any} */ timer, /** @type {any} */ refreshTimer, retryAt = 0;
  let /** @type {'retry' | 'hint' | 'upgrade'} */ plan = 'retry';
  let /** @type {TokenReason} */ tokenReason = 'connect';
  let /** @type {Partial<State>} */ last = {};

  const watch = createWatch(
    () => live?.link?.send?.({ type: 'ping' }),
    () => live && end(live, LOST, 'silent'),
  );

  /** @param {State['status']} status @param {Partial<State>} [more] */
  const tell = (status, more) => show({ status, attempt, ...last, ...more });

  /** @param {number} delay ms @param {typeof plan} [what] */
  function later(delay, what = 'retry') {
    clearTimeout(timer);
    plan = what;
    retryAt = Date.now() + delay;
    timer = setTimeout(dial, delay, what === 'upgrade');
    if (!live) tell('waiting', { delay, retryAt });
  }

  async function dial(upgrade = false) {
    clearTimeout(timer);
    timer = 0;
    if (dialling) hangUp(dialling);
    const open = openStream && !upgrade && failedSockets >= SOCKETS ? openStream : openSocket;
    /** @type {Line} */
    const line = { transport: open === openSocket ? 'websocket' : 'sse', upgrade, abort: new AbortController() };
    dialling = line;
    line.deadline = setTimeout(() => end(line, LOST, 'timeout'), DIAL_TIMEOUT);
    if (!live) tell('connecting');
    try {
      const token = await fetchToken(line);
      if (dialling !== line) return;
      if (getToken && !token) return finish({ reason: 'no_token' });
      line.link = open(token, events(line));
    } catch (error) {
      end(line, LOST, 'token', error);
    }
  }

  /** @param {Line} line @returns {LinkEvents} deaf once its successor is there */
  const events = (line) => ({
    frame: (frame) => isOurs(line) && take(line, frame),
    heard: () => line === live && watch.heard(),
    end: (code, reason) => end(line, code, reason),
  });

  /** @param {Line} line */
  const isOurs = (line) => line === live || line === dialling;

  /** @param {Line} line @param {Frame} frame */
  function take(line, frame) {
    if (frame.type === 'connected') opened(line, frame);
    watch.heard();
    if (frame.type === 'pong') return;
    if (frame.type === 'authenticated') return refreshIn(frame.expires_in_ms);
    if (frame.type === 'error' && frame.code === 'unavailable') refreshTimer = setTimeout(refresh, backoff(SOCKETS));
    if (frame.type === 'goodbye') {
      line.goodbye = frame;
      if (frame.reconnect && frame.close_after_ms) later(frame.reconnect_after_ms, 'hint');
    }
    receive(frame);
  }

  /** @param {Line} line @param {Frame} frame */
  function opened(line, { ping_interval_ms, expires_in_ms }) {
    clearTimeout(line.deadline);
    clearTimeout(timer);
    timer = 0;
    if (live) hangUp(live);
    live = line;
    dialling = null;
    openedAt = Date.now();
    tokenReason = 'connect';
    last = {};
    watch.start(ping_interval_ms);
    refreshIn(expires_in_ms);
    if (line.transport === 'sse') later(upgradeAfter, 'upgrade');
    else {
      failedSockets = 0;
      upgradeAfter = UPGRADE;
    }
    tell('open', { transport: line.transport });
  }

  /** @param {Line} line @param {number} code @param {string} reason @param {unknown} [error] */
  function end(line, code, reason, error) {
    if (!isOurs(line)) return;
    hangUp(line);
    if (line.transport === 'sse' && line.goodbye) ({ code, reason } = line.goodbye); // a stream has no close frame
    if (line === live) lost();
    else undialled(line, code);
    if (!comesBack(code)) return finish({ code, reason });
    if (code === 4401) tokenReason = /** @type {TokenReason} */ (reason);
    last = { code, reason, error };
    comeBack(line, code);
  }

  function lost() {
    live = null;
    watch.stop();
    clearTimeout(refreshTimer);
    if (Date.now() - openedAt >= STABLE) {
      attempt = 0;
      hurried = false;
    }
  }

  /** @param {Line} line @param {number} code */
  function undialled({ transport, upgrade }, code) {
    dialling = null;
    if (code !== LOST) failedSockets = transport === 'sse' ? failedSockets : 0;
    else if (transport === 'sse') failedSockets = SOCKETS - 1; // neither gets through: in turn from now on
    else if (!upgrade) failedSockets++;
  }

  /** @param {Line} line @param {number} code */
  function comeBack({ upgrade, goodbye }, code) {
    const hint = goodbye?.reconnect_after_ms;
    if (live && upgrade) return later((upgradeAfter *= 2), 'upgrade');
    if (dialling) return tell('connecting');
    if (timer && plan !== 'upgrade') return live || tell('waiting', { delay: Math.max(0, retryAt - Date.now()), retryAt });
    if ((code === 4401 || code === 4408) && !hurried) {
      hurried = true; // once: a second refusal in a row waits like any other
      return later(0);
    }
    later(hint || backoff(attempt++), hint ? 'hint' : 'retry');
  }

  /** @param {number | undefined} ms that the token lasts */
  function refreshIn(ms) {
    clearTimeout(refreshTimer);
    if (!getToken || ms === undefined) return;
    refreshTimer = setTimeout(refresh, Math.min(MAX_TIMER, ms - Math.min(EARLY, ms / 5)));
  }

  async function refresh() {
    const line = /** @type {Line} */ (live);
    tokenReason = 'refresh';
    if (!line.link?.send) return later(0); // a stream cannot take it: its successor brings it
    try {
      const token = await fetchToken(line);
      if (line !== live) return;
      if (!token) return finish({ reason: 'no_token' });
      line.link.send({ type: 'auth', token });
    } catch (error) {
      if (line !== live) return;
      refreshTimer = setTimeout(refresh, backoff(SOCKETS));
      tell('open', { transport: line.transport, error });
    }
  }

  /** @param {Line} line */
  const fetchToken = (line) => getToken?.({ reason: tokenReason, signal: line.abort.signal });

  /** @param {Line} line */
  function hangUp(line) {
    clearTimeout(line.deadline);
    line.abort.abort();
    line.link?.close();
  }

  function stop() {
    clearTimeout(timer);
    clearTimeout(refreshTimer);
    watch.stop();
    const lines = [live, dialling];
    live = dialling = null;
    timer = 0;
    for (const line of lines) line && hangUp(line);
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
      dial();
    },
    stop,
    wake() {
      if (live) watch.probe(live.link?.send ? PROBE : COMMENTS);
      else if (timer && plan !== 'hint') later(Math.min(retryAt - Date.now(), Math.random() * 1000));
    },
    resync() {
      if (live && !dialling && !(timer && plan === 'retry')) later(backoff(attempt++));
    },
  };
}
