/* The form: it publishes a task event as a CloudEvent, as the sidecar would post it. */

import { drawer, element } from './dom.js';
import { tell, when } from './stage.js';
import { TOPIC } from './topics.js';

const IDEAS = ['Buy milk', 'Call the dentist', 'Book the night train', 'Water the plants', 'Return the library books'];

const uuid = () => crypto.randomUUID?.() ?? Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');

export function cloudEvent(user_id, event_type, task_id, title, id = uuid()) {
  return { specversion: '1.0', id, source: 'wsbridge/demo', type: event_type, datacontenttype: 'application/json',
    data: { event_type, user_id, task_id, title, timestamp: new Date().toISOString() } };
}

export class Publisher {
  #form = document.getElementById('publish');
  #fields = this.#form.elements;
  #idea = 0;
  #sent = null;         // the last event that was published here
  #taskId = '';

  /* `browserOf(user)` is for the tasks to choose from, and for what the answer says. */
  constructor(browserOf) {
    this.browserOf = browserOf;
    const { user, type, task, title } = this.#fields;
    let wasKnown = false;
    title.oninput = () => this.refresh();
    user.onchange = type.onchange = () => { this.refresh(); if (!task.disabled || wasKnown) this.#chooseTitle(); wasKnown = !task.disabled; };
    task.onchange = () => this.#chooseTitle();
    this.#form.onsubmit = (event) => { event.preventDefault(); this.#submit(); };
    when('arrived', (arrival) => this.#arrived(arrival));
    when('arrived', drawer(() => this.refresh()));
    this.refresh();
  }

  /* Publish an event about a task. Resolves to whether the bridge has accepted it. */
  publish = async (user, type, taskId, title) => {
    const event = cloudEvent(user, type, taskId, title), started = performance.now();
    const sent = this.#sent = { id: event.id, user, started, tabs: 0, last: 0, status: '', detail: '' };
    tell('published', { user, id: event.id });
    try {
      const response = await fetch(`/events/${TOPIC}`, {
        method: 'POST', headers: { 'content-type': 'application/cloudevents+json' }, body: JSON.stringify(event),
      });
      const body = await response.json().catch(() => ({}));
      sent.status = body.status && response.ok ? String(body.status) : `HTTP ${response.status}`;
      sent.detail = response.ok ? `answered in ${Math.max(1, Math.round(performance.now() - started))} ms` : String(body.detail ?? body.title ?? response.statusText);
    } catch {
      sent.status = 'no answer'; sent.detail = 'The bridge cannot be reached.';
    }
    if (sent.status === 'SUCCESS') tell('accepted', { user, id: event.id });
    if (this.#sent === sent) this.#show();
    return sent.status === 'SUCCESS';
  };

  /* Publish a new task with a title that was not used yet. */
  publishIdea(user) {
    this.#fields.user.value = user;
    this.#fields.type.value = 'task.created';
    this.#fields.title.value = IDEAS[this.#idea];
    this.refresh();
    return this.#submit();
  }

  async #submit() {
    const { user, type, task, title } = this.#fields;
    const created = task.disabled, wasIdea = title.value === IDEAS[this.#idea];
    const done = this.publish(user.value, type.value, task.value, title.value);
    if (created) this.#taskId = '';
    if (created && wasIdea) this.#idea = (this.#idea + 1) % IDEAS.length;
    const next = IDEAS[this.#idea], typed = title.value;
    if (await done && created && wasIdea && title.value === typed) title.value = next;
    this.refresh();
  }

  #arrived({ tab, id }) {
    const sent = this.#sent;
    if (!sent || sent.id !== id) return;
    sent.tabs += 1;
    sent.last = performance.now() - sent.started;
    if (sent.status) this.#show();
  }

  #show() {
    const { status, detail, tabs: reached, last, user } = this.#sent, badge = element('span', 'badge', status);
    badge.dataset.tone = { SUCCESS: 'good', RETRY: 'wait' }[status] ?? 'bad';
    const meaning = { DROP: 'can never be understood', RETRY: 'cannot be stored now; a sidecar would try again' }[status];
    const where = status !== 'SUCCESS' ? '' : reached ? `reached ${reached} ${reached > 1 ? 'tabs' : 'tab'} of ${user} in ${Math.max(1, Math.round(last))} ms`
      : this.browserOf(user).isOpen ? '' : `${user} has no connection now: the event waits in the history`;
    document.getElementById('answer').replaceChildren(badge, [where, meaning, detail].filter(Boolean).join(' · '));
  }

  refresh() { // the tasks to choose from, and the curl line
    const { user, type, task, title } = this.#fields, known = new Map();
    for (const tab of this.browserOf(user.value).tabs) for (const [id, { title }] of tab.tasks) known.set(id, title);
    const fresh = type.value === 'task.created' || !known.size, before = task.value;
    this.#taskId ||= uuid().slice(0, 8);
    const options = fresh ? [new Option('a new one', this.#taskId)] : [...known].reverse().map(([id, title]) => new Option(`${title} (${id})`, id));
    task.replaceChildren(...options);
    if (known.has(before) && !fresh) task.value = before;
    task.disabled = fresh;
    const body = JSON.stringify(cloudEvent(user.value, type.value, task.value, title.value, '\0')).replaceAll("'", "'\\''");
    document.getElementById('curl').textContent = `curl ${location.origin}/events/${TOPIC} -H 'content-type: application/cloudevents+json' -d '${
      body.replace('\\u0000', "curl-'$(date +%s)'")}'`; // an id of its own each time: a second event with the same one is a duplicate
  }

  #chooseTitle() { // an existing task keeps its title until it is edited
    const { user, task, title } = this.#fields;
    const chosen = this.browserOf(user.value).tabs.find((tab) => tab.tasks.has(task.value))?.tasks.get(task.value);
    title.value = chosen?.title ?? IDEAS[this.#idea];
    this.refresh();
  }
}
