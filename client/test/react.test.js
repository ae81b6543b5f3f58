import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createElement } from 'react';
import { renderToString } from 'react-dom/server';
import { ClientProvider, typedHooks, useClient, useConnectionState, useEvent } from '../react/index.js';
import { Emitter } from './emitter.js';

// What the hooks do in a browser is tested in one: tests/browser/test_react.py.

function Badge() {
  useEvent('task_update', () => {});
  return useConnectionState().status;
}

test('a server renders the state before the first connection, and connects nothing', () => {
  const client = new Emitter();
  client.state = { status: 'open', attempt: 0 };
  assert.equal(renderToString(createElement(ClientProvider, { client }, createElement(Badge))), 'idle');
  assert.deepEqual(client.calls, []);
  assert.equal(client.subscriptions, 0);
});

test('a hook says so if there is no provider', () => {
  assert.throws(() => renderToString(createElement(Badge)), /no <ClientProvider>/);
});

test('typed hooks are the hooks', () => {
  assert.deepEqual(typedHooks(), { useClient, useEvent, useConnectionState });
});
