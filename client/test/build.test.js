// The files that the bridge serves as /client.js, after `npm run build`.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { brotliDecompressSync, gunzipSync } from 'node:zlib';

const BUILT = new URL('../../wsbridge/web/static/built/', import.meta.url);
const SOURCES = new URL('../src/', import.meta.url);

const read = (end) => readFileSync(new URL(`client.js${end}`, BUILT));

test('built_file_exports_what_its_entry_exports', async () => {
  const [built, entry] = await Promise.all([BUILT, SOURCES].map((folder) => import(new URL('client.js', folder))));
  assert.deepEqual(Object.keys(built), Object.keys(entry));
});

test('built_file_is_minified_and_compressed_forms_are_the_same_file', () => {
  const code = read('');
  assert.deepEqual([gunzipSync(read('.gz')), brotliDecompressSync(read('.br'))], [code, code]);
  assert.doesNotMatch(code.toString(), /\/\*\*|\n {2}/);
});

test('source_map_has_the_present_sources', () => {
  const { sources, sourcesContent } = JSON.parse(read('.map'));
  assert.ok(sources.includes('../../../../client/src/client.js'), sources);
  const names = sources.map((path) => path.split('/').at(-1));
  assert.deepEqual(sourcesContent, names.map((name) => readFileSync(new URL(name, SOURCES), 'utf8')));
});
