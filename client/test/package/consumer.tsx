// An application in TypeScript: what must compile does, and what is wrong does not.

import { QueryClient, QueryObserver, type QueryFunctionContext } from '@tanstack/query-core';
import { infiniteQueryOptions, queryOptions, skipToken, useInfiniteQuery, useQuery } from '@tanstack/react-query';
import { createClient, follow, type Client, type ClientError, type Follow, type Gap, type State, type TokenRequest, type Update } from 'wsbridge-client';
import { afterConnect, bindQueries, type Rules } from 'wsbridge-client/query';
import { ClientProvider, typedHooks, useClient, useConnectionState, useEvent } from 'wsbridge-client/react';

interface Task { task_id: string; title: string }
interface Messages { task_update: Task; order_update: { total: number } }
type AppClient = Client<Messages>;

const client: AppClient = createClient<Messages>({
  url: '/ws',
  userId: 'alice',
  getToken: async ({ reason, signal }: TokenRequest) => {
    // @ts-expect-error no such reason
    if (reason === 'expired') return null;
    const response = await fetch('/token', { signal });
    return reason === 'token_invalid' ? null : response.text();
  },
  sse: false,
  share: false,
  resume: 'session',
  signal: AbortSignal.timeout(1_000),
  transports: ['sse'],
  backoff: { max: 5_000 },
  debug: (...line) => console.log(...line),
  WebSocket,
  fetch,
});

const anyClient: Client = client;
// @ts-expect-error it may have other messages
const typedClient: AppClient = anyClient;
console.log(typedClient);

const off: () => void = client.on('task_update', ({ event, id }) => console.log(event.title, id.length));
client.on('order_update', ({ event }) => event.total.toFixed(2), { signal: AbortSignal.timeout(1_000) });
client.on('gap', ({ after, last_event_id, reason }: Gap) => [after?.length, last_event_id.length, reason === 'trimmed']);
client.on('state', ({ status, attempt, retryAt }: State) => [status === 'waiting', attempt + 1, retryAt?.toFixed()]);
client.on('connected', ({ recovered, ping_interval_ms }) => [recovered === true, ping_interval_ms + 1]);
client.on('goodbye', ({ code }) => code + 1);
client.on('*', (message) => message.type);
client.connect();
client.close();
client.close({ everywhere: true });
client.ready({ timeout: 1_000 }).then(({ transport, problem }) => [transport === 'sse', problem === 'needs-token']);
client.settled('id').then((message) => ('event' in message ? message.event_id : message.type === 'gap' ? message.reason : message.recovered));
client.settled('id').then((message) => message.type === 'task_update' && message.event.title);
// @ts-expect-error it may be a gap or the first `connected`
client.settled('id').then(({ event }) => event);
export const codeOf = ({ code, docs }: ClientError) => [code === 'closed', docs.length];
const position: string = client.position + client.userId;
console.log(off, position, client.state.status === 'open');

export async function titles(): Promise<string[]> {
  const found = [];
  for await (const { event } of client.messages('task_update')) found.push(event.title);
  return found;
}

// @ts-expect-error no such message
client.on('task_updates', () => {});
// @ts-expect-error no such field
client.on('task_update', ({ event }) => event.total);
// @ts-expect-error no such status
client.on('state', ({ status }) => status === 'disconnected');
// @ts-expect-error no such transport
createClient({ url: '/ws', transports: ['polling'] });
// @ts-expect-error no such code
export const wrong = ({ code }: ClientError) => code === 'oops';
// @ts-expect-error a url is needed
createClient<Messages>({ userId: 'alice' });
// @ts-expect-error the state is the client's
client.state.status.push('open');

// Without a type of the messages, their events are anything.
createClient({ url: new URL('wss://example.com/ws') }).on('task_update', ({ event }) => event.anything);

const hooks = typedHooks<Messages>();

export function Titles() {
  hooks.useEvent('task_update', ({ event }) => console.log(event.title));
  // @ts-expect-error no such message
  hooks.useEvent('task_updates', () => {});
  // @ts-expect-error no such field
  hooks.useEvent('task_update', ({ event }) => event.total);
  useEvent('task_update', ({ event }) => console.log(event.anything));
  useEvent('gap', ({ reason }) => reason === 'reset');
  // @ts-expect-error no such reason
  useEvent('gap', ({ reason }) => reason === 'lost');
  const { status }: State = useConnectionState();
  return <p>{status} {hooks.useClient().position} {useClient().state.attempt}</p>;
}

export const app = <ClientProvider client={client}><Titles /></ClientProvider>;
// @ts-expect-error a client is needed
export const none = <ClientProvider><Titles /></ClientProvider>;

