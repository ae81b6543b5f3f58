/* "Why did an event arrive, or not?" with its stations drawn as a line, and the form that publishes a test event. */
import { badge, element, find, setText } from './dom.js';
import { problem, request } from './stream.js';

const TONES = { delivered: 'good', stored: 'wait', partly_delivered: 'wait', retried: 'wait', dropped: 'bad', never_received: 'bad' };
const STATIONS = { received: 'accent', relayed: 'accent', written: 'good', replayed: 'good', gap: 'bad', closed: 'bad' };

export function createWhy() {
  const form = find('#why'), answer = find('#answer');

  const ask = async (user, id) => {
    form.elements.user.value = user;
    form.elements.id.value = id;
    answer.replaceChildren(element('p', 'hint', 'Asking all replicas …'));
    try {
      const response = await request(`user/events?${new URLSearchParams({ user_id: user, event_id: id })}`);
      if (response.ok) show(await response.json());
      else answer.replaceChildren(element('p', 'problem', await problem(response)));
    } catch (error) {
      answer.replaceChildren(element('p', 'problem', error.message));
    }
  };

  const show = ({ code, answer: text, stations }) => {
    const start = stations.length ? Date.parse(stations[0].at) : 0;
    const begin = Date.parse(stations.find(({ name }) => name === 'received')?.at) || start;
    const stops = stations.map(({ at, name, replica, text: what, session }) => {
      const node = element('li', '', element('b', '', name), element('span', 'delta', delta(Date.parse(at) - begin)), element('span', 'what', what), element('span', 'where', session ? `${replica} ${session}` : replica));
      node.dataset.tone = STATIONS[name] ?? '';
      node.title = at;
      return node;
    });
    answer.replaceChildren(element('p', 'verdict', badge(code.replaceAll('_', ' '), TONES[code]), ` ${text}`), element('ol', 'line-map', ...stops));
  };

  form.onsubmit = (event) => {
    event.preventDefault();
    ask(form.elements.user.value, form.elements.id.value);
  };
  return { ask: (user, id) => { find('#why-title').scrollIntoView({ block: 'nearest' }); return ask(user, id); } };
}

const delta = (ms) => (Math.abs(ms) < 10_000 ? `${ms < 0 ? '−' : '+'}${Math.abs(ms)} ms` : `${ms < 0 ? '−' : '+'}${Math.round(Math.abs(ms) / 1000)} s`);

/* Publishes an event to the bridge itself, then asks what happened to it. `settings` are of the stream's first line. */
export function createPublish({ ask, settings }) {
  const form = find('#publish'), output = find('#published');

  form.onsubmit = async (event) => {
    event.preventDefault();
    const { user, topic, data } = form.elements;
    let content;
    try {
      content = JSON.parse(data.value);
      if (content === null || typeof content !== 'object' || Array.isArray(content)) throw new Error('it is not an object');
    } catch (error) {
      setText(output, `The data must be a JSON object: ${error.message}`);
      return;
    }
    const id = `console-${crypto.getRandomValues(new Uint32Array(2)).join('-')}`;
    const [envelope, headers] = addressed(user.value, content, settings().user_field);
    const body = { specversion: '1.0', id, source: 'wsbridge-console', type: String(content.event_type ?? 'test.event'), time: new Date().toISOString(), datacontenttype: 'application/json', ...envelope };
    try {
      const response = await request(`console/events/${encodeURIComponent(topic.value)}`, { method: 'POST', body: JSON.stringify(body), headers: { 'Content-Type': 'application/cloudevents+json', ...headers } });
      if (!response.ok) throw new Error(await problem(response));
      const { status, reason } = await response.json();
      setText(output, `${status}${reason ? `: ${reason}` : ''} · id ${id}`);
      await ask(user.value, id);
    } catch (error) {
      setText(output, error.message);
    }
  };
}

/* The event with its user where the bridge looks for it, and the headers that this takes. */
function addressed(user, content, field) {
  if (field === '@subject') return [{ subject: user, data: content }, {}];
  if (field === '@key') return [{ data: content }, { __key: user }];
  const path = field.split('.'), last = path.pop();
  let inner = content;
  for (const name of path) inner = inner[name] = { ...inner[name] };
  inner[last] = user;
  return [{ data: content }, {}];
}
