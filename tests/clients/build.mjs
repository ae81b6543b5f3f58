// `node build.mjs ENTRY`: bundles a page's module and compiles the components of Vue and Svelte in it. Angular's are compiled in the page.

import { readFile } from 'node:fs/promises';
import { build } from 'esbuild';
import { compile } from 'svelte/compiler';
import { compileScript, parse } from 'vue/compiler-sfc';

const compilers = {
  svelte: (text) => compile(text, {}).js.code,
  vue: (text) => compileScript(parse(text).descriptor, { id: 'component', inlineTemplate: true }).content,
};

const components = {
  name: 'components',
  setup: ({ onLoad }) => onLoad({ filter: /\.(svelte|vue)$/ }, async ({ path }) => ({
    contents: compilers[path.split('.').at(-1)](await readFile(path, 'utf8')),
    loader: 'ts', // a script of Vue with lang="ts" is still one after its compilation
  })),
};

await build({
  entryPoints: [process.argv[2]],
  outfile: 'built.js',
  bundle: true,
  format: 'esm',
  jsx: 'automatic',
  tsconfigRaw: { compilerOptions: { experimentalDecorators: true, useDefineForClassFields: false } }, // Angular's
  external: ['wsbridge-client'], // the page's import map has it
  plugins: [components],
});
