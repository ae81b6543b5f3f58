/** @import { Frame } from './types.js' */

/**
 * Updates, gaps and the first `connected` that `follow` has not brought to the page yet, each with the promise that it
 * has done so. A `settled` waits for it. The key is the frame itself, because each of a page's clients has its own.
 */
export const unshown = /** @type {WeakMap<Frame, Promise<unknown>>} */ (new WeakMap());
