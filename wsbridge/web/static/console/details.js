/* The dialog about one connection: a button that ends it, and apart from that one for all of its user. */
import { bytes, counted, element, find, setText, span } from './dom.js';
import { problem, request } from './stream.js';

export function createDetails({ mayWrite }) {
  const dialog = find('#details'), one = find('button.one', dialog), all = find('button.all', dialog), complaint = find('.problem', dialog);

  const ends = (button, text, title, query) => {
    setText(button, text);
    button.title = `${title} Closed with 4509, so that clients do not reconnect by themselves.`;
    button.hidden = !mayWrite();
    button.disabled = false;
    button.onclick = async () => {
      button.disabled = true;
      try {
        const response = await request(`user/disconnect?${new URLSearchParams(query)}`, { method: 'POST' });
        if (response.ok) dialog.close();
        else setText(complaint, await problem(response));
      } catch (error) {
        setText(complaint, error.message);
      }
      button.disabled = false;
    };
  };

  const open = (row, rows) => {
    const facts = {
      User: row.user, Transport: row.transport, Open: `for ${span(Math.max(0, Date.now() / 1000 - row.since))}`,
      'Round trip': row.trip === null ? 'not measured' : span(row.trip / 1000), Unsent: bytes(row.unsent), Position: row.position,
      Address: row.address, Agent: row.agent, Session: row.session, Replica: row.replica,
    };
    setText(find('h2', dialog), `Connection of ${row.user}`);
    find('dl', dialog).replaceChildren(...Object.entries(facts).flatMap(([name, text]) => [element('dt', '', name), element('dd', '', text)]));
    setText(complaint, '');
    const user = { user_id: row.user };
    ends(one, 'End this connection', 'The other connections of the user stay open.', { ...user, session_id: row.session });
    ends(all, `End all of ${row.user} (${counted(rows.length, 'connection')})`, 'On all replicas that share a Redis.', user);
    dialog.showModal();
  };
  return { open };
}
