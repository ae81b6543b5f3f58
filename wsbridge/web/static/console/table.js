/* The table of connections. Only the rows in view are in the document, so that thousands of them stay smooth. */
import { counted, element, find, setText, span, bytes } from './dom.js';

const age = (row) => Date.now() / 1000 - row.since;
const COLUMNS = { // name → [title, text, sort key, whether the largest come first]
  user: ['User', (row) => row.user, (row) => row.user],
  transport: ['Transport', (row) => (row.transport === 'websocket' ? 'WebSocket' : 'stream'), (row) => row.transport],
  age: ['Age', (row) => span(Math.max(0, age(row))), (row) => -row.since],
  trip: ['Round trip', (row) => (row.trip === null ? '–' : span(row.trip / 1000)), (row) => row.trip ?? -1, true],
  unsent: ['Unsent', (row) => (row.unsent ? bytes(row.unsent) : '0'), (row) => row.unsent, true],
  position: ['Position', (row) => row.position, (row) => row.position],
  address: ['Address', (row) => row.address, (row) => row.address],
  replica: ['Replica', (row) => row.replica, (row) => row.replica],
  agent: ['Agent', (row) => row.agent, (row) => row.agent],
};
const HOVERS = matchMedia('(hover: hover)'); // on a phone, `:hover` stays after a tap
const SPARE = 6; // rows above and below the visible ones

/* Calls open(row, all rows of its user) when a row is chosen. */
export function createTable({ open }) {
  const rows = new Map(); // replica and session → row
  const leftOut = new Map(); // replica → number of connections without a row
  const viewport = find('#viewport'), body = find('#rows'), search = find('#search'), pool = [];
  let view = [], sort = 'age', isDown = false, due = false, stale = true;

  for (const [name, [title, , , largestFirst]] of Object.entries(COLUMNS)) {
    const button = element('button', 'quiet', title), cell = element('span', name, button);
    cell.setAttribute('role', 'columnheader');
    button.type = 'button';
    button.onclick = () => {
      isDown = sort === name ? !isDown : Boolean(largestFirst);
      sort = name;
      arrange();
    };
    find('#columns').append(cell);
  }

  const take = ({ replica, reset, opened, changed, closed, left_out: left }) => {
    if (reset) drop(replica);
    const key = (session) => `${replica} ${session}`;
    for (const [session, position, unsent, trip, user, transport, since, address, agent] of opened) {
      const text = [user, address, agent, session, position, replica].join('\n').toLowerCase();
      rows.set(key(session), { key: key(session), replica, session, position, unsent, trip, user, transport, since, address, agent, text });
    }
    for (const [session, position, unsent, trip] of changed) Object.assign(rows.get(key(session)) ?? {}, { position, unsent, trip });
    for (const session of closed) rows.delete(key(session));
    leftOut.set(replica, left);
    stale = true;
  };

  const drop = (replica) => {
    for (const [key, row] of rows) if (row.replica === replica) rows.delete(key);
    leftOut.delete(replica);
    stale = true;
  };

  /* Ends a look. Rows do not move while the pointer is on them. */
  const finish = (replicas) => {
    for (const name of [...leftOut.keys()]) if (!replicas.has(name)) drop(name);
    find('.table').classList.toggle('many', leftOut.size > 1);
    if (stale && !(HOVERS.matches && viewport.matches(':hover') && view.length > 1)) arrange();
    else {
      view = view.filter((row) => rows.has(row.key));
      drawSoon();
    }
  };

  const arrange = () => {
    const wanted = search.value.trim().toLowerCase(), key = COLUMNS[sort][2], way = isDown ? -1 : 1;
    stale = false;
    view = [...rows.values()].filter((row) => !wanted || row.text.includes(wanted));
    for (const row of view) row.by = key(row);
    view.sort((one, other) => (one.by < other.by ? -way : one.by > other.by ? way : one.key < other.key ? -1 : 1));
    [...find('#columns').children].forEach((cell, place) => {
      const isSorted = Object.keys(COLUMNS)[place] === sort;
      cell.setAttribute('aria-sort', isSorted ? (isDown ? 'descending' : 'ascending') : 'none');
    });
    drawSoon();
  };

  const drawSoon = () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => { due = false; draw(); });
  };

  const draw = () => {
    const size = parseFloat(getComputedStyle(body).getPropertyValue('--row')), without = [...leftOut.values()].reduce((a, b) => a + b, 0);
    body.style.blockSize = `${view.length * size}px`;
    find('.table').setAttribute('aria-rowcount', String(view.length + 1));
    find('#no-connections').hidden = view.length > 0;
    setText(find('#no-connections'), rows.size ? 'No connection matches' : 'No connections');
    setText(find('#connections-hint'), [view.length < rows.size ? `${view.length} of ${counted(rows.size, 'connection')}` : counted(rows.size, 'connection'),
      ...(without ? [`${counted(without, 'further one')} not listed`] : [])].join(', '));
    const first = Math.max(0, Math.floor(viewport.scrollTop / size) - SPARE);
    const shown = view.slice(first, first + Math.ceil(viewport.clientHeight / size) + 2 * SPARE);
    while (pool.length < shown.length) pool.push(line());
    pool.forEach((node, place) => {
      node.row = shown[place];
      node.hidden = !node.row;
      if (!node.row) return;
      node.style.transform = `translateY(${(first + place) * size}px)`;
      node.setAttribute('aria-rowindex', String(first + place + 2));
      Object.values(COLUMNS).forEach(([, text], cell) => setText(node.children[cell], text(node.row)));
      node.classList.toggle('slow', node.row.unsent > 0);
    });
  };

  const line = () => {
    const cells = Object.keys(COLUMNS).map((name) => element('span', name));
    for (const cell of cells) cell.setAttribute('role', 'cell');
    const node = element('div', 'row', ...cells);
    node.setAttribute('role', 'row');
    node.tabIndex = 0;
    const choose = () => open(node.row, [...rows.values()].filter(({ user }) => user === node.row.user));
    node.onclick = choose;
    node.onkeydown = ({ key }) => { if (key === 'Enter') choose(); };
    body.append(node);
    return node;
  };

  search.oninput = () => { viewport.scrollTop = 0; arrange(); };
  viewport.addEventListener('scroll', drawSoon, { passive: true });
  new ResizeObserver(drawSoon).observe(viewport);
  return { take, finish, arrange };
}
