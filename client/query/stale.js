/** @import { Query, QueryClient, QueryKey } from './index.js' */

/**
 * Queries that became stale, collected for a while and then invalidated by one call.
 *
 * One that is being fetched is invalidated when its fetch is over. The answer may be older than the message; TanStack
 * would ignore the invalidation of a first fetch, and a later fetch that each message cut off would never end.
 *
 * @param {QueryClient} queryClient
 * @param {number} within ms
 */
export function createStale(queryClient, within) {
  const cache = queryClient.getQueryCache();
  const /** @type {Map<string, QueryKey>} */ keys = new Map();
  const /** @type {Set<Query>} */ queries = new Set();
  let /** @type {ReturnType<typeof setTimeout> | undefined} */ timer;

  function flush() {
    timer = undefined;
    for (const queryKey of keys.values()) addAll(cache.findAll({ queryKey }));
    keys.clear();
    const idle = new Set([...queries].filter((query) => !isFetching(query)));
    if (idle.size) void queryClient.invalidateQueries({ predicate: (query) => idle.has(query) });
    for (const query of idle) queries.delete(query);
    if (queries.size) schedule();
  }

  function schedule() {
    timer ??= setTimeout(flush, within);
  }

  const addAll = (/** @type {Query[]} */ found) => found.forEach((query) => queries.add(query));

  return {
    /** @param {readonly QueryKey[]} stale the keys, or their beginnings */
    add(stale) {
      for (const key of stale) keys.set(JSON.stringify(key), key);
      schedule();
    },
    /** @param {QueryKey} queryKey of data that was changed here: the answer to a fetch that runs would undo that */
    changed(queryKey) {
      addAll(cache.findAll({ queryKey, exact: true }).filter(isFetching));
      if (queries.size) schedule();
    },
    end: () => clearTimeout(timer),
  };
}

const isFetching = (/** @type {Query} */ { state }) => state.fetchStatus === 'fetching';
