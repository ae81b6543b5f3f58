/**
 * What a browser tells its pages: `wake` when the network or the user comes back, `suspend` before the page is frozen,
 * cached or gone, `restore` when it is back. Outside a browser nothing happens.
 *
 * @param {{wake: () => void, suspend: () => void, restore: () => void}} on
 * @returns {() => void} ends it
 */
export function watchPage({ wake, suspend, restore }) {
  const { window, document } = globalThis;
  const over = new AbortController();
  /** @type {[EventTarget, string, (event: any) => void][]} */
  const wanted = [
    [window, 'online', wake],
    [window, 'pagehide', suspend], // open connections and locks would keep it out of the back-forward cache
    [window, 'pageshow', ({ persisted }) => persisted && restore()],
    [document, 'visibilitychange', () => document.hidden || wake()],
    [document, 'freeze', suspend],
    [document, 'resume', restore],
  ];
  for (const [target, type, handler] of wanted) target?.addEventListener(type, handler, over);
  return () => over.abort();
}
