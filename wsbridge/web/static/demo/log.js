/* What is on the wire of a user: one line of meaning for each message, which unfolds to the message itself. */

import { drawer, element, setText } from './dom.js';

const MAX_FRAMES = 200, MAX_SHOWN = 8000;

export class Log {
  #pending = [];        // rows, at most MAX_FRAMES of them: a hidden page draws nothing
  #follow = true;       // it stays at its end until it is scrolled up
  #draw = drawer(() => this.draw());

  constructor(list, count) {
    Object.assign(this, { list, count });
    list.onscroll = () => { this.#follow = list.scrollHeight - list.scrollTop - list.clientHeight < 24; };
    this.counted();
  }

  add(way, text, label) {
    this.#pending.push({ way, text, label, at: new Date() });
    if (this.#pending.length > MAX_FRAMES) this.#pending.shift();
    this.#draw();
  }

  draw() {
    this.list.append(...this.#pending.map(row));
    this.#pending = [];
    while (this.list.childElementCount > MAX_FRAMES) this.list.firstElementChild.remove();
    if (this.#follow) this.list.scrollTop = this.list.scrollHeight;
    this.counted();
  }

  clear() { this.#pending = []; this.list.replaceChildren(); this.counted(); }

  counted() {
    const n = this.list.childElementCount;
    setText(this.count, n >= MAX_FRAMES ? `the last ${MAX_FRAMES}` : `${n}`);
  }
}

function row({ way, text, label, at }) {
  const sign = element('span', 'way', { in: '↓', out: '↑', note: '·' }[way]);
  const time = new Date(at - at.getTimezoneOffset() * 60000).toISOString().slice(11, 23);
  sign.setAttribute('aria-hidden', 'true');
  if (way === 'note') return element('div', way, element('p', '', sign, `${time} `, element('b', '', label)));
  const head = element('summary', '', sign, `${time} `, element('span', 'unseen', way === 'in' ? 'received ' : 'sent '), ...meaning(text));
  const size = element('span', 'size', `${new TextEncoder().encode(text).length.toLocaleString('en')} bytes`);
  return element('details', way, head, element('p', '', 'The message', size), coloured(text.trim()));
}

/* The type and the meaning of a message. A chunk of a stream may hold several. */
function meaning(text) {
  const messages = text.startsWith('{') ? [text] : [...text.matchAll(/^data: (.*)$/gm)].map(([, data]) => data);
  const said = messages.map((message) => {
    try { return sentence(JSON.parse(message)); } catch { return ['', 'a part of a message']; }
  });
  if (!said.length) return [element('b', '', 'comment'), ' keeps the stream open'];
  return said.flatMap(([type, what], number) => [number ? ' · ' : '', element('b', '', type), ` ${what}`]);
}

function sentence({ type, id, event, recovered, reason, reconnect }) {
  const what = {
    connected: () => (recovered ? 'it continues where it was' : 'a new session'),
    gap: () => `events are missing: ${reason}`,
    goodbye: () => (reconnect ? 'the server stops: open the next connection' : 'the session ends'),
    ping: () => 'are you there?',
    pong: () => 'yes',
    token_refreshed: () => 'the new token is accepted',
  }[type] ?? (() => [event?.event_type, typeof event?.title === 'string' && `“${event.title}”`, id && `at ${id}`].filter(Boolean).join(' '));
  return [String(type), what()];
}

/* JSON verbatim, with colours; lines break between its pairs if possible. */
const SCALAR = '"(?:[^"\\\\]|\\\\.)*"|-?\\d[\\d.eE+-]*|\\b(?:true|false|null)\\b';
const PAIR = new RegExp(`("(?:[^"\\\\]|\\\\.)*"\\s*:\\s*)(?:(${SCALAR})([,}\\]]*))?|(${SCALAR})`, 'g');

function coloured(text) {
  const pre = element('pre'), shown = text.slice(0, MAX_SHOWN);
  let end = 0;
  const kind = (token) => (token?.startsWith('"') ? 's' : 'n');
  for (const { 0: all, 1: key, 2: value, 3: after, 4: alone, index } of shown.matchAll(PAIR)) {
    pre.append(shown.slice(end, index), alone ? element('span', kind(alone), alone)
      : element('span', 'pair', element('span', 'k', key), element('span', kind(value), value ?? ''), after ?? ''));
    end = index + all.length;
  }
  pre.append(shown.slice(end));
  if (text.length > MAX_SHOWN) pre.append(element('em', '', ` … ${(text.length - MAX_SHOWN).toLocaleString('en')} more characters`));
  return pre;
}
