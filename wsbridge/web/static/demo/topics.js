/* The topics of this bridge and their message types, which the bridge writes into the page. */

const pairs = document.querySelector('meta[name=wsbridge-topics]').content.split(',').map((pair) => pair.split('='));

export const TOPIC = pairs[0][0];  // the page publishes to the first one
export const TYPE = pairs[0][1];
export const TYPES = new Set(pairs.map(([, type]) => type)); // two topics may have the same one
