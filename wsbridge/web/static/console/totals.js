/* Sums the numbers of all replicas, and turns counters into rates and histograms into quantiles. */

export const SECONDS = 120; // looks that are kept
const WINDOW = 10; // looks whose latencies count

const sum = (counts) => Object.values(counts).reduce((total, count) => total + count, 0);

/* The value below which a share of the observations lies, interpolated within its bucket; null without observations. */
export function quantile(bounds, counts, share) {
  const total = sum(counts);
  if (!total) return null;
  let before = 0;
  for (let place = 0; place < bounds.length; place += 1) {
    const within = counts[place], low = place ? bounds[place - 1] : 0;
    if (before + within >= share * total) return low + (bounds[place] - low) * ((share * total - before) / within);
    before += within;
  }
  return bounds.at(-1);
}

export function createTotals() {
  const replicas = new Map(); // name → { now, before, isSilent }
  const history = []; // one object of numbers a look
  const looks = []; // of each look: stage → counts

  const take = (line) => {
    const before = replicas.get(line.replica)?.now;
    replicas.set(line.replica, { now: line, before: before && before.uptime <= line.uptime ? before : undefined, isSilent: false });
  };

  const rate = ({ now, before }, read) => (before && now.at > before.at ? Math.max(0, read(now) - read(before)) / (now.at - before.at) : 0);

  /* Ends a look: the replicas that answered, and those that did not. */
  const finish = ({ answered, silent }) => {
    for (const name of [...replicas.keys()]) {
      if (silent.includes(name)) replicas.get(name).isSilent = true;
      else if (!answered.includes(name)) replicas.delete(name);
    }
    const heard = [...replicas.values()].filter((replica) => !replica.isSilent);
    const all = (read) => heard.reduce((total, replica) => total + read(replica), 0);
    const stages = {};
    for (const { now, before } of heard) {
      for (const [name, { bounds, counts }] of Object.entries(now.latency)) {
        const found = stages[name] ??= { bounds, counts: counts.map(() => 0) };
        if (before) counts.forEach((count, place) => { found.counts[place] += count - before.latency[name].counts[place]; });
      }
    }
    looks.push(stages);
    if (looks.length > WINDOW) looks.shift();
    history.push({
      connections: all(({ now }) => now.connections),
      users: all(({ now }) => now.users),
      events: all((replica) => rate(replica, ({ events }) => sum(events))),
      deliveries: all((replica) => rate(replica, ({ deliveries }) => deliveries)),
      sent: all((replica) => rate(replica, ({ sent_bytes: sent }) => sent)),
      queue: all(({ now }) => now.queue.entries),
      fullness: Math.max(0, ...heard.map(({ now: { queue } }) => Math.max(queue.entries / queue.max_entries, queue.bytes / queue.max_bytes))),
      unsent: all(({ now }) => now.unsent_bytes),
      cpu: Math.max(0, ...heard.map((replica) => rate(replica, ({ cpu }) => cpu))),
      unaccepted: all((replica) => rate(replica, ({ events }) => sum(events) - events.stored)),
      closes: merged(heard.map(({ now }) => now.closes)),
      latency: Object.fromEntries(Object.keys(stages).map((name) => [name, latency(name)])),
    });
    if (history.length > SECONDS) history.shift();
  };

  /* The quantiles of a stage over the last looks. */
  const latency = (name) => {
    const found = looks.map((look) => look[name]).filter(Boolean), { bounds } = found.at(-1);
    const counts = bounds.concat(0).map((_, place) => found.reduce((total, stage) => total + stage.counts[place], 0));
    return { median: quantile(bounds, counts, 0.5), most: quantile(bounds, counts, 0.99), last: bounds.at(-1) };
  };

  return { replicas, history, take, finish, rate };
}

function merged(all) {
  const found = {};
  for (const counts of all) for (const [name, count] of Object.entries(counts)) found[name] = (found[name] ?? 0) + count;
  return found;
}
