/* The badge in the head: the health, requested every five seconds and after each change of a connection. */

import { counted, setText } from './dom.js';
import { when } from './stage.js';

export class Health {
  #badge = document.getElementById('bridge');
  #timer = 0;
  #hasStats = true;

  constructor() { when('network', () => this.#askIn(200)); }

  #askIn(ms) { clearTimeout(this.#timer); this.#timer = setTimeout(() => this.#ask(), ms); }

  async #ask() {
    let text = 'bridge not reachable', tone = 'bad';
    try {
      const response = await fetch('/health', { cache: 'no-store' }), { status } = await response.json();
      text = String(status); tone = { healthy: 'good', degraded: 'wait' }[status] ?? 'bad';
      const counts = this.#hasStats && await fetch('/stats', { cache: 'no-store' });
      if (counts && !counts.ok) this.#hasStats = false; // guarded by a token here: not asked again
      else if (counts) {
        const { total_connections, total_users } = await counts.json();
        text = `${text} · ${counted(total_connections, 'connection')} of ${counted(total_users, 'user')}`;
      }
    } catch { /* the text says it */ }
    this.#badge.dataset.tone = tone;
    setText(this.#badge, text);
    this.#askIn(5000);
  }
}
