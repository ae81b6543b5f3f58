// The code of the guide and of docs/frameworks.md that needs no browser; tests/browser/test_guide.py, test_tasks_page.py and
// test_frameworks.py run the rest.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { transform } from 'esbuild';
import { jwtVerify } from 'jose';
import { createElement } from 'react';
import { renderToString } from 'react-dom/server';
import { compileScript, parse } from 'vue/compiler-sfc';
import { problemOf } from '../src/closes.js';
import { settle } from './fakes.js';

const CLIENT = fileURLToPath(new URL('..', import.meta.url));
const DOCUMENTS = ['FRONTEND_INTEGRATION.md', 'docs/frameworks.md'];
const GUIDE = DOCUMENTS.map((name) => readFileSync(join(CLIENT, '..', name), 'utf8')).join('\n');
const PLAYWRIGHT = `declare module '@playwright/test' {
  interface Fixtures { page: { [name: string]: any; routeWebSocket(url: RegExp, handler: (socket: any) => void): Promise<void> }; request: any }
  export const expect: any;
  export const test: (name: string, body: (fixtures: Fixtures) => Promise<void>) => void;
}`;
const OWN = `declare const process: { env: Record<string, string> };
declare module '*/session' { export function currentUser(): Promise<string | undefined>; }
declare module 'vite' { export function defineConfig(config: object): object; }
declare module '@vitejs/plugin-react' { export default function react(): object; }`;

// An application with all packages installed. The types of the client come from its sources.
const project = mkdtempSync(join(tmpdir(), 'wsbridge-guide-'));
after(() => rmSync(project, { recursive: true }));
mkdirSync(join(project, 'node_modules'));
for (const name of ['@angular', '@tanstack', '@types', 'csstype', 'jose', 'react', 'rxjs', 'vue']) link(name, name);
link('wsbridge-client', '..');

function link(name, real) {
  symlinkSync(join(CLIENT, 'node_modules', real), join(project, 'node_modules', name));
}

/** The code blocks in this language by their heading. From the second block of a heading on, a number follows it. */
function code(language) {
  const found = {};
  for (const section of GUIDE.split(/^## /m)) {
    const blocks = section.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, 'gms'));
    let number = 0;
    for (const [, text] of blocks) found[section.split('\n')[0] + (++number > 1 ? number : '')] = text;
  }
  return found;
}

/** The file of each block, because some import others. */
const FILES = {
  ts: {
    'Five minutes with React': 'app/vite.config.ts', 'Five minutes with React2': 'app/tasks.ts', TypeScript: 'typescript.ts', 'Testing your page': 'playwright.ts',
    'Testing your page2': 'fakeBridge.ts', React: 'app/usePending.ts', 'Next.js': 'next/route.ts', 'Vue, Svelte, RxJS': 'vue/tasks.ts', Vue: 'vue/vue.ts', Vue2: 'vue/usePending.ts',
    Angular: 'angular.ts',
  },
  tsx: {
    'Five minutes with React': 'app/Five.tsx', React: 'app/Toasts.tsx', React2: 'app/Live.tsx', React3: 'app/App.tsx', React4: 'app/TaskList.tsx', React5: 'app/Notice.tsx',
    'TanStack Query': 'queries/Live.tsx', 'TanStack Query2': 'queries/TaskList.tsx', 'Next.js': 'next/live.tsx',
  },
  vue: { Vue: 'vue/TaskList.vue.ts', Vue2: 'vue/App.vue.ts', Vue3: 'vue/Login.vue.ts', Vue4: 'vue/Pending.vue.ts' }, // `./TaskList.vue` finds the first
};

