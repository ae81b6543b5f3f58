/** @import { Client, Options } from './types.js' */
import { buildClient } from './core.js';
import { openStream } from './stream.js';
import { shareTabs } from './tabs.js';

/**
 * A client of the bridge: every event of a user, once, in order, over reconnects. See FRONTEND_INTEGRATION.md.
 *
 * @template {object} [M=Record<string, any>] message type → what its `event` is
 * @param {Options} options
 * @returns {Client<M>}
 */
export function createClient({ sse, ...options }) {
  const { url, userId, share = true } = options;
  const address = String(url);
  const beside = address.endsWith('/ws') && `${address.slice(0, -2)}sse`;
  const canShare = share && userId && globalThis.navigator?.locks;
  return buildClient({ sse: sse ?? beside, ...options }, { openStream, shareTabs: !!canShare && shareTabs });
}
