/* One user's browser: tabs that share a network. */

import { counted, element, instance, LINK, setText } from './dom.js';
import { Log } from './log.js';
import { MODES, Network } from './network.js';
import { tell } from './stage.js';
import { Tab } from './tab.js';

export class Browser {
  /* `connect({userId, WebSocket, fetch})` makes the client of a tab, `publish` publishes for its boxes. */
  constructor(user, names, connect, publish) {
    Object.assign(this, { user, node: instance('browser') });
    this.find = (selector) => this.node.querySelector(selector);
    this.node.dataset.user = user;
    this.node.setAttribute('aria-label', `${user}’s browser`);
    this.find('.avatar').append(user[0]);
    this.find('.whose').append(user);
    const log = new Log(this.find('.log'), this.find('.count'));
    this.find('.log').setAttribute('aria-label', `On the wire of ${user}`);
    this.find('.clear').setAttribute('aria-label', `Clear what was on the wire of ${user}`);
    this.find('.clear').onclick = () => log.clear();

    const network = this.network = new Network(user, { log: (...what) => log.add(...what), changed: () => { this.draw(); tell('network', { browser: this }); } });
    this.find('.modes').setAttribute('aria-label', `Network of ${user}`);
    this.modes = MODES.map((mode) => {
      const radio = element('input'), label = element('label', '', radio, element('span', '', mode));
      Object.assign(radio, { type: 'radio', name: `network of ${user}`, value: mode, onchange: () => network.set(mode) });
      this.find('.modes').append(label);
      return radio;
    });

    this.tabs = names.map((name) => {
      const client = connect({ userId: user, WebSocket: network.WebSocket, fetch: network.fetch });
      return new Tab(this, name, client, publish);
    });
    this.find('.tabs').append(...this.tabs.map((tab) => tab.node));
  }

  get link() { return [...this.network.links][0]; }

  get isOpen() { return this.tabs.some(({ client }) => client.state.status === 'open'); } // also through another page

  leader() { // the tab whose connection the others share
    const tab = this.tabs.find(({ client }) => client.state.transport in LINK);
    return tab ? `the ${LINK[tab.client.state.transport]} of ${tab.name}` : 'a tab of another page';
  }

  draw() {
    const { mode, links, address } = this.network, { link } = this, badge = this.find('.line .badge'), off = mode === 'offline';
    const on = this.tabs.filter((tab) => !tab.off);
    badge.dataset.tone = off ? 'bad' : link || this.isOpen ? 'good' : 'wait';
    const forTabs = this.tabs.length > 1 ? ` for ${counted(on.length, 'tab')}` : '';
    setText(badge, off ? 'offline' : link ? counted(links.size, LINK[link.kind]) + forTabs : this.isOpen ? 'shared with another page' : 'no connection');
    setText(this.find('.address'), this.find('.address').title = link?.address ?? address); // of the connection that is open, not of one that is tried
    for (const radio of this.modes) radio.checked = radio.value === mode;
  }
}