test('guide_typescript_compiles_under_strict', () => {
  const files = [['playwright.d.ts', PLAYWRIGHT], ['own.d.ts', OWN], ['queries/tasks.ts', `export * from '../app/tasks.js';`]];
  for (const language of ['ts', 'tsx', 'vue']) {
    assert.deepEqual(Object.keys(code(language)), Object.keys(FILES[language]));
    for (const [heading, text] of Object.entries(code(language))) {
      files.push([FILES[language][heading], language === 'vue' ? compiled(text) : text]);
    }
  }
  const declared = "declare const client: import('wsbridge-client').Client;\n"; // for blocks that use a client without creating it
  files.push(['Offline.ts', `${declared}${code('js').Offline}export {};`]);
  for (const folder of ['app', 'queries', 'next', 'vue']) mkdirSync(join(project, folder));
  for (const [name, text] of files) writeFileSync(join(project, name), text);
  const compilerOptions = {
    strict: true, experimentalDecorators: true, noUnusedLocals: true, noUnusedParameters: true, verbatimModuleSyntax: true, erasableSyntaxOnly: true, // as Vite's template
    noEmit: true, allowJs: true, jsx: 'react-jsx', target: 'es2022', module: 'esnext', moduleResolution: 'bundler', types: [],
    paths: Object.fromEntries(['', '/react', '/query'].map((entry) => [`wsbridge-client${entry}`, [join(CLIENT, entry, 'index.js')]])),
  };
  writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: files.map(([name]) => name) }));
  try {
    execFileSync(join(CLIENT, 'node_modules/.bin/tsc'), { cwd: project, encoding: 'utf8', stdio: 'pipe' });
  } catch ({ stdout, message }) {
    assert.fail(stdout || message);
  }
});

/** A component of Vue as TypeScript, with its template as a function and, as for vue-tsc, the types of its props and its refs. */
function compiled(text) {
  const { descriptor } = parse(text);
  assert.equal(descriptor.scriptSetup.lang, 'ts');
  const [, props] = /defineProps<(.*)>\(\)/.exec(text) ?? [];
  return compileScript(descriptor, { id: 'component', inlineTemplate: true }).content
    .replace('__props: any', `__props: ${props}`)
    .replace(/_unref\((list)\)/g, '$1.value') // TypeScript narrows this
    .replaceAll('$event', '_event'); // may be unused
}

test('guide_logout_closes_all_tabs_then_ends_the_session_before_anybody_asks_for_the_user', async (t) => {
  const asked = [];
  writeFileSync(join(project, 'client.js'), `export const client = { close: (how) => globalThis.asked.push(how) };`);
  writeFileSync(join(project, 'package.json'), '{"type":"module"}');
  writeFileSync(join(project, 'logout.mjs'), code('js')['Logout and another user']);
  globalThis.asked = asked;
  let lastRequest = Promise.resolve(); // Node 20 has no Web Locks: this one runs the callbacks one after the other
  const request = (name, ...rest) => (asked.push(name), lastRequest = lastRequest.then(rest.at(-1)));
  Object.defineProperty(globalThis, 'navigator', { configurable: true, value: { locks: { request } } });
  t.after(() => delete globalThis.navigator);
  const { logout, whoIsLoggedIn } = await import(join(project, 'logout.mjs'));
  let answers = { '/logout': 204, '/me': 401 };
  t.mock.method(globalThis, 'fetch', async (path) => {
    await settle();
    asked.push(path);
    if (!answers[path]) throw new TypeError('unreachable');
    return new Response(answers[path] === 200 ? 'alice' : null, { status: answers[path] });
  });
  assert.deepEqual(await Promise.all([logout(), whoIsLoggedIn()]), [true, '']);
  assert.deepEqual(asked, ['session', 'session', { everywhere: true }, '/logout', '/me']);
  answers = { '/logout': 500, '/me': 200 };
  assert.deepEqual(await Promise.all([logout(), whoIsLoggedIn()]), [false, 'alice']);
  answers = {};
  assert.deepEqual(await Promise.all([logout(), whoIsLoggedIn()]), [false, undefined]);
});

