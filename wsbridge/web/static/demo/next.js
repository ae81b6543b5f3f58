/* What next: the commands and the code as they can be typed for this very bridge, and the buttons that copy them. */

import { TYPE } from './topics.js';

/* `topicOption` is what `wsbridge publish` needs in a terminal without WSBRIDGE_TOPICS; it may be empty. */
export function showNext(bridge, command, topicOption) {
  const isDefault = location.origin === 'http://127.0.0.1:8004', ws = `${bridge.replace('http', 'ws')}/ws`;
  const show = (id, text) => { document.getElementById(id).textContent = text; };
  show('listen', `${command} listen --user alice${isDefault && bridge === location.origin ? '' : ` --url ${ws}`}`);
  show('command', `${command} publish --user alice task.created task_id=1 title='Buy milk'${topicOption}${isDefault ? '' : ` --url ${location.origin}`}`);
  show('page', `<script type="module">
  import { createClient } from '${bridge}/client.js';

  const client = createClient({ url: '${ws}', userId: 'alice' });
  client.on('${TYPE}', ({ event }) => document.body.append(event.title, ' '));
  client.on('gap', () => console.log('load the tasks again'));
  client.connect();
</scr` + 'ipt>');
}

export function copyOnClick() {
  document.addEventListener('click', async ({ target }) => {
    const button = target.closest?.('[data-copy]');
    if (!button) return;
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = 'Copied';
    } catch { // no clipboard here: select it, so that one key copies
      getSelection().selectAllChildren(source);
      button.textContent = 'Selected';
    }
    setTimeout(() => { button.textContent = 'Copy'; }, 1500);
  });
}
