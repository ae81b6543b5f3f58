// A login with sessions, and the token endpoint for the bridge. login.py and Login.java do the same.

import { createHmac, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';

const { PORT = '3000', BRIDGE = 'http://localhost:8004', WSBRIDGE_JWT_SECRET: KEY } = process.env;
const PAGE = readFileSync(new URL('index.html', import.meta.url), 'utf8').replaceAll('{{BRIDGE}}', BRIDGE);
const LIFETIME = 600; // seconds of a token

const sessions = new Map(); // session → user

const sessionOf = ({ headers }) => /(?:^|; )session=([^;]*)/.exec(headers.cookie ?? '')?.[1];

function sign(claims) {
  const [head, body] = [{ alg: 'HS256', typ: 'JWT' }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'));
  return `${head}.${body}.${createHmac('sha256', KEY).update(`${head}.${body}`).digest('base64url')}`;
}

/** Each returns a status, a body and headers. `user` is undefined if nobody is logged in. */
const routes = {
  'GET /': () => [200, PAGE, { 'Content-Type': 'text/html; charset=utf-8' }],
  'GET /me': (_, user) => (user ? [200, user] : [401]),
  'GET /tasks': ({ url }, user) => {
    if (!user) return [401];
    if (new URLSearchParams(url.split('?')[1]).get('user') !== user) return [403]; // a page of another user
    return [200, JSON.stringify([{ task_id: '1', title: `A task of ${user}` }]), { 'Content-Type': 'application/json' }];
  },
  'POST /login': async (request) => {
    const name = new URLSearchParams(await text(request)).get('name') ?? '';
    if (!/^[\w.-]{1,64}$/.test(name)) return [400];
    const session = randomBytes(32).toString('base64url');
    sessions.set(session, name); // a real login checks a password before
    return [204, '', { 'Set-Cookie': `session=${session}; Path=/; HttpOnly; SameSite=Lax` }]; // with HTTPS also Secure
  },
  'POST /token': (_, user) => (user ? [200, sign({ sub: user, exp: Math.floor(Date.now() / 1000) + LIFETIME })] : [401]),
  'POST /logout': (request) => {
    sessions.delete(sessionOf(request));
    return [204];
  },
};

async function answer(request, response) {
  const route = routes[`${request.method} ${request.url.split('?')[0]}`] ?? (() => [404]);
  const [status, body = '', headers] = await route(request, sessions.get(sessionOf(request)));
  response.writeHead(status, { 'Cache-Control': 'no-store', ...headers }).end(body);
}

createServer((request, response) => {
  answer(request, response).catch(() => response.destroy()); // the request was broken off
}).listen(Number(PORT), '127.0.0.1');
