// Builds the files that the bridge serves as /client.js: `npm run build`, or `make client`.

import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { minify as shorten } from 'terser';

const CLIENT = fileURLToPath(new URL('.', import.meta.url));
const TARGET = join(CLIENT, '../wsbridge/web/static/built'); // not in git; wheels and sdists include it

/** Bundles with esbuild and minifies with Terser, which makes 5 % less of it. Returns the code and its source map. */
export async function minify(options) {
  const { outputFiles } = await build({
    absWorkingDir: CLIENT,
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    outfile: join(TARGET, 'client.js'),
    sourcemap: 'external',
    write: false,
    ...options,
  });
  const [content, text] = ['.js.map', '.js'].map((end) => outputFiles.find(({ path }) => path.endsWith(end)).text);
  const { code, map } = await shorten(text, { module: true, ecma: 2022, compress: { passes: 3 }, sourceMap: { content, includeSources: true } });
  return { code: Buffer.from(code), map };
}

export const gzip = (/** @type {Uint8Array} */ contents) => gzipSync(contents, { level: 9 });
export const brotli = (/** @type {Uint8Array} */ contents) => brotliCompressSync(contents); // at its best, by default

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { code, map } = await minify({ entryPoints: ['src/client.js'] });
  rmSync(TARGET, { recursive: true, force: true });
  mkdirSync(TARGET);
  const files = { 'client.js': code, 'client.js.gz': gzip(code), 'client.js.br': brotli(code), 'client.js.map': map };
  for (const [name, contents] of Object.entries(files)) writeFileSync(join(TARGET, name), contents);
}
