'use client';
/** @import { Client, Message, OwnEvents, State } from '../src/types.js' */
import { createContext, createElement, useCallback, useContext, useEffect, useInsertionEffect, useRef, useSyncExternalStore } from 'react';

const IDLE = /** @type {State} */ ({ status: 'idle', attempt: 0 }); // for server rendering
const ClientContext = createContext(/** @type {Client<any> | undefined} */ (undefined));
const holders = /** @type {WeakMap<Client<any>, number>} */ (new WeakMap()); // providers of a client

/**
 * Provides the application's client to the hooks below it. Connects the client, and closes it when its last provider is
 * unmounted.
 *
 * @param {{client: Client<any>, children?: import('react').ReactNode}} props
 */
export function ClientProvider({ client, children }) {
  useEffect(() => hold(client), [client]);
  return createElement(ClientContext.Provider, { value: client }, children);
}

/** @param {Client<any>} client */
function hold(client) {
  const held = (holders.get(client) ?? 0) + 1;
  holders.set(client, held);
  if (held === 1) client.connect();
  return () => {
    holders.set(client, /** @type {number} */ (holders.get(client)) - 1);
    // StrictMode undoes an effect and runs it again at once; the connection must stay.
    queueMicrotask(() => holders.get(client) || client.close());
  };
}

/**
 * The provider's client.
 *
 * @template {object} [M=Record<string, any>]
 * @returns {Client<M>}
 */
export function useClient() {
  const client = useContext(ClientContext);
  if (!client) throw new Error('no <ClientProvider> around this component');
  return client;
}

/**
 * Calls the handler of the latest render for each message of this type while the component is mounted.
 *
 * @template {object} [M=Record<string, any>]
 * @template {(keyof M & string) | keyof OwnEvents} [K=(keyof M & string) | keyof OwnEvents]
 * @param {K} type
 * @param {(message: Message<M, K>) => void} handler
 */
export function useEvent(type, handler) {
  const client = /** @type {Client<M>} */ (useClient());
  const latest = useRef(handler);
  useInsertionEffect(() => void (latest.current = handler));
  useEffect(() => client.on(type, (message) => latest.current(message)), [client, type]);
}

/** The client's state; the component renders again when it changes. */
export function useConnectionState() {
  const client = useClient();
  const subscribe = useCallback((/** @type {() => void} */ changed) => client.on('state', changed), [client]);
  return useSyncExternalStore(subscribe, () => client.state, () => IDLE);
}

/**
 * The hooks, typed by the application's messages: `const { useEvent } = typedHooks<Messages>()`, once, at the top of a module.
 *
 * @template {object} M
 * @returns {{
 *   useClient: () => Client<M>,
 *   useEvent: <K extends (keyof M & string) | keyof OwnEvents>(type: K, handler: (message: Message<M, K>) => void) => void,
 *   useConnectionState: () => State,
 * }}
 */
export const typedHooks = () => ({ useClient, useEvent, useConnectionState });
