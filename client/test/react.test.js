import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createElement } from 'react';
import { renderToString } from 'react-dom/server';
import { ClientProvider, typedHooks, useClient, useConnectionState, useEvent } from '../react/index.js';
import { Emitter } from './emitter.js';

// tests/browser/test_react.py tests the hooks in a browser.

function Badge() {
  useEvent('task_update', () => {});
  return useConnectionState().status;
}

test('provider_on_a_server_renders_the_idle_state_and_does_not_connect', () => {
  const client = new Emitter();
  client.state = { status: 'open', attempt: 0 };
  assert.equal(renderToString(createElement(ClientProvider, { client }, createElement(Badge))), 'idle');
  assert.deepEqual(client.calls, []);
  assert.equal(client.subscriptions, 0);
});

test('hook_without_a_provider_throws', () => {
  assert.throws(() => renderToString(createElement(Badge)), /no <ClientProvider>/);
});

test('typed_hooks_are_the_hooks', () => {
  assert.deepEqual(typedHooks(), { useClient, useEvent, useConnectionState });
});
