/* The chain as a picture. Events travel along it slower than in truth, lines show the networks, and events that a user
   without a connection has to get later wait beside the bridge. */

import { counted, element, LINK, setText, STILL } from './dom.js';
import { when } from './stage.js';

const HOP = 260;        // ms
const MAX_DOTS = 8;     // of a pile
const MAX_KEPT = 500;   // ids

export class Picture {
  #node = document.getElementById('chain');
  #find = (selector) => this.#node.querySelector(selector);
  #entered = new Map();   // id → when its dot reaches the bridge
  #waiting = new Map();   // user → ids of the accepted events that no tab has yet
  #linked = new Map();    // user → the link that was open at the last look

  constructor(browsers) {
    this.browsers = browsers;
    for (const { user, tabs } of browsers) {
      const edge = element('div', 'edge', element('span', 'how'), element('span', 'pile'));
      const ends = element('div', 'ends', ...tabs.map(({ name }) => element('span', 'end', name)));
      edge.dataset.user = ends.dataset.user = user;
      ends.prepend(element('b', '', user));
      this.#find('.fan').append(edge, ends);
      this.#waiting.set(user, new Set());
    }
    when('published', ({ id }) => this.#enter(id, '.backend', '.kafka', '.bridge'));
    when('accepted', ({ user, id }) => { if (!this.#browser(user).isOpen) this.#waiting.get(user).add(id); this.#draw(); });
    when('arrived', (arrival) => this.#arrive(arrival));
    when('network', () => this.#draw());
    when('state', () => this.#draw());
    this.#draw();
  }

  #browser(user) { return this.browsers.find((browser) => browser.user === user); }

  #enter(id, ...stops) {
    this.#entered.set(id, performance.now() + HOP * (stops.length - 1));
    if (this.#entered.size > MAX_KEPT) this.#entered.delete(this.#entered.keys().next().value);
    this.#travel('', ...stops.map(this.#find));
  }

  #arrive({ tab, id }) {
    const { user, tabs } = tab.browser;
    if (!this.#entered.has(id)) this.#enter(id, '.kafka', '.bridge'); // published elsewhere, with curl or by a sidecar
    const end = this.#find(`.ends[data-user=${user}]`).children[1 + tabs.indexOf(tab)];
    setTimeout(() => {
      this.#travel(user, this.#find('.bridge'), end);
      this.#waiting.get(user).delete(id);
      this.#draw();
    }, Math.max(0, this.#entered.get(id) - performance.now()));
  }

  /* A dot from node to node. */
  #travel(user, ...nodes) {
    if (STILL.matches || document.hidden) return;
    const home = this.#node.getBoundingClientRect(), dot = element('i', 'dot');
    if (user) dot.dataset.user = user;
    const frames = nodes.filter((node) => node.getClientRects().length).map((node) => {
      const { left, top, width, height } = node.getBoundingClientRect();
      return { transform: `translate(${left + width / 2 - home.left}px, ${top + height / 2 - home.top}px)` };
    });
    this.#node.append(dot);
    dot.animate(frames, { duration: HOP * (frames.length - 1), easing: 'linear' }).onfinish = () => dot.remove();
  }

  #draw() {
    for (const browser of this.browsers) {
      const { user, link, isOpen, network: { mode } } = browser, edge = this.#find(`.edge[data-user=${user}]`);
      const waiting = this.#waiting.get(user).size, before = this.#linked.get(user);
      edge.dataset.state = mode === 'offline' ? 'broken' : link ? link.kind : isOpen ? 'websocket' : 'none';
      setText(edge.querySelector('.how'), mode === 'offline' ? 'offline' : link ? LINK[link.kind] : isOpen ? 'through another page' : 'no connection');
      const pile = edge.querySelector('.pile');
      pile.style.setProperty('--dots', Math.min(waiting, MAX_DOTS));
      setText(pile, waiting ? `${counted(waiting, 'event')} ${waiting > 1 ? 'wait' : 'waits'}` : '');
      if (link && link !== before) this.#travel(user, this.#find(`.ends[data-user=${user}]`), this.#find('.bridge'), this.#find(`.ends[data-user=${user}]`));
      this.#linked.set(user, link);
    }
  }
}
