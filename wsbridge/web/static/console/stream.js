/* Requests with the token, and the stream of the bridge: one JSON object a line. The token is kept in memory only. */

let token = '';
export const setToken = (text) => { token = text; };

export const request = (path, options = {}) => fetch(path, {
  cache: 'no-store', credentials: 'omit', redirect: 'error', ...options,
  headers: { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) },
});

/* The text of a refusal, for people. */
export const problem = async (response) => {
  const text = await response.text();
  try {
    const { title, detail } = JSON.parse(text);
    return detail ?? title ?? text;
  } catch {
    return `The answer ${response.status} is not the bridge's. ${text.slice(0, 200)}`;
  }
};

const SILENCE = 8000; // ms without a line after which the stream is opened again
const LONGEST = 8000; // ms between two attempts

/* Keeps a stream open until `close`. Calls on.line(object), on.state('open' or 'waiting', text) and on.refused(text). */
export function openStream(path, on) {
  let controller, timer, attempt = 0, closed = false;

  const watch = () => {
    clearTimeout(timer);
    timer = setTimeout(() => controller.abort(), SILENCE);
  };

  const read = async () => {
    const response = await request(path, { signal: controller.signal });
    if (!response.ok) {
      const text = await problem(response);
      if (response.status === 503 || response.status === 429) throw new Error(text);
      close();
      on.refused(text);
      return;
    }
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ''; !closed;) {
      const { value, done } = await reader.read();
      if (done) throw new Error('the stream has ended');
      watch();
      const lines = (rest + value).split('\n');
      rest = lines.pop();
      for (const line of lines) {
        attempt = 0;
        on.state('open', '');
        if (!closed) on.line(JSON.parse(line));
      }
    }
  };

  const run = async () => {
    while (!closed) {
      controller = new AbortController();
      watch();
      let text = '';
      await read().catch((error) => { text = error.message; });
      controller.abort();
      clearTimeout(timer);
      if (closed) return;
      on.state('waiting', text);
      await new Promise((resolve) => { setTimeout(resolve, Math.min(LONGEST, 500 * 2 ** attempt++)); });
    }
  };

  const close = () => {
    closed = true;
    clearTimeout(timer);
    controller?.abort();
  };

  run();
  return { close };
}
