import { LOST } from './closes.js';
import { quietly } from './quietly.js';

const SOCKETS = 3; // number that must fail in a row before a stream is tried
const UPGRADE = 10_000; // ms on a stream before a socket is tried beside it (an outage looks like a block); doubled each time
const HOUR = 3_600_000; // the same, at most
const QUIET = 300_000; // ms without sockets after one that got no answer; four times as long each time
const LONGEST = 4; // times that it grows: up to 21 hours

/**
 * Chooses the next transport: a socket, unless sockets are blocked.
 *
 * Firefox never ends the connection of an unanswered WebSocket handshake, not even when the page is closed: it waits for
 * the other side. While it has six of them to a host and port, it opens no other connection there, not even for a stream.
 * So all pages together must open few sockets that get no answer. They share what they know of the network in localStorage.
 *
 * @param {string} key of the item
 * @param {boolean} canSocket whether sockets may be tried at all
 */
export function createChoice(key, canSocket) {
  /** Whether a stream opened last, and not a socket; how many sockets got no answer; when the next one may be tried. */
  let network = { sse: false, silent: 0, retryAt: 0 };

  /** @returns {typeof network} what any page has found last */
  const recall = () => quietly(() => document && JSON.parse(localStorage[key])) ?? network;

  /** @param {Partial<typeof network>} news */
  function remember(news) {
    network = { ...recall(), ...news };
    quietly(() => document && (localStorage[key] = JSON.stringify(network)));
  }

  let failed = recall().sse ? SOCKETS : 0; // sockets that failed in a row

  /** ms until a socket may be tried */
  const quiet = () => (canSocket ? recall().retryAt - Date.now() : HOUR);

  /** Begins a quiet time. More than an hour after the last one this may be another network, so it is short again. */
  function beQuiet() {
    const silent = quiet() < -HOUR ? 0 : recall().silent;
    remember({ sse: true, silent: silent + 1, retryAt: Date.now() + QUIET * 4 ** Math.min(silent, LONGEST) });
  }

  return {
    /** @param {boolean} upgrade from a stream to a socket */
    isStream: (upgrade) => quiet() > 0 || (!upgrade && failed >= SOCKETS),
    /** ms on a stream before a socket is tried beside it */
    pause: () => Math.max(quiet(), Math.min(UPGRADE * 2 ** (failed - SOCKETS), HOUR)),
    /** @param {boolean} isStream @param {number} others transports that are still being opened: a socket, if a stream opened beside it */
    opened(isStream, others) {
      failed = isStream ? Math.max(failed, SOCKETS) : 0;
      if (isStream && others) beQuiet();
      else if (isStream !== recall().sse) remember({ sse: isStream });
    },
    /** @param {boolean} isStream @param {number} code @param {boolean} isSilent @param {boolean} [beside] a stream that is open */
    refused(isStream, code, isSilent, beside) {
      if (isStream) {
        if (code === LOST) failed = SOCKETS - 1; // both failed: try them in turn from now on
      } else {
        failed = code === LOST || beside ? failed + 1 : 0;
        if (isSilent && (beside || recall().silent)) beQuiet(); // not an outage: streams work in this network
      }
    },
  };
}
