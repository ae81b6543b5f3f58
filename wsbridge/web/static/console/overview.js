/* The numbers of all replicas: tiles, latency, closes, and one line for each replica. */
import { badge, bytes, chart, counted, element, find, number, setText, span } from './dom.js';

const TILES = { // name → [title, value, note, least top of the chart, field of the history]
  connections: ['Connections', (now) => number(now.connections), (now) => counted(now.users, 'user')],
  events: ['Events in', (now) => number(now.events), (now) => (now.unaccepted ? `${number(now.unaccepted)}/s not new or not accepted` : 'all stored'), '/s'],
  deliveries: ['Deliveries out', (now) => number(now.deliveries), (now) => `${bytes(now.sent)}/s`, '/s'],
  queue: ['Queue', (now) => number(now.queue), (now) => `${Math.round(now.fullness * 100)} % full`],
  unsent: ['Unsent', (now) => bytes(now.unsent), () => 'waits for slow peers'],
  cpu: ['CPU', (now) => `${(now.cpu * 100).toFixed(now.cpu < 0.1 ? 1 : 0)} %`, () => 'of one core, busiest replica'],
};
const LEAST = { connections: 5, events: 5, deliveries: 5, queue: 10, unsent: 10_000, cpu: 0.1 };
const STAGES = {
  kafka: ['Kafka → bridge', 'from the time in Kafka to the receipt here'],
  history: ['Bridge → history', 'from the receipt to the history and back'],
  socket: ['History → socket', 'from the history to the write to the sockets'],
  delivery: ['Kafka → socket', 'the sum of these stages'],
  redis: ['Redis round trip', 'from a call to its answer'],
  loop_lag: ['Event loop lag', 'by how much timers are late'],
};
const MOST_CLOSES = 8;

export function createOverview() {
  const tiles = Object.entries(TILES).map(([name, [title, , , unit]]) => {
    const value = element('strong', '', '–'), note = element('span', 'note'), spark = chart(`${title}, the last 2 minutes`);
    find('#tiles').append(element('article', 'card tile', element('h2', '', title), element('p', '', value, element('span', 'unit', unit ?? '')), note, spark.node));
    return { name, value, note, spark };
  });
  const stages = Object.entries(STAGES).map(([name, [title, text]]) => {
    const median = element('span', 'value'), most = element('span', 'value strong'), spark = chart(`${title}, 99 %, the last 2 minutes`);
    const heading = element('span', 'stage', title);
    heading.title = text;
    find('#stages').append(element('div', 'line', heading, spark.node, median, most));
    return { name, median, most, spark };
  });

  const drawTiles = ({ history }) => {
    const now = history.at(-1);
    for (const { name, value, note, spark } of tiles) {
      const [, show, tell] = TILES[name];
      setText(value, show(now));
      setText(note, tell(now));
      spark.draw(history.map((look) => look[name]), LEAST[name]);
    }
  };

  const drawStages = ({ history }) => {
    const show = (seconds, last) => (seconds === null || seconds === undefined ? '–' : seconds >= last ? `> ${span(last)}` : span(seconds));
    for (const { name, median, most, spark } of stages) {
      const found = history.at(-1).latency[name];
      setText(median, show(found?.median, found?.last));
      setText(most, show(found?.most, found?.last));
      spark.draw(history.map(({ latency }) => latency[name]?.most ?? null), 0.001);
    }
  };

  const drawCloses = ({ history }) => {
    const now = history.at(-1).closes, before = history[0].closes;
    const found = Object.entries(now).sort(([, one], [, other]) => other - one), top = found[0]?.[1];
    const bar = ([name, count]) => {
      const fill = element('span', 'fill'), recent = count - (before[name] ?? 0);
      fill.style.inlineSize = `${Math.max(1, (count / top) * 100)}%`;
      return element('li', '', fill, element('span', 'name', name), element('span', 'recent', recent ? `+${number(recent)}` : ''), element('span', 'count', number(count)));
    };
    const rest = found.slice(MOST_CLOSES).reduce((total, [, count]) => total + count, 0);
    find('#closes').replaceChildren(...found.slice(0, MOST_CLOSES).map(bar),
      ...(rest ? [element('li', '', element('span', 'name', 'others'), element('span', 'count', number(rest)))] : []),
      ...(found.length ? [] : [element('li', 'empty', 'No connection has ended')]));
  };

  const drawReplicas = ({ replicas, rate }, { missing, silent, text }) => {
    const rows = [...replicas].sort(([one], [other]) => (one < other ? -1 : 1)).map(([name, replica]) => {
      const { now, isSilent } = replica, [tone, state, why] = stateOf(now, isSilent);
      const events = rate(replica, ({ events: counts }) => Object.values(counts).reduce((a, b) => a + b, 0));
      const facts = isSilent ? `last heard ${span(Math.max(0, Date.now() / 1000 - now.at))} ago`
        : [counted(now.connections, 'connection'), `${number(events)} events/s`, `up ${span(now.uptime)}`, now.version].join(' · ');
      return element('li', '', element('span', 'name', name), badge(state, tone), element('span', 'facts', facts), ...(why ? [element('span', 'why', why)] : []));
    });
    const unknown = missing - silent.length;
    if (unknown > 0) rows.push(element('li', '', element('span', 'name', `${counted(unknown, 'other replica')}`), badge('no answer', 'bad')));
    find('#replicas').replaceChildren(...rows);
    setText(find('#replicas-hint'), text);
  };

  const drawHealth = ({ replicas, history }, { missing }) => {
    const states = [...replicas.values()].map(({ now, isSilent }) => stateOf(now, isSilent)), { connections } = history.at(-1);
    const worst = missing ? ['bad', `${counted(missing, 'replica')} without an answer`] : ['bad', 'wait', 'good'].map((tone) => states.find(([found]) => found === tone)).find(Boolean) ?? ['wait', 'no numbers yet'];
    const health = find('#health');
    health.dataset.tone = worst[0];
    setText(health, `${worst[1]} · ${counted(connections, 'connection')}`);
  };

  const draw = (totals, look) => {
    drawTiles(totals);
    drawStages(totals);
    drawCloses(totals);
    drawReplicas(totals, look);
    drawHealth(totals, look);
  };
  return { draw };
}

/* The tone, the state in a word, and what is wrong. */
function stateOf({ draining, checks }, isSilent) {
  const shown = Object.entries(checks).filter(([name, found]) => found !== 'ok' && name !== 'lifecycle');
  const wrong = shown.map(([name, found]) => `${name}: ${found}`).join('; '), passes = shown.every(([, found]) => found.startsWith('ok,'));
  if (isSilent) return ['bad', 'no answer', ''];
  if (draining) return ['wait', 'draining', wrong];
  return passes ? ['good', 'healthy', wrong] : ['wait', 'degraded', wrong];
}
