// The client in JavaScript under Node.js, as `wsbridge conformance` runs it.
import { createClient } from '../../client/index.js';

const [url, tokenUrl, from] = process.argv.slice(2);
const client = createClient({
  url,
  ...(url.includes('/sse?') ? { sse: url, transports: ['sse'] } : { sse: false }),
  ...(tokenUrl && { getToken: async () => (await fetch(tokenUrl)).text() }),
  ...(from && { WebSocket: (await import(from)).WebSocket }),
});
client.on('*', ({ type, id }) => id ? console.log(id) : type === 'gap' && console.log('gap'));
client.on('state', ({ status }) => status === 'closed' && process.exit());
client.connect();
