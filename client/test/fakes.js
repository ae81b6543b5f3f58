/** Fakes of what a client uses: time, random numbers, sockets, streams, locks, channels. */

/** Stop the clock until `pass`; `Math.random` returns `chance`. */
export function still(t, chance = 0.5) {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_000_000 });
  t.mock.method(Math, 'random', () => chance);
}

/** Run all pending microtasks. */
export async function settle() {
  for (let turn = 0; turn < 30; turn++) await Promise.resolve();
}

/** Let `ms` pass in steps of a second, so that each timer sees the time at which it was due. */
export async function pass(t, ms) {
  await settle();
  for (let left = ms; left > 0; left -= 1_000) {
    t.mock.timers.tick(Math.min(left, 1_000));
    await settle();
  }
  if (!ms) t.mock.timers.tick(0);
  await settle();
}

/** Let `ms` pass while the stream sends a comment every 10 s. */
export async function alive(t, stream, ms) {
  for (let left = ms; left > 0; left -= 10_000) {
    await pass(t, Math.min(left, 10_000));
    stream.write(':\n\n');
    await settle();
  }
}

export const hello = (last_event_id, more = {}) => ({
  type: 'connected', user_id: 'u', session_id: 's', last_event_id, ping_interval_ms: 25_000, ...more,
});
export const update = (id, event = id) => ({ type: 'note', event, id, timestamp: '' });
export const goodbye = (code, reason, reconnect_after_ms = 0, close_after_ms = 0) => ({
  type: 'goodbye', code, reason, reconnect: code < 4500, reconnect_after_ms, close_after_ms,
});

/** A fake WebSocket class, and the list of its sockets, on which a test sends the messages of the bridge. */
export function fakeSockets() {
  const sockets = [];
  class FakeSocket {
    sent = [];
    closed = false;
    answers = false; // whether it answers pings
    constructor(url, protocols) {
      this.url = new URL(url);
      this.protocols = protocols;
      sockets.push(this);
    }
    get after() {
      return this.url.searchParams.get('last_event_id');
    }
    send(text) {
      this.sent.push(JSON.parse(text));
      if (this.answers) queueMicrotask(() => this.say({ type: 'pong' }));
    }
    close() {
      this.closed = true;
    }
    say(...frames) {
      for (const frame of frames) this.onmessage({ data: JSON.stringify(frame) });
    }
    end(code = 1006, reason = '') {
      this.onclose({ code, reason });
    }
  }
  return { sockets, WebSocket: FakeSocket };
}

/** A fake fetch, and the list of the streams that were requested. */
export function fakeStreams() {
  const streams = [];
  const fetch = (url, { headers, signal }) => new Promise((resolve, reject) => {
    const stream = {
      url: new URL(url),
      headers,
      signal,
      write: (text) => stream.out.enqueue(new TextEncoder().encode(text)),
      say: (...frames) => frames.forEach((frame) => stream.write(`event: ${frame.type}\ndata: ${JSON.stringify(frame)}\n\n`)),
      end: () => stream.out.close(),
      fail: () => reject(new TypeError('fetch failed')),
      answer: resolve,
      refuse: (status, detail) => resolve(new Response(JSON.stringify({ detail }), { status })),
      open: () => resolve(new Response(new ReadableStream({ start: (out) => (stream.out = out) }))),
    };
    signal.addEventListener('abort', () => reject(signal.reason));
    streams.push(stream);
  });
  return { streams, fetch };
}

/** Fake locks and channels of one origin, for any number of tabs in this process. */
export function fakeOrigin(t) {
  const waiting = new Map(); // name → [{callback, resolve, reject, signal}], the first holds the lock
  const channels = new Set();

  async function grant(name) {
    const queue = waiting.get(name);
    const first = queue[0];
    if (!first || first.held) return;
    first.held = true;
    await Promise.resolve();
    await first.callback({ name });
    if (queue[0] !== first) return; // the lock was stolen
    queue.shift();
    first.resolve();
    grant(name);
  }

  const locks = {
    request: (name, { signal, steal }, callback) => new Promise((resolve, reject) => {
      const queue = waiting.get(name) ?? [];
      waiting.set(name, queue);
      const request = { callback, resolve, reject, held: false };
      const abort = () => {
        if (request.held) return;
        queue.splice(queue.indexOf(request), 1);
        reject(new DOMException('left the queue', 'AbortError'));
      };
      if (steal) {
        const holder = queue[0]?.held && queue.shift();
        queue.unshift(request);
        if (holder) holder.reject(new DOMException('stolen', 'AbortError'));
      } else queue.push(request);
      signal?.addEventListener('abort', abort);
      grant(name);
    }),
  };

  class FakeChannel {
    onmessage = null;
    constructor(name) {
      this.name = name;
      channels.add(this);
    }
    postMessage(data) {
      const copy = structuredClone(data);
      for (const other of channels) {
        if (other !== this && other.name === this.name) queueMicrotask(() => channels.has(other) && other.onmessage?.({ data: copy }));
      }
    }
    close() {
      channels.delete(this);
    }
  }
  replace(t, globalThis, 'navigator', { locks });
  replace(t, globalThis, 'BroadcastChannel', FakeChannel);
  return { channels, waiting };
}

/** Replace a property until the end of the test. */
export function replace(t, target, name, value) {
  const before = Object.getOwnPropertyDescriptor(target, name);
  Object.defineProperty(target, name, { value, configurable: true, writable: true });
  t.after(() => (before ? Object.defineProperty(target, name, before) : delete target[name]));
}
