/** @import { ConnectionHost } from './types.js' */

const LOST = 1006; // what a browser says where no close frame came
const SOCKETS = 3; // that fail in a row before a stream is tried

/**
 * Which transport is next: a socket, unless sockets do not come through.
 *
 * @param {Pick<ConnectionHost, 'canStream' | 'canSocket' | 'isBlocked' | 'remember'>} host
 */
export function createChoice({ canStream, canSocket, isBlocked, remember }) {
  let failed = isBlocked() ? SOCKETS : 0; // sockets in a row

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
        if (code === LOST) failed = SOCKETS - 1; // neither comes through: in turn from now on
      } else if (code !== LOST) failed = 0;
      else failed++;
    },
  };
}
