import { defineConfig } from 'vite';

// `REACT=18 vite build`. The development build, since StrictMode does nothing in others.
const { REACT } = process.env;

export default defineConfig({
  mode: 'development',
  define: { 'process.env.NODE_ENV': '"development"' },
  resolve: { alias: { react: `react-${REACT}`, 'react-dom': `react-dom-${REACT}` } },
});
