/** @import { Client, Update } from '../src/types.js' */
import { failure } from '../src/failure.js';
import { createStale } from './stale.js';

/** @typedef {readonly unknown[]} QueryKey */
/** @typedef {{queryKey: QueryKey, state: {fetchStatus: string}}} Query */
/** @typedef {{queryKey: readonly any[], signal: AbortSignal, client?: any, meta?: any, pageParam?: any}} QueryContext */
/** @typedef {{type: string, query: any, action?: {type: string, manual?: boolean}}} QueryEvent */

/**
 * The used part of TanStack Query 5's `QueryClient`, for any framework.
 *
 * @typedef {object} QueryClient
 * @property {(queryKey: QueryKey, updater: (data: any) => unknown) => unknown} setQueryData
 * @property {(filters: {predicate: (query: Query) => boolean, refetchType?: 'none'}) => Promise<void>} invalidateQueries
 * @property {() => {findAll: (filters: {queryKey: QueryKey, exact?: boolean}) => Query[], subscribe: (listener: (event: any) => void) => () => void}} getQueryCache
 */

/**
 * The effect of a message on the cache: `update` changes the data of one query, if there is any; `invalidate` has the
 * keys (or their beginnings) of the queries to fetch again. An updater may get data that contains the change already,
 * from a fetch of the meantime, and must then change nothing.
 *
 * @template E
 * @template {PropertyKey} [K=string] the message type
 * @typedef {object} Rule
 * @property {(message: Update<K, E>) => {queryKey: QueryKey, updater: (data: any) => unknown} | undefined} [update]
 * @property {readonly QueryKey[] | ((message: Update<K, E>) => readonly QueryKey[])} [invalidate]
 */

/**
 * @template {object} M
 * @typedef {{[T in keyof M]?: Rule<M[T], T>}} Rules by message type
 */

/**
 * Keeps a query cache fresh with the messages of a client.
 *
 * The queries under `queryKeys` are fetched again after a gap, and after the first `connected`, because data from before
 * may lack an event. Queries whose fetch `afterConnect` has delayed until then are not fetched again. While the client is
 * closed no query is fetched again; what is due then follows after the next connection. While it connects, fetches wait.
 *
 * @template {object} M
 * @param {Client<M>} client
 * @param {QueryClient} queryClient
 * @param {Rules<M>} rules
 * @param {object} [options]
 * @param {readonly QueryKey[]} [options.queryKeys] of all queries that events keep fresh; every query by default
 * @param {number} [options.within] ms for which invalidations are collected
 * @param {number} [options.jitter] ms within which all pages fetch again after a restart of the bridge
 * @returns {() => void} unbinds
 */
export function bindQueries(client, queryClient, rules, { queryKeys = [[]], within = 50, jitter = 5_000 } = {}) {
  const stale = createStale(queryClient, within, () => client.state.status);
  let /** @type {ReturnType<typeof setTimeout> | undefined} */ timer;

  /** @param {Rule<any, any>} rule */
  const follow = ({ update, invalidate = [] }) => (/** @type {Update<any, any>} */ message) => {
    const change = update?.(message);
    if (change) stale.change(change.queryKey, change.updater);
    stale.add(typeof invalidate === 'function' ? invalidate(message) : invalidate);
  };

  function refetch() {
    timer = undefined;
    stale.add(queryKeys);
  }

  const slots = unbound.get(queryClient) ?? /** @type {Slots} */ (new Map()), slot = JSON.stringify(queryKeys);
  unbound.set(queryClient, slots);
  const before = slots.get(slot);
  slots.delete(slot);
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
      if (client.position) stale.add([]); // what was due while the client was closed
      else stale.addExcept(queryKeys, ({ queryKey }) => !!waiting?.has(JSON.stringify(queryKey))); // of the first connection
    }),
  ];
  return () => {
    for (const off of offs) off();
    if (timer) stale.add(queryKeys);
    clearTimeout(timer);
    const { position, queryKeys: others } = slots.get(slot) ?? { position: client.position, queryKeys: [] }; // of a bind with the same keys
    slots.set(slot, { position, queryKeys: [...others, ...stale.end()] });
  };
}

/** @typedef {Map<string, {position: string, queryKeys: readonly QueryKey[]}>} Slots by the `queryKeys` of a bind, in JSON: a page may have several binds */
const unbound = /** @type {WeakMap<QueryClient, Slots>} */ (new WeakMap()); // pending work of binds that ended
const heldBack = /** @type {WeakMap<Client<any>, Set<string>>} */ (new WeakMap()); // keys of queries that wait for the connection

/**
 * A `queryFn` that fetches once the client is connected, so that its data lacks no event and one fetch is enough. If the
 * connection takes longer than `patience` ms it fetches without, and `bindQueries` fetches again after the connection.
 * If the client is closed by then it throws a ClientError, because another user may be logged in. Only the problem
 * `misconfigured` says nothing about the user: then it fetches too.
 *
 * The result is also a `Function`, and its parameter is `NoInfer`, because TypeScript otherwise infers the data too late for
 * callbacks beside `queryFn`, such as `select`.
 *
 * @template T
 * @template [C=QueryContext]
 * @param {Client<any>} client
 * @param {(context: C) => T | Promise<T>} queryFn
 * @param {{patience?: number}} [options]
 * @returns {((context: NoInfer<C> & {queryKey: QueryKey}) => Promise<T>) & Function}
 */
export function afterConnect(client, queryFn, { patience = 3_000 } = {}) {
  return async (context) => {
    if (!client.position) await connectedFor(client, JSON.stringify(context.queryKey), patience);
    const { status, problem } = client.state;
    if (status === 'closed' && problem !== 'misconfigured') throw failure('closed', 'closed before the fetch');
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
