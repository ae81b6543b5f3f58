import { StrictMode, memo, useEffect, useState, version } from 'react';
import { createRoot } from 'react-dom/client';
import { QueryClient, QueryClientProvider, useQuery } from '@tanstack/react-query';
import { createClient } from 'wsbridge-client';
import { bindQueries } from 'wsbridge-client/query';
import { ClientProvider, useConnectionState, useEvent } from 'wsbridge-client/react';

const { url, userId, rows } = Object.fromEntries(new URLSearchParams(location.search));
const client = createClient({ url, userId });
const other = createClient({ url, userId: `${userId}-other` });
const queryClient = new QueryClient({ defaultOptions: { queries: { staleTime: Infinity } } });

const fetchCount = async () => (await fetch('/count')).json();
const rules = {
  task_update: {
    update: ({ event }) => ({ queryKey: ['latest'], updater: () => event.n }),
    invalidate: [['count']],
  },
};

// What the test reads.
window.seen = []; // by the handler: the event's number, and of which render the handler was
window.effects = 0;
window.renders = 0; // of the list
window.client = client;
window.statuses = [];
client.on('state', ({ status }) => window.statuses.push(status));

function Tasks({ render }) {
  useEvent('task_update', ({ event }) => window.seen.push([event.n, render]));
  useEffect(() => void window.effects++, []);
  return <p>render <output id="render">{render}</output></p>;
}

const Row = memo(({ id, n }) => <li>task {id}: {n}</li>);

function List() {
  const [tasks, setTasks] = useState(() => Array(Number(rows)).fill(0));
  useEvent('task_update', ({ event: { n } }) => setTasks((tasks) => tasks.with(n % tasks.length, n)));
  window.renders++;
  return <ol>{tasks.map((n, id) => <Row key={id} id={id} n={n} />)}</ol>;
}

function Queries() {
  useEffect(() => bindQueries(client, queryClient, rules), []);
  const count = useQuery({ queryKey: ['count'], queryFn: fetchCount });
  const latest = useQuery({ queryKey: ['latest'], queryFn: () => 'none yet' });
  return <p><output id="count">{count.data}</output> tasks, the latest is <output id="latest">{latest.data}</output></p>;
}

function Connection() {
  const { status, transport } = useConnectionState();
  return <p>React {version}: <output id="status">{status}</output> <output id="transport">{transport}</output></p>;
}

function App() {
  const [mounted, setMounted] = useState(true);
  const [second, setSecond] = useState(false);
  const [user, setUser] = useState(client);
  const [render, setRender] = useState(1);
  return (
    <>
      <button onClick={() => setMounted(!mounted)}>{mounted ? 'Unmount' : 'Mount'}</button>
      <button onClick={() => setSecond(!second)}>{second ? 'Unmount the second' : 'Mount a second'}</button>
      <button onClick={() => setUser(other)}>Switch user</button>
      <button onClick={() => setRender(render + 1)}>Render</button>
      {mounted && (
        <ClientProvider client={user}>
          <Connection />
          <Tasks render={render} />
          {rows ? <List /> : <Queries />}
        </ClientProvider>
      )}
      {second && <ClientProvider client={client} />}
    </>
  );
}

createRoot(document.getElementById('root')).render(
  <StrictMode>
    <QueryClientProvider client={queryClient}>
      <App />
    </QueryClientProvider>
  </StrictMode>,
);
