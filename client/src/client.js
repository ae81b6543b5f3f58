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
export const createClient = (options) => buildClient(options, { openStream, shareTabs });