test('guide_names_each_type_that_the_package_exports', () => {
  const [section] = GUIDE.match(/^## TypeScript\n.*?(?=^## )/ms);
  const names = [...readFileSync(join(CLIENT, 'index.js'), 'utf8').matchAll(/@typedef \{import\(.*?\)\.(\w+)/g)].map(([, name]) => name);
  assert.ok(names.length > 10);
  assert.deepEqual(names.filter((name) => !new RegExp(`\\b${name}\\b`).test(section)), []);
});

test('guide_token_is_fresh_for_all_but_its_last_minute', async () => {
  writeFileSync(join(project, 'fresh.mjs'), code('js').Tokens2);
  const { isFresh } = await import(join(project, 'fresh.mjs'));
  const token = (seconds) => {
    const claims = Buffer.from(JSON.stringify({ sub: '>?>ü', exp: Math.floor(Date.now() / 1000) + seconds })).toString('base64url');
    assert.match(claims, /[-_]/);
    return `h.${claims}.s`;
  };
  assert.deepEqual([90, 50].map((seconds) => isFresh(token(seconds))), [true, false]);
});

test('guide_login_closes_the_tabs_of_the_last_user', async (t) => {
  globalThis.asked = [];
  const client = `const createClient = (options) => ({ close: (how) => globalThis.asked.push(options, how) });`;
  writeFileSync(join(project, 'last.mjs'), code('js')['Logout and another user2'].replace(/^import .*/, client));
  Object.defineProperty(globalThis, 'localStorage', { configurable: true, value: {} });
  t.after(() => delete globalThis.localStorage);
  const { beforeLogin, afterLogin } = await import(join(project, 'last.mjs'));
  beforeLogin();
  assert.deepEqual(globalThis.asked, []);
  afterLogin('alice');
  beforeLogin();
  assert.deepEqual(globalThis.asked, [{ url: '/ws', userId: 'alice' }, { everywhere: true }]);
});

test('guide_change_resolves_after_its_event_was_handled', async (t) => {
  writeFileSync(join(project, 'rename.mjs'), code('js')['Your own changes']);
  const asked = [];
  t.mock.method(globalThis, 'fetch', async (path) => (asked.push(path), Response.json({ eventId: 'mine' })));
  const { rename } = await import(join(project, 'rename.mjs'));
  await rename({ userId: 'alice', settled: async (id) => asked.push(id) }, '7', 'Buy oats');
  assert.deepEqual(asked, ['/api/tasks/7?user=alice', 'mine']);
});

test('guide_unit_test_with_a_fake_bridge_passes', async () => {
  writeFileSync(join(project, 'rename.js'), code('js')['Your own changes']);
  await load('fakeBridge.ts', code('ts')['Testing your page2']);
  writeFileSync(join(project, 'unit.mjs'), code('js')['Testing your page2'].replace("'./fakeBridge.ts'", "'./fakeBridge.ts.mjs'"));
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const told = execFileSync(process.execPath, ['--experimental-websocket', '--no-warnings', '--test-reporter=tap', join(project, 'unit.mjs')], { env, encoding: 'utf8' });
  assert.match(told, /^# pass 1$/m);
});

/** The guide's changes that show at once, over two tasks; the test answers the requests and makes the changes settle. */
async function optimistic(t) {
  const folder = mkdtempSync(join(project, 'optimistic-'));
  writeFileSync(join(folder, 'tasks.js'), `
    export const tasks = new Map(['7', '8'].map((task_id) => [task_id, { task_id, title: task_id }]));
    export const settling = [];
    export const client = { userId: 'alice', settled: (id, limits) => new Promise((resolve) => settling.push({ id, limits, resolve })) };
  `);
  writeFileSync(join(folder, 'changes.mjs'), `${code('js')['Your own changes2']}export { pending };`);
  const { tasks, settling } = await import(join(folder, 'tasks.js'));
  const { pending, rename, shown } = await import(join(folder, 'changes.mjs'));
  const answers = [];
  t.mock.method(globalThis, 'fetch', () => new Promise((resolve) => answers.push((eventId, status = 200) => {
    resolve({ ok: status === 200, status, json: async () => ({ eventId }) });
  })));
  return { pending, rename, tasks, settling, answers, titles: () => shown().map(({ title }) => title) };
}

test('guide_changes_show_at_once_and_until_each_has_settled', async (t) => {
  const { rename, tasks, settling, answers, titles } = await optimistic(t);
  rename('7', 'oats');
  const last = rename('7', 'rice');
  assert.deepEqual(titles(), ['rice', '8']);
  answers[0]('first');
  answers[1]('second');
  await settle();
  assert.deepEqual(settling.map(({ id, limits }) => [id, limits]), [['first', { timeout: 0 }], ['second', { timeout: 0 }]]);
  tasks.set('7', { task_id: '7', title: 'oats' }); // the event of the first change
  settling[0].resolve({ type: 'task_update' });
  await settle();
  assert.deepEqual(titles(), ['rice', '8']);
  tasks.set('7', { task_id: '7', title: 'salt' }); // that of the second one, and another user's after it
  settling[1].resolve({ type: 'task_update' });
  await last;
  assert.deepEqual(titles(), ['salt', '8']);
});

test('guide_change_of_a_new_or_a_removed_task_shows_at_once', async (t) => {
  const { rename, pending, titles } = await optimistic(t);
  pending.add({ task_id: '9', title: 'a new task', event_type: 'task.created' });
  rename('9', 'a renamed task');
  pending.add({ task_id: '7', event_type: 'task.deleted' });
  assert.deepEqual(titles(), ['8', 'a renamed task']);
});

test('guide_rename_of_a_task_that_another_tab_has_deleted_does_not_show_it', async (t) => {
  const { rename, tasks, titles } = await optimistic(t);
  rename('7', 'oats');
  tasks.delete('7');
  assert.deepEqual(titles(), ['8']);
});

test('guide_change_that_fails_is_taken_back', async (t) => {
  const { rename, answers, titles } = await optimistic(t);
  const failed = rename('8', 'oats');
  answers[0](undefined, 500);
  await assert.rejects(failed, { message: 'status 500' });
  assert.deepEqual(titles(), ['7', '8']);
});

test('guide_change_among_missed_events_shows_until_the_state_is_loaded_again', async (t) => {
  const { rename, settling, answers, titles } = await optimistic(t);
  rename('7', 'oats');
  answers[0]('first');
  await settle();
  assert.deepEqual(titles(), ['oats', '8']);
  settling[0].resolve({ type: 'gap' }); // after the load
  await settle();
  assert.deepEqual(titles(), ['7', '8']);
});

test('guide_names_the_problem_of_each_close_code', () => {
  const table = GUIDE.split('| code | reason | the client | `problem` | you |\n')[1].split('\n\n')[0].split('\n').slice(1);
  for (const row of table) {
    const [code, reasons, , problem] = row.split('|').slice(1).map((cell) => cell.trim().replaceAll('`', ''));
    for (const reason of reasons.split(', ')) assert.equal(problem, problemOf(Number(code), reason) ?? '', row);
  }
  assert.ok(table.length > 10);
});

/** What `usePending` needs of React, and its changes and requests. */
async function pendingInReact() {
  const state = { settling: [] };
  globalThis.pendingState = state;
  writeFileSync(join(project, 'hooks.mjs'), `
    const state = globalThis.pendingState;
    export const useRef = (current) => ({ current });
    export const useState = (value) => (state.pending = value, [value, (next) => (state.pending = next(state.pending))]);
    export const useClient = () => ({ settled: (id) => new Promise((resolve) => state.settling.push(resolve)) });
  `);
  const { usePending } = await load('usePending.ts', code('ts').React.replace(/'(react|wsbridge-client\/react)'/g, "'./hooks.mjs'"));
  const [, make] = usePending();
  return { make, settling: state.settling, pending: () => state.pending };
}

/** What `usePending` needs of Vue, and its changes and requests. */
async function pendingInVue() {
  const settling = [];
  const { usePending } = await load('usePendingInVue.ts', code('ts').Vue2);
  const [pending, make] = usePending({ settled: () => new Promise((resolve) => settling.push(resolve)) });
  return { make, settling, pending: () => [...pending] };
}

for (const [framework, usePending] of Object.entries({ react: pendingInReact, vue: pendingInVue })) {
  test(`guide_pending_requests_of_one_key_in_${framework}_begin_one_after_the_other`, async () => {
    const { make, settling, pending } = await usePending();
    const sent = [];
    const send = (name) => () => new Promise((resolve, reject) => sent.push({ name, resolve, reject }));
    const names = () => sent.map(({ name }) => name);
    const [create, rename, other, keyless] = ['create', 'rename', 'other', 'keyless'].map((title) => ({ title }));
    const failed = make(create, send('create'), '7');
    const renamed = make(rename, send('rename'), '7');
    make(other, send('other'), '8');
    make(keyless, send('keyless'));
    await settle();
    assert.deepEqual(names(), ['create', 'other', 'keyless']);
    assert.deepEqual(pending(), [create, rename, other, keyless]);
    sent[0].reject(new Error('status 500'));
    await assert.rejects(failed, { message: 'status 500' });
    await settle();
    assert.deepEqual(names(), ['create', 'other', 'keyless', 'rename']);
    assert.deepEqual(pending(), [rename, other, keyless]);
    sent[3].resolve('its event');
    await settle();
    make(create, send('later'), '7'); // does not wait until the change before has settled
    await settle();
    assert.deepEqual(names().at(-1), 'later');
    settling[0]();
    await renamed;
    assert.deepEqual(pending(), [other, keyless, create]);
  });
}

/** Renders with React's `useNotice` as React does: the effect runs again when its dependency has changed. */
async function noticeInReact() {
  const hooks = (globalThis.noticeHooks = { late: undefined, before: [], end: undefined });
  writeFileSync(join(project, 'noticeHooks.mjs'), `
    const hooks = globalThis.noticeHooks;
    export const useClient = () => {};
    export const useConnectionState = () => hooks.state;
    export const useState = (value) => [hooks.late ??= value, (next) => (hooks.late = next)];
    export function useEffect(effect, [dependency]) {
      if (hooks.before[0] === dependency) return;
      hooks.end?.();
      [hooks.before, hooks.end] = [[dependency], effect()];
    }
  `);
  const text = code('tsx').React5.replace(/'(react|wsbridge-client\/react)'/g, "'./noticeHooks.mjs'");
  const { useNotice } = await load('Notice.tsx', text.replace('function useNotice', 'export $&'));
  return async (state) => (hooks.state = state, useNotice(), useNotice()); // the second time with what the effect has set
}

async function noticeInVue() {
  const { useNotice } = await load('vue.ts', code('ts').Vue);
  const { effectScope, nextTick } = await import('vue');
  let told;
  const client = { state: { status: 'idle' }, on: (_, handler) => (told = handler) };
  const notice = effectScope().run(() => useNotice(client));
  return async (state) => (told(state), await nextTick(), notice.value);
}

for (const [framework, useNotice] of Object.entries({ react: noticeInReact, vue: noticeInVue })) {
  test(`guide_notice_in_${framework}_tells_of_an_outage_after_two_seconds_and_of_a_problem`, async (t) => {
    const shown = await useNotice();
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const waiting = { status: 'waiting' }, refused = { status: 'waiting', problem: 'needs-token' };
    assert.equal(await shown({ status: 'open' }), '');
    assert.equal(await shown(waiting), '');
    t.mock.timers.tick(1_999);
    assert.equal(await shown({ status: 'connecting' }), '');
    t.mock.timers.tick(1);
    assert.match(await shown(waiting), /^Offline/);
    assert.match(await shown(refused), /do not work/);
    assert.equal(await shown({ status: 'open' }), '');
    assert.equal(await shown(refused), '');
    assert.match(await shown({ status: 'closed', problem: 'needs-token' }), /log in again/);
    assert.match(await shown({ status: 'closed', problem: 'forbidden' }), /have stopped/);
    t.mock.timers.tick(2_000);
    assert.equal(await shown({ status: 'closed' }), '');
  });
}

test('guide_react_provider_of_another_user_has_another_key', async () => {
  const { Live } = await load('switch.tsx', code('tsx').React2);
  const keyOf = (userId) => renderToString(createElement(() => Live({ userId }).key));
  assert.deepEqual([keyOf('alice'), keyOf('bob')], ['alice', 'bob']);
});

test('guide_nextjs_provider_renders_its_children_on_the_server', async () => {
  const { Live } = await load('live.tsx', code('tsx')['Next.js']);
  assert.equal(renderToString(createElement(Live, { userId: 'alice' }, 'the page')), 'the page');
});

test('guide_nextjs_route_signs_a_token_for_the_user_of_the_session', async (t) => {
  writeFileSync(join(project, 'session.mjs'), 'export const currentUser = async () => globalThis.user;');
  const { POST } = await load('route.ts', code('ts')['Next.js'].replace("'./session'", "'./session.mjs'"));
  const secret = (process.env.WSBRIDGE_JWT_SECRET = 'a secret of thirty-two bytes or more');
  t.after(() => delete globalThis.user);
  assert.equal((await POST()).status, 401);
  globalThis.user = 'alice';
  const token = await (await POST()).text();
  const { payload } = await jwtVerify(token, new TextEncoder().encode(secret), { algorithms: ['HS256'] });
  assert.deepEqual([payload.sub, payload.exp > Date.now() / 1000], ['alice', true]);
});

/** Imports TypeScript, without a check of its types. */
async function load(name, text) {
  const { code } = await transform(text, { loader: name.split('.')[1], jsx: 'automatic' });
  writeFileSync(join(project, `${name}.mjs`), code);
  return import(join(project, `${name}.mjs`));
}
