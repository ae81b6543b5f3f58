// A backend to try pages with: alice's tasks, in memory, and the files of the folder in which it is started.

import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join } from 'node:path';
import { json } from 'node:stream/consumers';

const { PORT = '3000', BRIDGE = 'http://localhost:8004', APP_API_TOKEN = '' } = process.env;
const TYPES = { '.css': 'text/css', '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.svg': 'image/svg+xml' };

const tasks = new Map();

/** Posts the event to the bridge, as a Dapr sidecar would. Returns what a page needs for `settled`. */
async function publish(event_type, task, id = randomUUID()) {
  const data = { ...task, event_type, user_id: 'alice' };
  const event = { specversion: '1.0', id, source: 'tasks-page', type: event_type, data };
  const headers = { 'Content-Type': 'application/cloudevents+json', 'dapr-api-token': APP_API_TOKEN };
  const response = await fetch(`${BRIDGE}/events/task-updates`, { method: 'POST', headers, body: JSON.stringify(event) });
  const { status } = await response.json();
  if (status !== 'SUCCESS') throw new Error(`the bridge answered ${response.status} ${status}`);
  return { eventId: event.id };
}

/** A request that is sent again changes nothing and has the same answer. The bridge drops its event, unless the first was lost. */
function add(task) {
  if (!tasks.has(task.task_id)) tasks.set(task.task_id, task);
  return publish('task.created', tasks.get(task.task_id), `${task.task_id}-created`);
}

function update(task) {
  tasks.set(task.task_id, task);
  return publish('task.updated', task);
}

/** `METHOD` or `METHOD ID`, for /api/tasks and /api/tasks/ID. Each returns the answer's JSON; undefined is a 404. */
const routes = {
  'GET': () => [...tasks.values()],
  'POST': async (_, request) => add({ task_id: randomUUID(), ...(await json(request)) }),
  'PATCH ID': async (task_id, request) => {
    const task = tasks.get(task_id);
    return task && update({ ...task, ...(await json(request)), task_id });
  },
  'DELETE ID': (task_id) => (tasks.delete(task_id) ? publish('task.deleted', { task_id }) : undefined),
};

async function answer(request, response) {
  const { pathname, searchParams } = new URL(request.url, 'http://localhost');
  const [, isApi, id] = /^(\/api\/tasks)(?:\/([\w-]+))?$/.exec(pathname) ?? [];
  if (!isApi) {
    const name = pathname === '/' ? '/index.html' : pathname;
    return response.setHeader('Content-Type', TYPES[extname(name)] ?? 'text/plain').end(await readFile(join(process.cwd(), name)));
  }
  if ((searchParams.get('user') ?? 'alice') !== 'alice') return response.writeHead(403).end(); // the page is another user's
  const found = await routes[id ? `${request.method} ID` : request.method]?.(id, request);
  response.writeHead(found ? 200 : 404, { 'Content-Type': 'application/json' }).end(JSON.stringify(found ?? null));
}

createServer((request, response) => {
  answer(request, response).catch((error) => {
    if (error.code !== 'ENOENT') console.error(error.cause ?? error); // for example: no bridge is running
    response.writeHead(error.code === 'ENOENT' ? 404 : 500).end();
  });
}).listen(Number(PORT), '127.0.0.1', () => console.log(`http://localhost:${PORT}/`));
