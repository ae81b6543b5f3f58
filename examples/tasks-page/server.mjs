// A backend to try pages with: the tasks of each user, in memory, and the files of the folder in which it is started.
// With LOGIN=1 users log in, otherwise each request is alice's.

import { createHmac, randomBytes, randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join } from 'node:path';
import { json, text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';

const { PORT = '3000', BRIDGE = 'http://localhost:8004', LOGIN, APP_API_TOKEN = '', WSBRIDGE_JWT_SECRET: KEY } = process.env;
const TYPES = { '.css': 'text/css', '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.svg': 'image/svg+xml' };
const JSON_TYPE = { 'Content-Type': 'application/json' };
const LIFETIME = 600; // seconds of a token

const sessions = new Map(); // session → user
const tasksOf = new Map(); // user → task_id → task

const sessionOf = ({ headers }) => /(?:^|; )session=([^;]*)/.exec(headers.cookie ?? '')?.[1];
const userOf = (request) => (LOGIN ? sessions.get(sessionOf(request)) : 'alice');

function tasksFor(user) {
  if (!tasksOf.has(user)) tasksOf.set(user, new Map());
  return tasksOf.get(user);
}

let last = Promise.resolve(); // the delivery of the last event

/** Has the event delivered, after those before it. Returns what a page needs for `settled`. */
function publish(user_id, event_type, task, id = randomUUID()) {
  const event = { specversion: '1.0', id, source: 'tasks-page', type: event_type, data: { ...task, event_type, user_id } };
  last = last.then(() => deliver(event));
  return { eventId: id };
}

/** Posts the event to the bridge, as a Dapr sidecar would: again and again, until the bridge has it. */
async function deliver(event) {
  for (let said; ; await sleep(500)) {
    const [status, answer] = await post(event);
    if (status === 'SUCCESS') return;
    if (said !== answer) console.error(`${event.type} was not delivered: ${answer}`);
    if (status === 'DROP') return; // the bridge can never accept it
    said = answer;
  }
}

/** Resolves with the status in the bridge's answer, and with the answer in words. */
async function post(event) {
  const headers = { 'Content-Type': 'application/cloudevents+json', 'dapr-api-token': APP_API_TOKEN };
  try {
    const response = await fetch(`${BRIDGE}/events/task-updates`, { method: 'POST', headers, body: JSON.stringify(event) });
    const answer = await response.text();
    return [response.ok && JSON.parse(answer).status, `the bridge answered ${response.status} ${answer}`];
  } catch (error) {
    return ['', `no bridge at ${BRIDGE}: ${error.cause?.message ?? error.message}`];
  }
}

/** A request that is sent again changes nothing and has the same answer. The bridge drops its event as a duplicate. */
function add(user, task) {
  const tasks = tasksFor(user);
  if (!tasks.has(task.task_id)) tasks.set(task.task_id, task);
  return publish(user, 'task.created', tasks.get(task.task_id), `${user}-${task.task_id}-created`);
}

function update(user, task) {
  tasksFor(user).set(task.task_id, task);
  return publish(user, 'task.updated', task);
}

/** `METHOD` or `METHOD ID`, for /api/tasks and /api/tasks/ID. Each returns the answer's JSON; undefined is a 404. */
const api = {
  'GET': (user) => [...tasksFor(user).values()],
  'POST': async (user, _, request) => add(user, { task_id: randomUUID(), ...(await json(request)) }),
  'PATCH ID': async (user, task_id, request) => {
    const changes = await json(request);
    const task = tasksFor(user).get(task_id);
    return task && update(user, { ...task, ...changes, task_id });
  },
  'DELETE ID': (user, task_id) => (tasksFor(user).delete(task_id) ? publish(user, 'task.deleted', { task_id }) : undefined),
};

async function askApi(request, { searchParams }, id) {
  const user = userOf(request);
  if (!user) return [401];
  if ((searchParams.get('user') ?? user) !== user) return [403]; // the page is another user's
  const found = await api[id ? `${request.method} ID` : request.method]?.(user, id, request);
  return found ? [200, JSON.stringify(found), JSON_TYPE] : [404];
}

function sign(claims) {
  const [head, body] = [{ alg: 'HS256', typ: 'JWT' }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'));
  return `${head}.${body}.${createHmac('sha256', KEY).update(`${head}.${body}`).digest('base64url')}`;
}

/** Each returns a status, a body and headers. examples/login has the same routes in other languages. */
const login = {
  'GET /me': (request) => (userOf(request) ? [200, userOf(request)] : [401]),
  'POST /login': async (request) => {
    const name = new URLSearchParams(await text(request)).get('name') ?? '';
    if (!/^[\w.-]{1,64}$/.test(name)) return [400];
    const session = randomBytes(32).toString('base64url');
    sessions.set(session, name); // a real login checks a password before
    return [204, '', { 'Set-Cookie': `session=${session}; Path=/; HttpOnly; SameSite=Lax` }]; // with HTTPS also Secure
  },
  'POST /logout': (request) => {
    sessions.delete(sessionOf(request));
    return [204];
  },
  'POST /token': (request) => {
    if (!KEY) return [404]; // the bridge needs no token either
    return userOf(request) ? [200, sign({ sub: userOf(request), exp: Math.floor(Date.now() / 1000) + LIFETIME })] : [401];
  },
};

async function file(pathname) {
  const name = pathname === '/' ? '/index.html' : pathname;
  return [200, await readFile(join(process.cwd(), name)), { 'Content-Type': TYPES[extname(name)] ?? 'text/plain' }];
}

function respond(request) {
  const url = new URL(request.url, 'http://localhost');
  const [, isApi, id] = /^(\/api\/tasks)(?:\/([\w-]+))?$/.exec(url.pathname) ?? [];
  if (isApi) return askApi(request, url, id);
  const route = LOGIN && login[`${request.method} ${url.pathname}`];
  return route ? route(request) : file(url.pathname);
}

async function answer(request, response) {
  const [status, body = '', headers] = await respond(request);
  response.writeHead(status, { 'Cache-Control': 'no-store', ...headers }).end(body);
}

createServer((request, response) => {
  answer(request, response).catch((error) => {
    if (error.code !== 'ENOENT') console.error(error);
    response.writeHead(error.code === 'ENOENT' ? 404 : 500).end();
  });
}).listen(Number(PORT), '127.0.0.1', () => {
  const url = `http://localhost:${PORT}`;
  console.log(existsSync('index.html') ? `${url}/` : `${url}/api/tasks (no page: this folder has no index.html)`);
});
