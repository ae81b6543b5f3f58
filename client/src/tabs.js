/** @import { Connect, Connection, Frame, State } from './types.js' */
import { distance } from './position.js';
import { createWatch } from './watch.js';

const VISIBLE = 2_000; // ms without a word of the leader before it is asked for one, by a tab that is seen
const HIDDEN = 25_000; // and by another one
const ANSWER = 2_500; // ms that the answer may take: a tab behind a leader that is stuck is deaf for less than 5 s
const JOIN = 5_000; // the same where this tab has just come, or come back: a page that loads is busy

/**
 * One connection for all tabs of an origin and a user. Who holds the lock leads: it has the connection and passes on
 * what comes, to tabs that each have a position of their own. When it goes, the browser gives the lock to the next.
 *
 * @param {string} key of the lock and the channel
 * @param {Connect} connect
 * @param {(frame: Frame) => void} receive
 * @param {(state: State) => void} show
 * @param {() => string} position of this tab
 * @param {{share: unknown, remember: (isStream: boolean) => void}} how without `share` each tab has its own connection, and the
 *   channel is only for a close everywhere
 * @returns {Connection}
 */
export function shareTabs(key, connect, receive, show, position, { share, remember }) {
  const me = Math.random(); // whom an answer is for
  let /** @type {BroadcastChannel | null} */ channel = null;
  let /** @type {Connection | null} */ connection = null; // while this tab leads
  let /** @type {AbortController | undefined} */ queue, /** @type {((value?: any) => void) | undefined} */ release;
  let /** @type {State} */ state, /** @type {Frame} */ hello;
  let oldest = ''; // where a tab that has missed something wants the connection to begin anew
  let joined = false; // whether this tab, which follows, was told where the connection is

  const watch = createWatch(
    () => post({ ask: me }),
    () => (isHidden() ? watch.start(silence) : request(true)),
    ANSWER,
  );

  /** @param {object} message */
  const post = (message) => share && channel?.postMessage(message);

  function follow() {
    joined = false;
    request();
    watch.start(silence);
    post({ wake: 1 });
    watch.probe(JOIN);
    show({ status: 'connecting', attempt: 0 });
  }

  /** @param {boolean} [steal] from a leader that says nothing: phones stop a tab without a word, and it keeps its lock */
  function request(steal) {
    queue?.abort();
    const place = (queue = new AbortController());
    const holding = () => place === queue && new Promise((resolve) => {
      release = resolve;
      lead();
    });
    navigator.locks.request(key, steal ? { steal } : { signal: place.signal }, holding).catch((error) => {
      if (place !== queue) return;
      if (error.name !== 'AbortError') return lead(); // no locks in this frame: a connection of its own
      connection?.stop(); // it was stolen while this tab slept
      connection = null;
      follow();
    });
  }

  function lead() {
    watch.stop();
    connection = connect(
      (frame) => {
        if (frame.type === 'connected') {
          hello = frame;
          oldest = '';
        }
        post({ frame });
        receive(frame);
      },
      (next) => {
        state = { ...next, error: next.error && String(next.error) }; // what was thrown may be nothing to send
        if (next.status !== 'closed' || next.code) post({ state }); // a tab that has no token is alone with that
        show(next);
      },
      () => oldest || position(),
    );
    connection.start();
  }

  /** @param {{ask?: number, wake?: number, resume?: string, to?: number, frame?: Frame | false, state?: State, close?: boolean}} message of another tab */
  function hear({ ask, wake, resume, to, frame, state: theirs, close }) {
    if (close) show({ status: 'closed', attempt: 0, reason: 'closed_everywhere' });
    else if (!share) return;
    else if (connection) {
      if (wake) connection.wake(wake > 1);
      if (ask) {
        post({ to: ask, state, frame: state.status === 'open' && { ...hello, recovered: true, last_event_id: position() } });
      }
      if (resume) {
        if (!(distance(resume, oldest) <= 0)) oldest = resume; // NaN: there was none, or of another epoch
        connection.resync();
      }
      if (theirs?.status === 'closed') show(theirs); // for good, as another leader has found
    } else if ((theirs || frame) && (to ?? me) === me) {
      watch.heard();
      if (to) {
        if (joined) return; // a sign of life, no more
        joined = true;
      }
      if (theirs?.transport) remember(theirs.transport === 'sse');
      if (theirs) show({ ...theirs, transport: theirs.transport && 'tab' });
      if (frame) receive(position() ? frame : { ...frame, recovered: undefined }); // who begins here resumes nothing
    }
  }

  return {
    start() {
      if (channel || connection) return;
      try {
        channel = new BroadcastChannel(key);
      } catch {
        return lead(); // there is none, or it is forbidden here, as cookies are: a connection of its own
      }
      channel.onmessage = ({ data }) => hear(data);
      if (share) follow();
      else lead();
    },
    stop() {
      watch.stop();
      connection?.stop();
      connection = null;
      channel?.close();
      channel = null;
      queue?.abort();
      queue = undefined;
      release?.();
    },
    wake(now) {
      if (connection) return connection.wake(now);
      post({ wake: now ? 2 : 1 });
      if (channel) watch.probe(JOIN);
    },
    resync: () => (connection ? connection.resync() : post({ resume: position() })),
  };
}

const isHidden = () => globalThis.document?.hidden;
const silence = () => (isHidden() ? HIDDEN : VISIBLE);

/**
 * Closes the clients in all tabs, whether they share a connection or not.
 *
 * @param {string} key
 */
export function closeTabs(key) {
  const channel = new BroadcastChannel(key);
  channel.postMessage({ close: true });
  channel.close();
}
