/** @import { Client, Update } from '../src/types.js' */
import { createStale } from './stale.js';

/** @typedef {readonly unknown[]} QueryKey */
/** @typedef {{queryKey: QueryKey, state: {fetchStatus: string}}} Query */
/** @typedef {{type: string, query: any, action?: {type: string, manual?: boolean}}} QueryEvent */

/**
 * What is needed of a `QueryClient`: that of TanStack Query 5 for any framework is one.
 *
 * @typedef {object} QueryClient
 * @property {(queryKey: QueryKey, updater: (data: any) => unknown) => unknown} setQueryData
 * @property {(filters: {predicate: (query: Query) => boolean, refetchType?: 'none'}) => Promise<void>} invalidateQueries
 * @property {() => {findAll: (filters: {queryKey: QueryKey, exact?: boolean}) => Query[], subscribe: (listener: (event: any) => void) => () => void}} getQueryCache
 */

/**
 * What a message does to the cache: `update` changes the data of one query, if there is any; `invalidate` names the
 * queries (or the beginnings of their keys) that are to be fetched again. An updater may get data that has the change
 * already, from a fetch that ran meanwhile: once more must change nothing.
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
 * queries under `queryKeys` are fetched again; not those whose fetch `afterConnect` has held back until then.
 *
 * @template {object} M
 * @param {Client<M>} client
 * @param {QueryClient} queryClient
 * @param {{[T in keyof M]?: Rule<M[T]>}} rules by the messages' type
 * @param {object} [options]
 * @param {readonly QueryKey[]} [options.queryKeys] of all that events keep fresh; every query if left out
 * @param {number} [options.within] ms that invalidations are collected for
 * @param {number} [options.jitter] ms, of which a random part passes between a restart of the bridge and the refetch: all users have that gap at once
 * @returns {() => void} unbinds
 */
export function bindQueries(client, queryClient, rules, { queryKeys = [[]], within = 50, jitter = 5_000 } = {}) {
  const stale = createStale(queryClient, within);
  let /** @type {ReturnType<typeof setTimeout> | undefined} */ timer;

  /** @param {Rule<any>} rule */
  const follow = ({ update, invalidate = [] }) => (/** @type {Update<string, any>} */ message) => {
    const change = update?.(message);
    if (change) stale.change(change.queryKey, change.updater);
    stale.add(typeof invalidate === 'function' ? invalidate(message) : invalidate);
  };

  function refetch() {
    timer = undefined;
    stale.add(queryKeys);
  }

  const before = unbound.get(queryClient);
  unbound.delete(queryClient);
  if (before?.position === client.position) stale.add(before.queryKeys);
  else if (client.position) stale.add(queryKeys); // connected before: events may have come since the data was fetched

  const offs = [
    ...Object.entries(rules).map(([type, rule]) => client.on(/** @type {any} */ (type), follow(rule))),
    client.on('gap', ({ reason }) => {
      if (reason === 'reset') timer ??= setTimeout(refetch, Math.random() * jitter);
      else refetch();
    }),
    client.on('connected', () => {
      const waiting = heldBack.get(client);
      if (!client.position) stale.addExcept(queryKeys, ({ queryKey }) => !!waiting?.has(JSON.stringify(queryKey))); // the first one
    }),
  ];
  return () => {
    for (const off of offs) off();
    if (timer) stale.add(queryKeys);
    clearTimeout(timer);
    unbound.set(queryClient, { position: client.position, queryKeys: stale.end() });
  };
}

const unbound = /** @type {WeakMap<QueryClient, {position: string, queryKeys: readonly QueryKey[]}>} */ (new WeakMap()); // what was not done yet
const heldBack = /** @type {WeakMap<Client<any>, Set<string>>} */ (new WeakMap()); // keys of queries that wait for the connection

/**
 * A `queryFn` that fetches once the client is connected, so that its data lacks no event and one fetch is enough. If the
 * connection takes longer than `patience` ms it fetches without, and `bindQueries` fetches again after the connection.
 *
 * @template {{queryKey: QueryKey}} C
 * @template T
 * @param {Client<any>} client
 * @param {(context: C) => T | Promise<T>} queryFn
 * @param {{patience?: number}} [options]
 * @returns {(context: C) => Promise<T>}
 */
export function afterConnect(client, queryFn, { patience = 3_000 } = {}) {
  return async (context) => {
    if (!client.position) await connectedFor(client, JSON.stringify(context.queryKey), patience);
    return queryFn(context);
  };
}

/** @param {Client<any>} client @param {string} key @param {number} patience */
async function connectedFor(client, key, patience) {
  const waiting = heldBack.get(client) ?? new Set();
  heldBack.set(client, waiting.add(key));
  await new Promise((resolve) => {
    const done = () => {
      off();
      clearTimeout(timer);
      resolve(undefined);
    };
    const off = client.on('connected', done), timer = setTimeout(done, patience);
  });
  waiting.delete(key); // after all handlers of `connected`
}
