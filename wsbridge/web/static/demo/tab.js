/* One tab: a client and its view. */

import { counted, drawer, element, instance, LINK, setText, STILL } from './dom.js';
import { tell } from './stage.js';
import { TYPES } from './topics.js';

const MEANING = {
  1000: 'closed normally', 1001: 'the other side closed', 1002: 'a protocol error', 1003: 'binary frames are not accepted',
  1005: 'closed without a code', 1006: 'the connection broke, or cannot be opened', 1007: 'text that is not UTF-8',
  1008: 'too many invalid messages', 1009: 'a message over 16 KiB', 1011: 'an error in the bridge',
  1012: 'the server is shutting down', 1013: 'the bridge is full, or cannot read histories now', 4401: 'no valid token',
  4408: 'this tab did not read fast enough', 4429: 'too many connections of this user', 4500: 'no user id, or one that is too long',
  4503: 'the token belongs to another user, or this origin is not allowed', 4509: 'an operator ended the session',
};
const TONE = { idle: 'wait', connecting: 'wait', open: 'good', waiting: 'wait', closed: 'bad' };
const MAX_TASKS = 100;

export class Tab {
  tasks = new Map();    // task_id → {title, done, late}, the last touched at the end
  #rows = new Map();
  #touched = new Set();
  #since = '';          // when the connection opened: older updates arrived late, in a replay
  #late = 0;
  changed = drawer(() => this.draw());

  /* `publish(user, type, taskId, title)` is for the boxes of tasks. */
  constructor(browser, name, client, publish) {
    Object.assign(this, { browser, name, client, publish, node: instance('tab') });
    const { user } = browser;
    this.find = (selector) => this.node.querySelector(selector);
    this.node.setAttribute('aria-label', `${user}, ${name}`);
    this.find('h3').append(name);
    this.find('.tasks').setAttribute('aria-label', `Tasks of ${user}, ${name}`);
    this.find('.gap button').onclick = () => { this.find('.gap').hidden = true; };

    for (const type of TYPES) client.on(type, (update) => this.apply(update));
    client.on('connected', (frame) => this.connected(frame));
    client.on('gap', (gap) => this.gap(gap));
    client.on('goodbye', ({ reconnect }) => reconnect && this.say('The server is shutting down. The next connection opens first.'));
    client.on('state', () => { this.changed(); tell('state', { tab: this }); });
    this.find('.toggle').onclick = () => (this.off ? client.connect() : client.close());
  }

  get off() { return ['idle', 'closed'].includes(this.client.state.status); }

  connected({ recovered, timestamp }) {
    this.#since = timestamp;
    this.#late = 0;
    this.say(recovered ? 'Resumed: nothing was missed.' : '');
  }

  apply({ event, event_id, timestamp }) {
    const { task_id, title, event_type } = event;
    if (task_id === undefined) return; // not a task: the log shows it
    const id = String(task_id), known = title ?? this.tasks.get(id)?.title ?? 'Untitled', late = timestamp < this.#since;
    this.tasks.delete(id);
    this.tasks.set(id, { title: typeof known === 'string' ? known : JSON.stringify(known), done: event_type === 'task.completed', late });
    if (this.tasks.size > MAX_TASKS) this.tasks.delete(this.tasks.keys().next().value);
    this.#touched.add(id);
    if (late) this.say(`Resumed: ${counted(++this.#late, 'update')} arrived late.`);
    tell('arrived', { tab: this, id: event_id, late });
    this.changed();
  }

  gap({ reason }) {
    setText(this.find('.gap p'), `Gap (${reason}): missed events are no longer kept. An app loads its state again here.`);
    this.find('.gap').hidden = false;
    this.say('');
    tell('gap', { tab: this });
  }

  say(news) { setText(this.find('.news'), news); }

  draw() {
    const { state, position } = this.client, toggle = this.find('.toggle'), label = this.off ? 'Connect' : 'Disconnect';
    this.find('.badge').dataset.tone = TONE[state.status];
    this.tick();
    setText(this.find('.position'), position || '–');
    setText(this.find('.why'), this.why(state));
    setText(toggle, label);
    toggle.setAttribute('aria-label', `${label} ${this.browser.user}, ${this.name}`);
    if (this.#touched.size) this.drawTasks();
    if (state.status !== 'open') this.say('');
    this.browser.draw();
  }

  tick() { // the badge alone, a few times a second while it counts down
    const { status, attempt, retryAt, code = '' } = this.client.state;
    const left = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
    setText(this.find('.badge'), status === 'waiting' ? `retry ${attempt} in ${left} s` : status === 'closed' ? `closed ${code}`.trim() : status);
  }

  why({ status, transport, code, reason }) {
    const ended = code ? `${code}${reason && ` ${reason}`}: ${MEANING[code] ?? 'a code that this page does not know'}.` : '';
    if (status === 'closed') return ended ? `${ended} Does not reconnect.` : 'Disconnected here.';
    if (status !== 'open') return ended ? `${ended} Reconnects by itself.` : 'Opening a connection.';
    if (transport === 'sse') return 'An event stream, because WebSockets failed. It tries one again later.';
    return transport === 'tab' ? `Through ${this.browser.leader()}.` : `Has the ${LINK.websocket}.`;
  }

  drawTasks() {
    const list = this.find('.tasks');
    for (const id of this.#touched) {
      const task = this.tasks.get(id);
      if (!task) continue;
      this.find('.empty')?.remove();
      const row = this.#rows.get(id) ?? this.row(id);
      row.title.textContent = task.title;
      row.label.className = task.done ? 'done' : '';
      row.box.checked = task.done;
      row.late.hidden = !task.late;
      if (!STILL.matches) row.label.animate([{ background: 'var(--flash)' }, { background: 'var(--flash)', offset: .25 }, { background: 'transparent' }], 1600);
      if (!row.node.isConnected) { list.prepend(row.node); list.scrollTop = 0; }
    }
    this.#touched.clear();
    for (const [id, row] of this.#rows) if (!this.tasks.has(id)) { row.node.remove(); this.#rows.delete(id); }
  }

  row(id) {
    const box = element('input'), title = element('span', 'title'), late = element('span', 'late', '↺ late');
    const label = element('label', '', box, title, late, element('code', '', id));
    box.type = 'checkbox';
    box.onclick = (event) => { // the box changes when the event has come back through the bridge, in every tab at once
      event.preventDefault();
      const { title, done } = this.tasks.get(id);
      this.publish(this.browser.user, done ? 'task.updated' : 'task.completed', id, title);
    };
    const row = { box, title, late, label, node: element('li', '', label) };
    this.#rows.set(id, row);
    return row;
  }
}
