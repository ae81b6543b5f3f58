/* The four steps. Each ticks itself off when it has really happened: by its button, by the controls below, or by curl. */

import { element, setText } from './dom.js';
import { when } from './stage.js';

const WAITING = 2;      // events to publish while alice is offline
const MAX_IDS = 500;    // of each tab; a search for one takes time with each event

export class Story {
  #done = new Set();
  #got = new Map();     // tab → ids of the latest events that have arrived, in order
  #missed = [];         // ids that the bridge has accepted while alice was offline
  #steps = [];

  constructor(alice, bob, publisher) {
    Object.assign(this, { alice, bob, publisher });
    for (const tab of [...alice.tabs, ...bob.tabs]) this.#got.set(tab, []);
    this.#steps = [
      { name: 'publish', title: 'Publish', text: 'A task of alice shows in both of her tabs, and not in bob’s.',
        next: () => ['Publish for alice', () => publisher.publishIdea('alice')] },
      { name: 'offline', title: 'Unplug', text: 'alice goes offline, and two tasks are published.',
        next: () => (alice.network.mode === 'offline' ? [`Publish ${this.#missed.length ? 'the second' : 'the first'}`, () => publisher.publishIdea('alice')]
          : ['Unplug alice', () => alice.network.set('offline')]) },
      { name: 'resume', title: 'Plug in', text: 'Both arrive: late, once, in order.',
        next: () => (alice.network.mode === 'offline' ? ['Plug alice in', () => alice.network.set('online')] : null) },
      { name: 'stream', title: 'Block WebSockets', text: 'An event stream takes over. Publish once more.',
        next: () => (alice.network.mode !== 'no WebSockets' ? ['Block WebSockets', () => alice.network.set('no WebSockets')]
          : alice.link?.kind === 'sse' ? ['Publish for alice', () => publisher.publishIdea('alice')] : null) },
    ];
    const list = document.getElementById('steps');
    for (const step of this.#steps) {
      step.button = element('button', 'do');
      step.button.type = 'button';
      step.button.onclick = () => step.next()?.[1]();
      step.node = element('li', '', element('strong', '', step.title), element('p', '', step.text), step.button);
      step.tick = element('span', 'unseen', '');
      step.node.append(step.tick);
      list.append(step.node);
    }
    when('accepted', ({ user, id }) => { if (user === 'alice' && alice.network.mode === 'offline') this.#missed.push(id); this.#look(); });
    when('arrived', ({ tab, id }) => {
      const ids = this.#got.get(tab);
      if (ids.push(id) > MAX_IDS) ids.shift();
      this.#look(id);
    });
    when('gap', () => { this.#missed = []; if (!this.#done.has('resume')) this.#done.delete('offline'); this.#look(); }); // they will never arrive
    when('network', () => this.#look());
    when('state', () => this.#look());
    this.#look();
  }

  #look(id) {
    const { alice, bob } = this, has = (tab) => id && this.#got.get(tab).includes(id), online = alice.network.mode !== 'offline';
    if (alice.tabs.every(has) && !bob.tabs.some(has)) {
      this.#done.add('publish');
      if (alice.network.mode === 'no WebSockets') this.#done.add('stream');
    }
    if (this.#missed.length >= WAITING) this.#done.add('offline');
    if (online && this.#done.has('offline') && alice.tabs.every((tab) => this.#isComplete(tab))) this.#done.add('resume');
    if (online && this.#missed.length && (this.#done.has('resume') || this.#missed.length < WAITING) && alice.isOpen) this.#missed = [];
    this.#draw();
  }

  #isComplete(tab) { // each of the missed events once, in the order of their publication
    return this.#got.get(tab).filter((id) => this.#missed.includes(id)).join() === this.#missed.join();
  }

  #draw() {
    const current = this.#steps.find(({ name }) => !this.#done.has(name));
    for (const step of this.#steps) {
      const { node, button, tick, name } = step, done = this.#done.has(name), [label] = step.next() ?? [''];
      node.dataset.done = done;
      if (step === current) node.setAttribute('aria-current', 'step'); else node.removeAttribute('aria-current');
      setText(tick, done ? 'done' : '');
      button.hidden = step !== current || !label;
      setText(button, label);
    }
    document.getElementById('story').dataset.over = !current;
  }
}
