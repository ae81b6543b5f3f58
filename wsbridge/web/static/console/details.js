/* The dialog about one connection, with the button that disconnects its user. */
import { bytes, counted, element, find, setText, span } from './dom.js';
import { problem, request } from './stream.js';

export function createDetails({ mayWrite }) {
  const dialog = find('#details'), button = find('button.danger', dialog), complaint = find('.problem', dialog);

  const open = (row, all) => {
    const facts = {
      User: row.user, Transport: row.transport, Open: `for ${span(Math.max(0, Date.now() / 1000 - row.since))}`,
      'Round trip': row.trip === null ? 'not measured' : span(row.trip / 1000), Unsent: bytes(row.unsent), Position: row.position,
      Address: row.address, Agent: row.agent, Session: row.session, Replica: row.replica,
    };
    setText(find('h2', dialog), `Connection of ${row.user}`);
    find('dl', dialog).replaceChildren(...Object.entries(facts).flatMap(([name, text]) => [element('dt', '', name), element('dd', '', text)]));
    setText(complaint, '');
    button.hidden = !mayWrite();
    button.disabled = false;
    setText(button, `Disconnect ${row.user} (${counted(all.length, 'connection')})`);
    button.title = 'Closes all connections of this user with 4509. Their clients do not reconnect by themselves.';
    button.onclick = async () => {
      button.disabled = true;
      try {
        const response = await request(`users/${encodeURIComponent(row.user)}/disconnect`, { method: 'POST' });
        if (response.ok) dialog.close();
        else setText(complaint, await problem(response));
      } catch (error) {
        setText(complaint, error.message);
      }
      button.disabled = false;
    };
    dialog.showModal();
  };
  return { open };
}
