// The code of FRONTEND_INTEGRATION.md that needs no browser; tests/browser/test_guide.py runs the rest.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { effect, effectScope } from '@vue/reactivity';
import { createClient } from '../index.js';

const CLIENT = fileURLToPath(new URL('..', import.meta.url));
const GUIDE = readFileSync(join(CLIENT, '..', 'FRONTEND_INTEGRATION.md'), 'utf8');
const STAND_INS = { vue: '@vue/reactivity', '@tanstack/react-query': '@tanstack/query-core' }; // with the same exports
const PLAYWRIGHT = `declare module '@playwright/test' {
  interface Fixtures { page: { [name: string]: any; routeWebSocket(url: RegExp, handler: (socket: any) => void): Promise<void> }; request: any }
  export const expect: any;
  export const test: (name: string, body: (fixtures: Fixtures) => Promise<void>) => void;
}`;

// An application with all packages installed. The types of the client come from its sources.
const project = mkdtempSync(join(tmpdir(), 'wsbridge-guide-'));
after(() => rmSync(project, { recursive: true }));
mkdirSync(join(project, 'node_modules/@tanstack'), { recursive: true });
for (const name of ['@types', 'csstype', 'react', 'rxjs', 'tslib']) link(name, name);
for (const [name, real] of Object.entries(STAND_INS)) link(name, real);

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

test('guide_typescript_compiles_under_strict', () => {
  const files = [['playwright.d.ts', PLAYWRIGHT]];
  for (const language of ['ts', 'tsx']) {
    for (const [heading, text] of Object.entries(code(language))) files.push([`${heading.replaceAll(' ', '')}.${language}`, text]);
  }
  const declared = "declare const client: import('wsbridge-client').Client;\n"; // for blocks that use a client without creating it
  files.push(['State.ts', `${declared}${code('js').State}export {};`]);
  assert.deepEqual(files.map(([name]) => name), [
    'playwright.d.ts', 'TanStackQuery.ts', 'TypeScript.ts', 'Testingyourapp.ts', 'Testingyourapp2.ts', 'React.tsx', 'State.ts',
  ]);
  for (const [name, text] of files) writeFileSync(join(project, name), text);
  const compilerOptions = {
    strict: true, noEmit: true, allowJs: true, jsx: 'react-jsx', target: 'es2022', module: 'esnext', moduleResolution: 'bundler', types: [],
    paths: Object.fromEntries(['', '/react', '/query'].map((entry) => [`wsbridge-client${entry}`, [join(CLIENT, entry, 'index.js')]])),
  };
  writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: files.map(([name]) => name) }));
  try {
    execFileSync(join(CLIENT, 'node_modules/.bin/tsc'), { cwd: project, encoding: 'utf8', stdio: 'pipe' });
  } catch ({ stdout, message }) {
    assert.fail(stdout || message);
  }
});

test('guide_vue_composables_follow_the_client_until_their_component_is_unmounted', async () => {
  writeFileSync(join(project, 'composables.mjs'), code('js').Vue);
  const { useConnectionState, useEvent } = await import(join(project, 'composables.mjs'));
  const client = createClient({ url: 'ws://127.0.0.1:9/ws', sse: false, WebSocket: class { close() {} } });
  const statuses = [], heard = [];
  const scope = effectScope();
  scope.run(() => {
    const state = useConnectionState(client);
    effect(() => statuses.push(state.value.status));
    useEvent(client, 'state', ({ status }) => heard.push(status));
  });
  client.connect();
  client.close();
  assert.deepEqual([statuses, heard], [['idle', 'connecting', 'closed'], ['connecting', 'closed']]);
  scope.stop();
  client.connect();
  client.close();
  assert.deepEqual([statuses.length, heard.length], [3, 2]);
});

test('guide_logout_closes_all_tabs_then_calls_the_backend', async (t) => {
  const asked = [];
  writeFileSync(join(project, 'client.js'), `export const client = { close: (how) => globalThis.asked.push(how) };`);
  writeFileSync(join(project, 'package.json'), '{"type":"module"}');
  writeFileSync(join(project, 'logout.mjs'), code('js').Tokens2);
  globalThis.asked = asked;
  t.mock.method(globalThis, 'fetch', async (path) => asked.push(path));
  const { logout } = await import(join(project, 'logout.mjs'));
  await logout();
  assert.deepEqual(asked, [{ everywhere: true }, '/logout']);
});

test('guide_change_resolves_after_its_event_was_handled', async (t) => {
  writeFileSync(join(project, 'rename.mjs'), code('js')['Your own changes']);
  const asked = [];
  t.mock.method(globalThis, 'fetch', async (path) => (asked.push(path), Response.json({ eventId: 'mine' })));
  const { rename } = await import(join(project, 'rename.mjs'));
  await rename({ settled: async (id) => asked.push(id) }, '7', 'Buy oats');
  assert.deepEqual(asked, ['/api/tasks/7', 'mine']);
});

test('guide_svelte_store_and_rxjs_observable_follow_the_client_until_they_are_unsubscribed', async () => {
  const blocks = code('js');
  writeFileSync(join(project, 'svelte.mjs'), blocks['Svelte, RxJS, Angular']);
  writeFileSync(join(project, 'rxjs.mjs'), blocks['Svelte, RxJS, Angular2']);
  const { connectionState } = await import(join(project, 'svelte.mjs'));
  const { messages } = await import(join(project, 'rxjs.mjs'));
  const client = createClient({ url: 'ws://127.0.0.1:9/ws', sse: false, WebSocket: class { close() {} } });
  const stored = [], observed = [];
  const leave = connectionState(client).subscribe(({ status }) => stored.push(status));
  const subscription = messages(client, 'state').subscribe(({ status }) => observed.push(status));
  client.connect();
  leave();
  subscription.unsubscribe();
  client.close();
  assert.deepEqual([stored, observed], [['idle', 'connecting'], ['connecting']]);
});
