/** @import { Query, QueryClient, QueryEvent, QueryKey } from './index.js' */

/**
 * Collects stale queries for a while and invalidates them by one call. Repeats changes of data that a running fetch would
 * undo.
 *
 * A query that is being fetched is invalidated after its fetch, because the answer may be older than the message. During
 * the fetch, TanStack would ignore the invalidation of a first fetch, and restart a later fetch with each message.
 *
 * @param {QueryClient} queryClient
 * @param {number} within ms
 * @param {() => import('../src/types.js').State['status']} status of the client. While it is `closed` nothing is invalidated until
 *   the next `add`, because another user may be logged in. A client that is `connecting` learns it soon.
 */
export function createStale(queryClient, within, status) {
  const cache = queryClient.getQueryCache();
  const /** @type {Map<string, QueryKey>} */ keys = new Map();
  const /** @type {Set<Query>} */ queries = new Set();
  const /** @type {Map<Query, ((data: any) => unknown)[]>} */ changes = new Map(); // made during a fetch
  let /** @type {ReturnType<typeof setTimeout> | undefined} */ timer;

  function flush() {
    timer = undefined;
    if (status() === 'closed') return;
    if (status() === 'connecting') return schedule();
    collect();
    const idle = new Set([...queries].filter((query) => !isFetching(query)));
    if (idle.size) void queryClient.invalidateQueries({ predicate: (query) => idle.has(query) });
    for (const query of idle) queries.delete(query);
    if (queries.size) schedule();
  }

  function schedule() {
    timer ??= setTimeout(flush, within);
  }

  function collect() {
    for (const queryKey of keys.values()) for (const query of cache.findAll({ queryKey })) queries.add(query);
    keys.clear();
  }

  /**
   * Repeats the changes before the data is shown, because the answer of a fetch may be older than they are. A fetch that begins
   * drops those of a cancelled one: its answer contains them. A removed query is forgotten, because it may never end its fetch.
   */
  const unsubscribe = cache.subscribe((/** @type {QueryEvent} */ { type, query, action }) => {
    if (type === 'removed') queries.delete(query);
    else if (type !== 'updated' || !['fetch', 'success', 'error'].includes(action?.type ?? '') || action?.manual) return;
    const updaters = changes.get(query);
    changes.delete(query);
    if (updaters && action?.type === 'success') {
      queryClient.setQueryData(query.queryKey, (data) => updaters.reduce((data, updater) => updater(data), data));
    }
  });

  return {
    /** @param {readonly QueryKey[]} stale the keys, or their beginnings */
    add(stale) {
      for (const key of stale) keys.set(JSON.stringify(key), key);
      schedule();
    },
    /** @param {readonly QueryKey[]} stale @param {(query: Query) => boolean} isFresh whether a query needs no other fetch */
    addExcept(stale, isFresh) {
      for (const queryKey of stale) for (const query of cache.findAll({ queryKey })) if (!isFresh(query)) queries.add(query);
      schedule();
    },
    /** @param {QueryKey} queryKey @param {(data: any) => unknown} updater */
    change(queryKey, updater) {
      for (const query of cache.findAll({ queryKey, exact: true })) {
        if (isFetching(query)) changes.set(query, [...(changes.get(query) ?? []), updater]);
      }
      queryClient.setQueryData(queryKey, (data) => (data === undefined ? data : updater(data)));
    },
    /** Stops, and marks the keys whose fetch is still due as stale. Returns these keys, for the next `bindQueries`. */
    end() {
      clearTimeout(timer);
      unsubscribe();
      collect();
      for (const query of changes.keys()) queries.add(query);
      if (queries.size) void queryClient.invalidateQueries({ predicate: (query) => queries.has(query), refetchType: 'none' });
      return [...queries].map(({ queryKey }) => queryKey);
    },
  };
}

const isFetching = (/** @type {Query} */ { state }) => state.fetchStatus === 'fetching';
