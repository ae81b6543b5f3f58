import { defineConfig } from 'vite';

// `REACT=18 MODE=development vite build`. StrictMode has an effect in that mode only.
const { REACT, MODE } = process.env;

export default defineConfig({
  mode: MODE,
  define: { 'process.env.NODE_ENV': JSON.stringify(MODE) },
  resolve: { alias: { react: `react-${REACT}`, 'react-dom': `react-dom-${REACT}` } },
});
