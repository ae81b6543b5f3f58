/* The live tail: a sample of the events that arrive. Their data is shown only on request, for one event at a time. */
import { badge, bytes, clock, counted, element, find, setText, span } from './dom.js';
import { openStream, problem, request } from './stream.js';

const MOST = 200; // lines in the page
const TONES = { stored: 'good', duplicate: '', retried: 'wait', dropped: 'bad' };

/* Calls why(user, id) for an event. */
export function createTail({ why, mayWrite, refused }) {
  const lines = find('#lines'), filters = find('#filters'), pause = find('#pause');
  let stream, left = new Map(), timer;

  const take = (line) => {
    if (line.type === 'replicas') {
      const without = [...left.values()].reduce((total, count) => total + count, 0);
      setText(find('#tail-hint'), without ? `${counted(without, 'event')} of the last second left out` : 'live');
      left = new Map();
    } else if (line.type === 'tail') {
      left.set(line.replica, line.left_out);
      lines.prepend(...line.events.map((event) => row(event, line.replica)).reverse());
      while (lines.childElementCount > MOST) lines.lastElementChild.remove();
    }
  };

  const row = (event, replica) => {
    const { at, id, users, user_count: count, kind, place, outcome, reason, detail, size, age } = event;
    const who = count > users.length ? `${users.join(', ')} and ${count - users.length} more` : users.join(', ');
    const facts = [place, kind, ...(size === null ? [] : [bytes(size)]), ...(age === null ? [] : [`${span(Math.max(0, age))} after Kafka`])];
    const actions = element('span', 'actions'), data = element('pre', 'data');
    data.hidden = true;
    if (users.length) actions.append(action('Why?', () => why(users[0], id)));
    if (users.length && mayWrite()) actions.append(action('Data', ({ target }) => unmask(target, data, users[0], id)));
    const node = element('li', '', element('time', '', clock(at)), badge(outcome, TONES[outcome]), element('b', 'who', who || 'no user', element('code', '', id)), actions,
      element('span', 'facts', facts.join(' · ')), ...(reason ? [element('p', 'reason', detail ? `${reason}: ${detail}` : reason)] : []), data);
    node.title = replica;
    return node;
  };

  const unmask = async (button, data, user, id) => {
    if (!data.hidden) {
      data.hidden = true;
      data.textContent = '';
      setText(button, 'Data');
      return;
    }
    try {
      const response = await request(`console/payload?${new URLSearchParams({ user_id: user, event_id: id })}`);
      setText(data, response.ok ? await response.text() : await problem(response));
    } catch (error) {
      setText(data, error.message);
    }
    data.hidden = false;
    setText(button, 'Mask');
  };

  const start = () => {
    stream?.close();
    setText(find('#tail-hint'), 'connecting');
    const query = new URLSearchParams({ show: 'tail', ...Object.fromEntries(new FormData(filters)) });
    stream = openStream(`console/stream?${query}`, { line: take, state: (state) => state === 'waiting' && setText(find('#tail-hint'), 'interrupted'), refused });
  };

  const toggle = () => {
    const isPaused = pause.getAttribute('aria-pressed') !== 'true';
    pause.setAttribute('aria-pressed', String(isPaused));
    setText(pause, isPaused ? 'Go on' : 'Pause');
    if (isPaused) stop();
    else start();
    if (isPaused) setText(find('#tail-hint'), 'paused');
  };

  const stop = () => {
    stream?.close();
    stream = undefined;
  };

  pause.onclick = toggle;
  find('#clear').onclick = () => lines.replaceChildren();
  filters.onsubmit = (event) => event.preventDefault();
  filters.oninput = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      lines.replaceChildren();
      if (stream) start();
    }, 300);
  };
  return { start, stop };
}

function action(text, run) {
  const button = element('button', 'quiet', text);
  button.type = 'button';
  button.onclick = run;
  return button;
}
