// Compares what a page downloads with its limit in bytes: each entry, bundled, minified and gzipped.

import { gzipSync } from 'node:zlib';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const LIMITS = { 'src/core.js': 4_200, 'src/client.js': 5_700 };

for (const [entry, limit] of Object.entries(LIMITS)) {
  const { outputFiles } = await build({
    absWorkingDir: fileURLToPath(new URL('..', import.meta.url)),
    entryPoints: [entry],
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    write: false,
  });
  const size = gzipSync(outputFiles[0].contents, { level: 9 }).length;
  console.log(`${entry}: ${size} of ${limit} bytes`);
  if (size > limit) process.exitCode = 1;
}