const unbind: () => void = bindQueries(client, new QueryClient(), {
  task_update: {
    update: ({ event }: Update<string, Task>) => ({ queryKey: ['task', event.task_id], updater: (task: Task) => ({ ...task, ...event }) }),
    invalidate: ({ event }) => [['tasks', event.title.length]],
  },
  order_update: { update: ({ event }) => (event.total ? { queryKey: ['total'], updater: () => event.total } : undefined), invalidate: [['orders']] },
}, { queryKeys: [['tasks']], within: 20, jitter: 1_000 });
console.log(unbind);

// @ts-expect-error no such message
bindQueries(client, new QueryClient(), { task_updates: { invalidate: [['tasks']] } });
// @ts-expect-error no such field
bindQueries(client, new QueryClient(), { task_update: { invalidate: ({ event }) => [['tasks', event.total]] } });
// @ts-expect-error a list of keys
bindQueries(client, new QueryClient(), { task_update: { invalidate: ['tasks'] } });

// Rules in an object of their own: with the types of the messages, of a handler, or of the part that is used.
const rules: Rules<Messages> = { task_update: { update: ({ event }) => ({ queryKey: ['task', event.task_id], updater: () => event }) } };
const handlers = { task_update: { invalidate: ({ event }: Update<'task_update', Task>) => [['task', event.task_id]] } };
const parts = { order_update: { invalidate: ({ event }: { event: { total: number } }) => [['total', event.total]] } };
for (const each of [rules, handlers, parts]) bindQueries(client, new QueryClient(), each);
// @ts-expect-error no such field
export const wrongRules: Rules<Messages> = { task_update: { invalidate: ({ event }) => [['tasks', event.total]] } };

// What `follow` does, in an object of its own.
const read = async (signal: AbortSignal): Promise<Task[]> => (await fetch('/tasks', { signal })).json();
const followed: Follow<Messages, Task[]> = { load: ({ signal }) => read(signal), set: (tasks) => tasks[0]?.title, apply: ({ type }) => type === 'task_update' };
follow(client, followed);
follow(client, { load: ({ signal }: { signal: AbortSignal }) => read(signal), apply: ({ event }: { event: object }) => console.log(event) });
follow(client, { load: ({ signal }) => read(signal), set: (tasks) => tasks[0]?.title, apply: (update) => update.type === 'task_update' && update.event.title });

// A query in a plain object, in `queryOptions` and in `useQuery`.
const plain = { queryKey: ['tasks'], queryFn: afterConnect(client, async ({ signal }) => read(signal)) };
const annotated = { queryKey: ['tasks'], queryFn: afterConnect(client, ({ signal }: { signal: AbortSignal }) => read(signal)) };
const named = { queryKey: ['tasks'], queryFn: afterConnect(client, ({ signal }: QueryFunctionContext) => read(signal), { patience: 1_000 }) };
const options = queryOptions({
  queryKey: ['tasks', 7],
  queryFn: afterConnect(client, async ({ client, meta, queryKey: [, id], signal }) => (client && meta?.none ? [] : (await read(signal)).slice(id))),
  select: (tasks) => tasks.length,
});
const paged = {
  queryKey: ['tasks'],
  queryFn: afterConnect(client, async ({ signal, pageParam }) => pageParam && read(signal)),
  initialPageParam: 1,
  getNextPageParam: (last: Task[], pages: Task[][]) => last.length && pages.length,
};
const pages = infiniteQueryOptions({ ...paged, queryFn: afterConnect(client, ({ signal }) => read(signal)), getNextPageParam: (last) => last.length });
const tuple = queryOptions({ queryKey: ['task', 7], queryFn: afterConnect(client, ({ queryKey: [, id] }: QueryFunctionContext<[string, number]>) => id + 1) });

export function Queries() {
  const lists: (Task[] | undefined)[] = [plain, annotated, named].map((query) => useQuery(query).data);
  const count: number | undefined = useQuery(options).data;
  const { data } = useQuery({ queryKey: ['tasks'], queryFn: afterConnect(client, async ({ signal }) => read(signal)) });
  const title: string | undefined = data?.[0]?.title;
  const first = useQuery({ queryKey: ['tasks'], queryFn: afterConnect(client, async ({ signal }) => read(signal)), select: ([task]) => task }).data;
  const maybe: Task[] | undefined = useQuery({ queryKey: ['tasks'], queryFn: count ? afterConnect(client, ({ signal }) => read(signal)) : skipToken }).data;
  const more: Task[][] | undefined = useInfiniteQuery(pages).data?.pages ?? useInfiniteQuery(paged).data?.pages;
  return <p>{lists.length} {title} {first?.title} {maybe?.length} {more?.length} {useQuery(tuple).data?.toFixed()}</p>;
}

export const observed: Task[] | undefined = new QueryObserver(new QueryClient(), plain).getCurrentResult().data;
export const fetched: Promise<Task[]> = new QueryClient().fetchQuery(plain);
// @ts-expect-error no such field
afterConnect(client, ({ sygnal }) => sygnal);
// @ts-expect-error the data is not a number
new QueryObserver(new QueryClient(), plain).getCurrentResult().data?.toFixed();
