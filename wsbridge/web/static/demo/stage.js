/* What happens on the page, told by the part that sees it to the parts that show it:
   published {user, id}: this page has posted an event; accepted {user, id}: the bridge has stored it
   arrived {tab, id, late}: an event has reached a tab
   gap {tab}: the bridge no longer has the events that a tab missed
   network {browser}: its simulated network, or a connection over it, has changed
   state {tab}: the state of a tab's client has changed */

const listeners = new Map();

export function when(kind, listener) {
  if (!listeners.has(kind)) listeners.set(kind, []);
  listeners.get(kind).push(listener);
}

export function tell(kind, fact) {
  for (const listener of listeners.get(kind) ?? []) listener(fact);
}
