/** @import { Client } from './types.js' */

/**
 * Handlers by type. If one throws, the others still get the message; its error is reported like an uncaught one.
 *
 * @returns {{on: Client<any>['on'], emit: (type: string, detail: any, isOld?: () => boolean) => void}} `isOld`: the
 *   other handlers have got a newer detail, because a handler caused one
 */
export function createEmitter() {
  const handlers = /** @type {Map<string, Set<(detail: any) => void>>} */ (new Map());

  return {
    on(type, handler, { signal } = {}) {
      const calls = handlers.get(type) ?? new Set();
      const call = /** @param {any} detail */ (detail) => handler(detail); // a handler that is added twice is called twice
      const off = () => {
        calls.delete(call);
        signal?.removeEventListener('abort', off);
      };
      if (signal?.aborted) return off;
      handlers.set(type, calls.add(call));
      signal?.addEventListener('abort', off);
      return off;
    },
    emit(type, detail, isOld) {
      const calls = handlers.get(type) ?? new Set();
      for (const call of [...calls]) {
        try {
          if (calls.has(call) && !isOld?.()) call(detail); // another handler may have removed it
        } catch (error) {
          queueMicrotask(() => {
            throw error;
          });
        }
      }
    },
  };
}
