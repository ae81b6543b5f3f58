// An application in TypeScript: what must compile does, and what is wrong does not.

import { QueryClient } from '@tanstack/query-core';
import { createClient, type Client, type ClientError, type Gap, type State, type Update } from 'wsbridge-client';
import { bindQueries } from 'wsbridge-client/query';
import { ClientProvider, typedHooks, useClient, useConnectionState, useEvent } from 'wsbridge-client/react';

interface Task { task_id: string; title: string }
interface Messages { task_update: Task; order_update: { total: number } }
type AppClient = Client<Messages>;

const client: AppClient = createClient<Messages>({
  url: '/ws',
  userId: 'alice',
  getToken: async ({ reason, signal }) => {
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
client.settled('id').then((message) => message.type === 'gap');
export const codeOf = ({ code, docs }: ClientError) => [code === 'closed', docs.length];
const position: string = client.position;
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
