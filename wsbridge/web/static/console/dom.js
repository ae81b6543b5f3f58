/* Elements, and texts for people. All text gets into the page as text nodes, never as markup. */

export const find = (selector, root = document) => root.querySelector(selector);

export function element(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

export function drawing(tag, attributes, ...children) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export function setText(node, text) { // or screen readers say it again
  if (node.textContent !== text) node.textContent = text;
}

export function badge(text, tone = '') {
  const node = element('span', 'badge', text);
  node.dataset.tone = tone;
  return node;
}

const whole = new Intl.NumberFormat('en');
export const counted = (n, one) => `${whole.format(n)} ${one}${n === 1 ? '' : 's'}`;
export const number = (n) => (Math.abs(n) >= 100 || Number.isInteger(n) ? whole.format(Math.round(n)) : n.toFixed(1));

export function bytes(n) {
  for (const unit of ['B', 'kB', 'MB']) {
    if (n < 1000) return `${n < 10 && unit !== 'B' ? n.toFixed(1) : Math.round(n)} ${unit}`;
    n /= 1000;
  }
  return `${n.toFixed(1)} GB`;
}

export function span(seconds) {
  if (seconds < 0.0995) return `${(seconds * 1000).toFixed(seconds < 0.00995 ? 1 : 0)} ms`;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86400)} days`;
}

export const clock = (at) => new Date(at * 1000).toISOString().slice(11, 23);

/* A chart of the last values, the newest at the right edge; `null` is a gap. */
const WIDTH = 120, HEIGHT = 32;
export function chart(label) {
  const area = drawing('path', { class: 'area' }), line = drawing('path', { class: 'stroke' });
  const node = drawing('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', class: 'chart', role: 'img', 'aria-label': label }, area, line);
  const draw = (values, least) => {
    const top = Math.max(least, ...values.map((value) => value ?? 0)), runs = [];
    values.forEach((value, place) => {
      if (value === null) return;
      const point = [WIDTH - (values.length - 1 - place), HEIGHT - 2 - (value / top) * (HEIGHT - 5)];
      if (place && values[place - 1] !== null && runs.length) runs.at(-1).push(point);
      else runs.push([point]);
    });
    const path = (run) => `M${run.map(([x, y]) => `${x} ${y.toFixed(1)}`).join('L')}${run.length === 1 ? 'h.5' : ''}`;
    line.setAttribute('d', runs.map(path).join(''));
    area.setAttribute('d', runs.map((run) => `${path(run)}L${run.at(-1)[0]} ${HEIGHT}L${run[0][0]} ${HEIGHT}Z`).join(''));
  };
  return { node, draw };
}
