// What a page downloads, compared with the limits and with the table of the guide. `npm run size -- --write` writes the table.

import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { brotli, gzip, minify } from '../build.js';

const CORE = 4_300, WHOLE = 6_000; // bytes, gzipped
const GUIDE = new URL('../../FRONTEND_INTEGRATION.md', import.meta.url);
const TABLE = /(?<=^\| minified, in kB .*\n\|.*\n)(?:\|.*\n)+/m;
const TOLERANCE = 0.1; // kB: other versions of Node.js compress a little differently

const extra = (names, from) => `import { ${names} } from './src/${from}.js';`;
const client = (extras, imports = '') => `import { buildClient } from './src/core.js'; ${imports}
  export const createClient = (options) => buildClient(options, { ${extras} });`;
const STREAM = extra('openStream', 'stream') + extra('createChoice', 'choice'), STREAMS = 'sse: openStream, choice: createChoice';
const FOLLOW = `export * from './src/client.js';`;

/** Row of the table → the code with this part, and the code without it. */
const PARTS = {
  '`/client.js`: all of the next four rows': [FOLLOW],
  '`createClient`: sockets, resume, tokens, handlers': [client('')],
  'streams if sockets are blocked (`sse`)': [client(STREAMS, STREAM), client('')],
  'one connection for all tabs (`share`)': [`export { createClient } from './src/client.js';`, client(STREAMS, STREAM)],
  '`follow`': [FOLLOW, `export { createClient } from './src/client.js';`],
  '`wsbridge-client/react`': [`${FOLLOW} export * from './react/index.js';`, FOLLOW],
  '`wsbridge-client/query`': [`${FOLLOW} export * from './query/index.js';`, FOLLOW],
};

/** The sizes of the minified code in bytes. */
async function sizes(contents) {
  if (!contents) return [0, 0];
  const stdin = { contents, resolveDir: fileURLToPath(new URL('..', import.meta.url)) };
  const { code } = await minify({ stdin, external: ['react'] });
  return [gzip(code).length, brotli(code).length];
}

const rows = [];
for (const [label, [withIt, without]] of Object.entries(PARTS)) {
  const [more, less] = [await sizes(withIt), await sizes(without)];
  rows.push([label, ...more.map((size, index) => size - less[index])]);
}
const sign = ([label]) => (PARTS[label].length > 1 ? '+ ' : '');
const written = rows.map((row) => `| ${row[0]} | ${row.slice(1).map((size) => sign(row) + (size / 1000).toFixed(1)).join(' | ')} |\n`);
process.stdout.write(written.join(''));

const guide = readFileSync(GUIDE, 'utf8');
if (process.argv.includes('--write')) writeFileSync(GUIDE, guide.replace(TABLE, written.join('')));
else if (!fits(guide.match(TABLE)[0])) fail('the table of the guide is not this one: npm run size -- --write');
for (const [[label, size], limit] of [[rows[0], WHOLE], [rows[1], CORE]]) if (size > limit) fail(`${label} has ${size} of ${limit} bytes`);
for (const name of ['FRONTEND_INTEGRATION.md', 'CHANGELOG.md', 'client/README.md']) {
  const text = readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8');
  if (!text.replace(/\s+/g, ' ').includes(`at most ${WHOLE / 1000} kB`)) fail(`${name} does not state the limit`);
}

function fits(table) {
  const stated = table.trimEnd().split('\n').map((line) => line.split('|').map((cell) => cell.trim()).slice(1, -1));
  return stated.length === rows.length && rows.every(([label, ...numbers], index) => {
    const [name, ...cells] = stated[index];
    return name === label && numbers.every((size, cell) => Math.abs(parseFloat(cells[cell].replace('+ ', '')) - size / 1000) <= TOLERANCE);
  });
}

function fail(reason) {
  console.error(reason);
  process.exitCode = 1;
}
