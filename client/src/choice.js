/** @import { ConnectionHost } from './types.js' */

const LOST = 1006; // the code of browsers for a close without a close frame
const SOCKETS = 3; // number that must fail in a row before a stream is tried

/**
 * Chooses the next transport: a socket, unless sockets are blocked.
 *
 * @param {Pick<ConnectionHost, 'canStream' | 'canSocket' | 'isBlocked' | 'remember'>} host
 */
export function createChoice({ canStream, canSocket, isBlocked, remember }) {
  let failed = isBlocked() ? SOCKETS : 0; // sockets that failed in a row

  return {
    /** @param {boolean} upgrade from a stream to a socket */
    isStream: (upgrade) => canStream && (!canSocket || (!upgrade && failed >= SOCKETS)),
    /** @param {boolean} isStream */
    opened(isStream) {
      failed = isStream ? SOCKETS : 0;
      remember(isStream);
    },
    /** @param {boolean} isStream @param {number} code */
    refused(isStream, code) {
      if (isStream) {
        if (code === LOST) failed = SOCKETS - 1; // both failed: try them in turn from now on
      } else if (code !== LOST) failed = 0;
      else failed++;
    },
  };
}
