/** @import { Connect, Connection, Frame, State } from './types.js' */
import { distance } from './position.js';
import { createWatch } from './watch.js';

const SILENCE = 25_000; // ms without a word of the leader before it is asked for one
const ANSWER = 5_000; // ms that it may take where this tab has just come, or come back

/**
 * One connection for all tabs of an origin and a user. Who holds the lock leads: it has the connection and passes on
 * what comes, to tabs that each have a position of their own. When it goes, the browser gives the lock to the next.
 *
 * @param {string} key of the lock and the channel
 * @param {Connect} connect
 * @param {(frame: Frame) => void} receive
 * @param {(state: State) => void} show
 * @param {() => string} position of this tab
 * @returns {Connection}
 */
export function shareTabs(key, connect, receive, show, position) {
  const me = Math.random(); // whom an answer is for
  let /** @type {BroadcastChannel | null} */ channel = null;
  let /** @type {Connection | null} */ connection = null; // while this tab leads
  let /** @type {AbortController | undefined} */ queue, /** @type {((value?: any) => void) | undefined} */ release;
  let /** @type {State} */ state, /** @type {Frame} */ hello;
  let oldest = ''; // where a tab that has missed something wants the connection to begin anew
  let joined = false; // whether this tab, which follows, was told where the connection is

  const watch = createWatch(
    () => post({ ask: me }),
    () => (globalThis.document?.hidden ? watch.start(SILENCE) : request(true)),
  );

  /** @param {object} message */
  const post = (message) => channel?.postMessage(message);

  function follow() {
    joined = false;
    request();
    watch.start(SILENCE);
    watch.probe(ANSWER);
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

  /** @param {{ask?: number, resume?: string, to?: number, frame?: Frame | false, state?: State}} message of another tab */
  function hear({ ask, resume, to, frame, state: theirs }) {
    if (connection) {
      if (ask) {
        connection.wake();
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
      follow();
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
    wake: () => (connection ? connection.wake() : channel && watch.probe(ANSWER)),
    resync: () => (connection ? connection.resync() : post({ resume: position() })),
  };
}
