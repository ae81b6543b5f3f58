/* The console: signs in, and passes each line of the stream to the part that shows it. */
import { find, setText } from './dom.js';
import { openStream, setToken } from './stream.js';
import { createTotals } from './totals.js';
import { createOverview } from './overview.js';
import { createTable } from './table.js';
import { createDetails } from './details.js';
import { createTail } from './tail.js';
import { createPublish, createWhy } from './why.js';

let hello = {}, totals = createTotals(), stream, latest;
const mayWrite = () => hello.role === 'read-write';
const why = createWhy(), overview = createOverview(), details = createDetails({ mayWrite }), table = createTable(details);
const tail = createTail({ why: why.ask, mayWrite, refused: (text) => leave(text) });
createPublish({ ask: why.ask, settings: () => hello });

const HANDLERS = {
  hello: (line) => {
    const isFirst = hello.role === undefined;
    hello = line;
    enter(isFirst);
  },
  numbers: (line) => totals.take(line),
  connections: (line) => table.take(line),
  replicas: (line) => {
    totals.finish(line);
    table.finish(totals.replicas);
    latest = line;
    if (!document.hidden) overview.draw(totals, line);
  },
};

function enter(isFirst) {
  find('#login').hidden = true;
  find('#console').hidden = false;
  find('#role').hidden = false;
  find('#leave').hidden = !find('meta[name=wsbridge-needs-token]').content;
  setText(find('#role'), hello.role);
  for (const control of find('#publish').elements) control.disabled = !mayWrite();
  if (!mayWrite()) setText(find('#published'), 'A viewer may not publish.');
  if (!isFirst) return;
  find('#publish').elements.topic.replaceChildren(...Object.keys(hello.topics).map((topic) => new Option(topic)));
  find('#filters').elements.kind.replaceChildren(new Option('All types', ''), ...[...new Set(Object.values(hello.topics))].map((kind) => new Option(kind)));
  tail.start();
}

function leave(text = '') {
  stream?.close();
  tail.stop();
  setToken('');
  hello = {};
  totals = createTotals();
  table.finish(totals.replicas);
  for (const list of ['#lines', '#answer']) find(list).replaceChildren();
  find('#console').hidden = find('#role').hidden = find('#leave').hidden = true;
  find('#login').hidden = false;
  setText(find('#login .problem'), text);
  find('#login').elements.token.value = '';
  find('#login').elements.token.focus();
  setHealth('wait', 'not connected');
}

function setHealth(tone, text) {
  find('#health').dataset.tone = tone;
  setText(find('#health'), text);
}

function start() {
  stream?.close();
  stream = openStream('console/stream?show=numbers,connections', {
    line: (line) => HANDLERS[line.type]?.(line),
    state: (state, text) => {
      find('#notice').hidden = state === 'open';
      if (state !== 'open') {
        setText(find('#notice'), `The stream is interrupted (${text}). Trying again.`);
        setHealth('bad', 'no connection to the bridge');
      }
    },
    refused: leave,
  });
}

find('#login').onsubmit = (event) => {
  event.preventDefault();
  const token = find('#login').elements.token.value.trim();
  if (!/^[\x20-\x7e]+$/.test(token)) { // no header can have it
    setText(find('#login .problem'), 'A token has letters, digits and signs of ASCII only. Copy it again.');
    return;
  }
  setToken(token);
  start();
};
find('#leave').onclick = () => leave();
document.addEventListener('visibilitychange', () => { if (!document.hidden && latest) overview.draw(totals, latest); });

if (find('meta[name=wsbridge-needs-token]').content) leave();
else start();
