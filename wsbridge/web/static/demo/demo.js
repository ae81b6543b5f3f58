/* The demo page: two tabs of alice beside one of bob, with the client that the bridge serves. */

import { Browser } from './browser.js';
import { Health } from './health.js';
import { copyOnClick, showNext } from './next.js';
import { Picture } from './picture.js';
import { Publisher } from './publisher.js';
import { Story } from './story.js';

const meta = (name) => document.querySelector(`meta[name=wsbridge-${name}]`).content;
const bridge = meta('port') ? `${location.protocol}//${location.hostname}:${meta('port')}` : location.origin;
const { createClient } = await import(`${bridge}/client.js`);

const connect = (options) => createClient({ url: `${bridge}/ws`, ...options });
const publish = (...event) => publisher.publish(...event);
const alice = new Browser('alice', ['tab 1', 'tab 2'], connect, publish), bob = new Browser('bob', ['tab 1'], connect, publish);
const browsers = [alice, bob], tabs = browsers.flatMap((browser) => browser.tabs);
document.getElementById('browsers').append(alice.node, bob.node);

const publisher = new Publisher((user) => browsers.find((browser) => browser.user === user));
new Story(alice, bob, publisher);
new Picture(browsers);
new Health();
showNext(bridge, meta('command'), meta('topic-option'));
copyOnClick();
for (const { client } of tabs) client.connect();
setInterval(() => { for (const tab of tabs) tab.tick(); }, 200);
