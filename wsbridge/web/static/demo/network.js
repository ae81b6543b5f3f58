/* The network between a user's browser and the bridge, which can fail: clients use its WebSocket and its fetch instead
   of the page's own. */

import { LINK } from './dom.js';

export const MODES = ['online', 'flaky', 'offline', 'no WebSockets'];

const UP = 2500; // ms that a connection lasts on a flaky network, on average

export class Network {
  mode = 'online';
  address = '';         // that was asked for last
  links = new Set();    // that are open
  #others;
  #flaky = 0;

  /* Reports to its owner through on.log(way, text, label) and on.changed(). */
  constructor(user, on) {
    this.on = on;
    const others = this.#others = new BroadcastChannel(`wsbridge demo ${user}`); // the same user's in other windows: one network
    others.onmessage = ({ data }) => (data ? this.set(data, true) : others.postMessage(this.mode));
    others.postMessage(''); // how is it there?
  }

  WebSocket = Wire.bind(null, this);
  fetch = (url, options) => openStream(this, url, options);

  set(mode, told) {
    const was = this.mode;
    this.mode = mode;
    for (const link of [...this.links]) if (!this.lets(link)) link.cut();
    clearTimeout(this.#flaky);
    if (mode === 'flaky') this.#cutSoon();
    this.on.changed();
    if (!told) this.#others.postMessage(mode);
    if (was === 'offline' && mode !== was) dispatchEvent(new Event('online')); // as a browser says when its network is back
  }

  lets({ kind }) { return this.mode !== 'offline' && (this.mode !== 'no WebSockets' || kind === 'sse'); }

  #cutSoon() {
    this.#flaky = setTimeout(() => {
      for (const link of [...this.links]) link.cut();
      this.#cutSoon();
    }, UP * (0.5 + Math.random()));
  }

  opened(link) {
    if (!this.lets(link)) return link.cut();
    this.links.add(link);
    this.on.log('note', '', `${LINK[link.kind]} open`);
    this.on.changed();
  }

  ended(link, how) {
    this.on.log('note', '', `${LINK[link.kind]} ${this.links.delete(link) ? 'closed' : 'failed'}, ${how}`);
    this.on.changed();
  }

  dialled(url) {
    this.address = decodeURIComponent(url);
    this.on.changed();
    return this.address;
  }
}

/* A WebSocket over a network that can fail, with the members that the client uses. */
class Wire {
  kind = 'websocket';
  #socket = null;

  constructor(network, url, protocols) {
    this.network = network;
    this.address = network.dialled(url);
    if (!network.lets(this)) {
      setTimeout(() => this.#end(1006, ''));
      return;
    }
    const socket = this.#socket = new WebSocket(url, protocols);
    socket.onopen = () => network.opened(this);
    socket.onmessage = (event) => { network.on.log('in', event.data); this.onmessage?.(event); };
    socket.onclose = ({ code, reason }) => this.#end(code, reason);
  }

  send(text) { this.network.on.log('out', text); this.#socket.send(text); }

  close() { this.#socket?.close(); }

  cut() {
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#end(1006, '');
  }

  #end(code, reason) {
    this.network.ended(this, `${code} ${reason}`.trim());
    this.onclose?.({ code, reason });
  }
}

/* The same for a stream: a fetch whose chunks are shown in the log. */
async function openStream(network, url, options) {
  const knife = new AbortController(), link = { kind: 'sse', address: network.dialled(url), cut: () => knife.abort() };
  const ended = (how) => network.ended(link, how);
  try {
    if (!network.lets(link)) throw new TypeError('offline');
    const response = await fetch(url, { ...options, signal: AbortSignal.any([options.signal, knife.signal]) });
    if (!response.ok) throw new TypeError(`status ${response.status}`);
    network.opened(link);
    const decoder = new TextDecoder();
    const tap = new TransformStream({
      transform(chunk, passed) {
        network.on.log('in', decoder.decode(chunk, { stream: true }));
        passed.enqueue(chunk);
      },
    });
    response.body.pipeTo(tap.writable).then(() => ended('at its end'), () => ended('broken off'));
    return new Response(tap.readable, response);
  } catch (error) {
    ended(error.message);
    throw error;
  }
}
