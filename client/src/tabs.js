/** @import { Connect, Connection, Frame, State } from './types.js' */
import { distance } from './position.js';
import { createWatch } from './watch.js';

const VISIBLE = 2_000; // ms of silence after which a visible tab pings the leader
const HIDDEN = 25_000; // the same for a hidden tab
const ANSWER = 2_500; // ms for the answer: a tab with a stuck leader gets no updates for less than 5 s
const JOIN = 5_000; // the same for a tab that has just opened or returned: a loading page is busy

/**
 * One connection for all tabs of an origin and a user. The tab with the lock is the leader: it has the connection and
 * passes each frame on to the other tabs, which have their own positions. When it closes, the next tab gets the lock.
 *
 * @param {string} key of the lock and the channel
 * @param {Connect} connect
 * @param {(frame: Frame) => void} receive
 * @param {(state: State) => void} show
 * @param {() => string} position of this tab
 * @param {unknown} share if it is falsy, each tab has its own connection, and the channel is only for a close everywhere
 * @returns {Connection}
 */
export function shareTabs(key, connect, receive, show, position, share) {
  const me = Math.random(); // the address for answers
  let /** @type {BroadcastChannel | null} */ channel = null;
  let /** @type {Connection | null} */ connection = null; // while this tab is the leader
  let /** @type {AbortController | undefined} */ queue, /** @type {((value?: any) => void) | undefined} */ release;
  let /** @type {State} */ state, /** @type {Frame} */ hello;
  let oldest = ''; // the oldest position from which a tab needs missed updates
  let joined = ''; // last status of the leader's connection, once this tab, a follower, has got an answer

  const watch = createWatch(
    () => post({ ask: me }),
    () => (isHidden() ? watch.start(silence) : request(true)),
    ANSWER,
  );

  /** @param {object} message */
  const post = (message) => share && channel?.postMessage(message);

  function follow() {
    joined = '';
    request();
    watch.start(silence);
    post({ wake: 1 });
    watch.probe(JOIN);
    show({ status: 'connecting', attempt: 0 });
  }

  /** @param {boolean} [steal] from a silent leader: phones stop a tab without an event, and it keeps its lock */
  function request(steal) {
    queue?.abort();
    const place = (queue = new AbortController());
    const holding = () => place === queue && new Promise((resolve) => {
      release = resolve;
      lead();
    });
    navigator.locks.request(key, steal ? { steal } : { signal: place.signal }, holding).catch((error) => {
      if (place !== queue) return;
      if (error.name !== 'AbortError') return lead(); // there are no locks in this frame: use an own connection
      connection?.stop(); // another tab took the lock while this tab slept
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
        state = { ...next, error: next.error && String(next.error) }; // an error may not be cloneable
        if (next.status !== 'closed' || next.code) post({ state }); // other tabs may still have a token
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
        if (!(distance(resume, oldest) <= 0)) oldest = resume; // NaN: `oldest` is empty, or of another epoch
        connection.resync(0);
      }
      if (theirs?.status === 'closed') show(theirs); // another leader got a final close
    } else if ((theirs || frame) && (to ?? me) === me) {
      watch.alive();
      if (to && theirs?.status === joined) return; // only a sign of life, unless an old leader that woke up has sent another status
      if (theirs && (to || joined)) joined = theirs.status;
      const isBehind = to && frame && position() && !(distance(position(), frame.last_event_id) <= 0); // NaN: of another epoch
      if (isBehind) return receive(frame); // makes the leader resume from here, which shows `open`
      if (theirs) show({ ...theirs, transport: theirs.transport && 'tab' });
      if (frame) receive(position() ? frame : { ...frame, recovered: undefined }); // a tab without a position does not resume
    }
  }

  return {
    start() {
      if (channel || connection) return;
      try {
        channel = new BroadcastChannel(key);
      } catch {
        return lead(); // channels are missing or forbidden here: use an own connection
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
    send: (message) => connection?.send(message),
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
