// What `npm pack` makes of this folder, as those see it who install it.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const CLIENT = fileURLToPath(new URL('../..', import.meta.url));
const MODULES = [
  'index', 'query/index', 'query/stale', 'react/index', 'src/backoff', 'src/client', 'src/choice', 'src/closes', 'src/connection', 'src/core',
  'src/emitter', 'src/failure', 'src/follow', 'src/iterate', 'src/page', 'src/position', 'src/socket', 'src/stream', 'src/tabs', 'src/types', 'src/waiting',
  'src/watch',
];

const read = (path) => readFileSync(join(CLIENT, path), 'utf8');

/** Its output; an exit code other than 0 is an error with all that the program said. */
function run(program, args, cwd = CLIENT) {
  try {
    return execFileSync(program, args, { cwd, encoding: 'utf8', stdio: 'pipe' });
  } catch ({ message, stdout, stderr }) {
    throw new Error(`${message}\n${stdout}${stderr}`);
  }
}

const tool = (name, args, cwd) => run(join(CLIENT, 'node_modules', '.bin', name), args, cwd);

// A project that has installed the tarball, and beside it what such projects have.
const project = mkdtempSync(join(tmpdir(), 'wsbridge-client-'));
process.on('exit', () => rmSync(project, { recursive: true }));
const [packed] = JSON.parse(run('npm', ['pack', '--json', '--pack-destination', project]));
const tarball = join(project, packed.filename);
const installed = join(project, 'node_modules', 'wsbridge-client');
mkdirSync(installed, { recursive: true });
run('tar', ['-xzf', tarball, '--strip-components=1', '-C', installed]);
for (const name of ['@tanstack', '@types', 'csstype', 'react']) {
  symlinkSync(join(CLIENT, 'node_modules', name), join(project, 'node_modules', name));
}
writeFileSync(join(project, 'package.json'), '{"type": "module"}');
copyFileSync(join(HERE, 'consumer.tsx'), join(project, 'consumer.tsx'));

test('the tarball has the sources, their types, and what every package has', () => {
  const expected = ['LICENSE', 'README.md', 'package.json', ...MODULES.flatMap((name) => [`${name}.js`, `types/${name}.d.ts`])];
  assert.deepEqual(packed.files.map(({ path }) => path).sort(), expected.sort());
});

test('its version and license are those of the bridge', () => {
  const [, version] = read('../wsbridge/__init__.py').match(/__version__ = "(.+)"/);
  assert.equal(JSON.parse(read('package.json')).version, version);
  assert.equal(read('LICENSE'), read('../LICENSE'));
});

test('the lock file names no registry', () => {
  assert.doesNotMatch(read('package-lock.json'), /"resolved"/);
});

test('publint has nothing to say', () => {
  assert.match(tool('publint', ['run', '--strict', tarball]), /All good!/);
});

test('its types are found and right wherever an ES module can be imported', () => {
  const report = tool('attw', ['--profile', 'esm-only', '--no-definitely-typed', '--no-emoji', '--format', 'ascii', tarball]);
  assert.equal(report.match(/^(node16 \(from ESM\)|bundler): OK/gm)?.length, 6, report);
});

for (const [module, resolution] of [['esnext', 'bundler'], ['nodenext', 'nodenext']]) {
  test(`a strict TypeScript consumer compiles with moduleResolution ${resolution}`, () => {
    const options = ['--strict', '--noEmit', '--jsx', 'react-jsx', '--target', 'es2022', '--exactOptionalPropertyTypes'];
    tool('tsc', [...options, '--module', module, '--moduleResolution', resolution, '--types', '', 'consumer.tsx'], project);
  });
}

test('each entry has its names, and does nothing at import', () => {
  const names = `for (const entry of ['', '/react', '/query']) console.log(...Object.keys(await import('wsbridge-client' + entry)));`;
  const lines = run(process.execPath, ['--input-type=module', '--eval', names], project).trim().split('\n');
  assert.deepEqual(lines, ['createClient follow', 'ClientProvider typedHooks useClient useConnectionState useEvent', 'afterConnect bindQueries']);
});
