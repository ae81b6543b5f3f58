export { createClient, follow } from './src/client.js';

/**
 * The types for applications.
 *
 * @typedef {import('./src/types.js').BridgeError} BridgeError
 * @typedef {import('./src/types.js').ClientError} ClientError
 * @typedef {import('./src/types.js').Connected} Connected
 * @typedef {import('./src/types.js').Gap} Gap
 * @typedef {import('./src/types.js').Goodbye} Goodbye
 * @typedef {import('./src/types.js').Limits} Limits
 * @typedef {import('./src/types.js').Options} Options
 * @typedef {import('./src/types.js').State} State
 * @typedef {import('./src/types.js').TokenReason} TokenReason
 * @typedef {import('./src/types.js').TokenRequest} TokenRequest
 * @typedef {import('./src/types.js').Transport} Transport
 */

/**
 * @template {object} [M=Record<string, any>]
 * @typedef {import('./src/types.js').Client<M>} Client
 */

/**
 * @template {object} M
 * @template S
 * @typedef {import('./src/types.js').Follow<M, S>} Follow
 */

/**
 * @template {PropertyKey} K
 * @template E
 * @typedef {import('./src/types.js').Update<K, E>} Update
 */
