/** @import { Client, Options } from './types.js' */
import { createChoice } from './choice.js';
import { buildClient } from './core.js';
import { follow } from './follow.js';
import { createReceipts } from './receipts.js';
import { openStream } from './stream.js';
import { closeTabs, shareTabs } from './tabs.js';

/**
 * A client of the bridge: every event of a user, once, in order, over reconnects. See FRONTEND_INTEGRATION.md.
 *
 * @template {object} [M=Record<string, any>] message type → type of its `event`
 * @param {Options} options
 * @returns {Client<M>}
 */
export function createClient({ sse, ...options }) {
  const [, folder, query] = /^([^?#]*\/|)ws\/?(\?.*|)$/.exec(/** @type {string} */ (options.url)) ?? [];
  const beside = query !== undefined && `${folder}sse${query}`;
  return buildClient({ sse: sse ?? beside, ...options }, { sse: openStream, choice: createChoice, share: shareTabs, close: closeTabs, receipts: createReceipts });
}

export { follow };
