// The tarball of `npm pack`, as an application installs it.

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
  'src/emitter', 'src/failure', 'src/follow', 'src/holding', 'src/iterate', 'src/page', 'src/position', 'src/quietly', 'src/receipts', 'src/socket', 'src/stream', 'src/tabs', 'src/types',
  'src/waiting', 'src/watch',
];

const read = (path) => readFileSync(join(CLIENT, path), 'utf8');

/** Run a program and return its output. Throws with the whole output if the exit code is not 0. */
function run(program, args, cwd = CLIENT) {
  try {
    return execFileSync(program, args, { cwd, encoding: 'utf8', stdio: 'pipe' });
  } catch ({ message, stdout, stderr }) {
    throw new Error(`${message}\n${stdout}${stderr}`);
  }
}

const tool = (name, args, cwd) => run(join(CLIENT, 'node_modules', '.bin', name), args, cwd);

// A project with the tarball and the other packages that it needs.
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

test('tarball_has_the_sources_their_types_and_the_usual_files', () => {
  const expected = ['LICENSE', 'README.md', 'package.json', ...MODULES.flatMap((name) => [`${name}.js`, `types/${name}.d.ts`])];
  assert.deepEqual(packed.files.map(({ path }) => path).sort(), expected.sort());
});

test('tarball_has_the_version_and_license_of_the_bridge', () => {
  const [, version] = read('../wsbridge/__init__.py').match(/__version__ = "(.+)"/);
  assert.equal(JSON.parse(read('package.json')).version, version);
  assert.equal(read('LICENSE'), read('../LICENSE'));
});

test('lock_file_names_no_registry', () => {
  assert.doesNotMatch(read('package-lock.json'), /"resolved"/);
});

test('tarball_passes_publint', () => {
  assert.match(tool('publint', ['run', '--strict', tarball]), /All good!/);
});

test('tarball_types_are_found_by_each_way_to_import_an_es_module', () => {
  const report = tool('attw', ['--profile', 'esm-only', '--no-definitely-typed', '--no-emoji', '--format', 'ascii', tarball]);
  assert.equal(report.match(/^(node16 \(from ESM\)|bundler): OK/gm)?.length, 6, report);
});

for (const [module, resolution] of [['esnext', 'bundler'], ['nodenext', 'nodenext']]) {
  test(`consumer_in_strict_typescript_compiles_with_module_resolution_${resolution}`, () => {
    const options = ['--strict', '--noEmit', '--jsx', 'react-jsx', '--target', 'es2022', '--exactOptionalPropertyTypes'];
    tool('tsc', [...options, '--module', module, '--moduleResolution', resolution, '--types', '', 'consumer.tsx'], project);
  });
}

test('entries_export_their_names_and_print_nothing_at_import', () => {
  const names = `for (const entry of ['', '/react', '/query']) console.log(...Object.keys(await import('wsbridge-client' + entry)));`;
  const lines = run(process.execPath, ['--input-type=module', '--eval', names], project).trim().split('\n');
  assert.deepEqual(lines, ['createClient follow', 'ClientProvider typedHooks useClient useConnectionState useEvent', 'afterConnect bindQueries']);
});
