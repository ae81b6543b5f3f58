/** @import { Client, Update } from '../src/types.js' */
import { createStale } from './stale.js';

/** @typedef {readonly unknown[]} QueryKey */
/** @typedef {{queryKey: QueryKey, state: {fetchStatus: string}}} Query */

/**
 * What is needed of a `QueryClient`: that of TanStack Query 5 for any framework is one.
 *
 * @typedef {object} QueryClient
 * @property {(queryKey: QueryKey, updater: (data: any) => unknown) => unknown} setQueryData
 * @property {(filters: {predicate: (query: Query) => boolean}) => Promise<void>} invalidateQueries
 * @property {() => {findAll: (filters: {queryKey: QueryKey, exact?: boolean}) => Query[]}} getQueryCache
 */

/**
 * What a message does to the cache: `update` changes the data of one query, if there is any; `invalidate` names the
 * queries (or the beginnings of their keys) that are to be fetched again.
 *
 * @template E
 * @typedef {object} Rule
 * @property {(message: Update<string, E>) => {queryKey: QueryKey, updater: (data: any) => unknown} | undefined} [update]
 * @property {readonly QueryKey[] | ((message: Update<string, E>) => readonly QueryKey[])} [invalidate]
 */

/**
 * Let a client's messages keep a query cache fresh.
 *
 * After a gap, and after the first `connected` (what was fetched before may lack an event that came in between), the
 * queries under `queryKeys` are fetched again.
 *
 * @template {object} M
 * @param {Client<M>} client
 * @param {QueryClient} queryClient
 * @param {{[T in keyof M]?: Rule<M[T]>}} rules by the messages' type
 * @param {object} [options]
 * @param {readonly QueryKey[]} [options.queryKeys] of all that events keep fresh; every query if left out
 * @param {number} [options.within] ms that invalidations are collected for
 * @param {number} [options.jitter] ms, of which a random part passes between a gap and the refetch: all users may have it at once
 * @returns {() => void} unbinds
 */
export function bindQueries(client, queryClient, rules, { queryKeys = [[]], within = 50, jitter = 5_000 } = {}) {
  const stale = createStale(queryClient, within);
  let /** @type {ReturnType<typeof setTimeout> | undefined} */ timer;

  /** @param {Rule<any>} rule */
  const follow = ({ update, invalidate = [] }) => (/** @type {Update<string, any>} */ message) => {
    const change = update?.(message);
    if (change) {
      const { queryKey, updater } = change;
      queryClient.setQueryData(queryKey, (data) => (data === undefined ? data : updater(data)));
      stale.changed(queryKey);
    }
    stale.add(typeof invalidate === 'function' ? invalidate(message) : invalidate);
  };

  function mend() {
    timer = undefined;
    stale.add(queryKeys);
  }

  const offs = [
    ...Object.entries(rules).map(([type, rule]) => client.on(/** @type {any} */ (type), follow(rule))),
    client.on('gap', () => void (timer ??= setTimeout(mend, Math.random() * jitter))),
    client.on('connected', () => client.position || stale.add(queryKeys)), // none yet: the first one
  ];
  return () => {
    for (const off of offs) off();
    clearTimeout(timer);
    stale.end();
  };
}
