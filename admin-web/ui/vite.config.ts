import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig, type Plugin } from 'vite';

/** Files below this many bytes fit into one packet anyway. */
const WORTH_IT = 1400;

/** Puts a `.gz` beside each file, so that the server only has to choose. */
function compressed(): Plugin {
  return {
    name: 'compressed',
    apply: 'build',
    writeBundle({ dir = '' }, bundle) {
      for (const name of Object.keys(bundle)) {
        const file = readFileSync(join(dir, name));
        if (file.length > WORTH_IT) writeFileSync(join(dir, `${name}.gz`), gzipSync(file, { level: 9 }));
      }
    },
  };
}

export default defineConfig({
  plugins: [svelte(), compressed()],
  build: {
    outDir: '../dist',
    emptyOutDir: true,
    target: 'es2022',
    // An asset inside a page would be an inline one, which the content security policy refuses.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // The charts come in one piece, and only when somebody looks at one.
    chunkSizeWarningLimit: 700,
  },
  server: { proxy: { '/api': 'http://127.0.0.1:8055' } },
});
