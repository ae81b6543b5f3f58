/** @import { Connection } from './types.js' */

/**
 * Follows the events of a page: `wake` when the network or the user returns, `hide` when the user leaves, `stop` before the page is frozen, cached or
 * closed, `start` when it continues. Outside a browser nothing happens.
 *
 * @param {Pick<Connection, 'start' | 'stop' | 'wake'> & {hide?: () => void}} connection
 * @returns {() => void} ends it
 */
export function watchPage({ start, stop, wake, hide }) {
  const { window, document } = globalThis;
  const over = new AbortController();
  /** @type {[EventTarget, string, (event: any) => void][]} */
  const wanted = [
    [window, 'online', () => wake()],
    [window, 'pagehide', stop], // open connections and locks would keep it out of the back-forward cache
    [window, 'pageshow', start], // the first one, after a load, changes nothing
    [document, 'visibilitychange', () => (document.hidden ? hide?.() : wake())],
    [document, 'freeze', stop],
    [document, 'resume', start],
  ];
  for (const [target, type, handler] of wanted) target?.addEventListener?.(type, handler, over); // React Native has a bare window
  return () => over.abort();
}
