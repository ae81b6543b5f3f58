/* Small helpers for nodes. All text gets into the page as text nodes, never as markup. */

export const LINK = { websocket: 'WebSocket', sse: 'event stream' };
export const STILL = matchMedia('(prefers-reduced-motion: reduce)');

export const counted = (n, one) => `${n} ${one}${n === 1 ? '' : 's'}`;
export const instance = (id) => document.getElementById(id).content.cloneNode(true).firstElementChild;
export const setText = (node, text) => { if (node.textContent !== text) node.textContent = text; }; // or screen readers say it again

export function element(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

/* Runs `draw` once a frame, however often it is asked to. A hidden page draws nothing. */
export function drawer(draw) {
  let due = false;
  return () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => { due = false; draw(); });
  };
}
