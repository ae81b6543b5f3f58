/**
 * What the modules pass to each other, and what an application sees. Types only.
 *
 * @typedef {'connect' | 'refresh' | 'token_missing' | 'token_invalid' | 'token_expired'} TokenReason
 * @typedef {'websocket' | 'sse' | 'tab'} Transport
 *
 * @typedef {object} State How the client is connected.
 * @property {'idle' | 'connecting' | 'open' | 'waiting' | 'closed'} status
 * @property {number} attempt tries that failed in a row; back to 0 once a connection has lasted
 * @property {Transport} [transport] while open; `tab` is another tab's connection
 * @property {number} [delay] while waiting: ms until the next try, as it was drawn
 * @property {number} [retryAt] while waiting: when the next try is due, in ms since 1970
 * @property {number} [code] how the last connection ended: its close code; 1006 where it just broke
 * @property {string} [reason] and its reason; the client's own are `timeout`, `silent`, `token` (there was none to be had) and `no_token`
 * @property {unknown} [error] what `getToken` threw, or the constructor of the socket; as text where another tab has the connection
 *
 * @typedef {object} Options
 * @property {string | URL} url of the bridge's /ws: ws(s), http(s), or relative to the page
 * @property {string} [userId] may be left out where a token names the user; tabs share a connection only with it
 * @property {(request: {reason: TokenReason, signal: AbortSignal}) => Promise<string | null> | string | null} [getToken]
 *   a JWT; null stops the client; what it throws is tried again later
 * @property {string | URL | false} [sse] URL of /sse; by default beside a `url` that ends with /ws; false: no fallback
 * @property {boolean} [share] one connection for all tabs of the origin and user; by default on
 * @property {'memory' | 'session'} [resume] `session` keeps the position over a reload, in sessionStorage. By default
 *   it is in memory only: a page that loads fetches its state, and old updates must not come over it
 * @property {AbortSignal} [signal] closes the client
 * @property {typeof globalThis.WebSocket} [WebSocket] by default the global one
 * @property {typeof globalThis.fetch} [fetch] by default the global one
 *
 * @typedef {object} Connected The first message of each connection.
 * @property {'connected'} type
 * @property {string} user_id
 * @property {string} session_id
 * @property {string} last_event_id the position before the first message that follows
 * @property {boolean} [recovered] only if the client asked to resume
 * @property {number} ping_interval_ms
 * @property {number} [expires_in_ms] only with a token
 * @property {string} timestamp
 * @property {string} message
 *
 * @typedef {object} Gap Events that are gone for good: fetch your state anew.
 * @property {'gap'} type
 * @property {string} [after]
 * @property {string} last_event_id
 * @property {'expired' | 'trimmed' | 'reset'} reason
 *
 * @typedef {object} Goodbye The bridge will close the connection.
 * @property {'goodbye'} type
 * @property {number} code
 * @property {string} reason
 * @property {boolean} reconnect
 * @property {number} reconnect_after_ms
 * @property {number} close_after_ms
 *
 * @typedef {object} BridgeError The bridge did not understand, or cannot do something now.
 * @property {'error'} type
 * @property {string} code
 * @property {string} message
 *
 * @typedef {{state: State, connected: Connected, gap: Gap, goodbye: Goodbye, error: BridgeError, '*': any}} OwnEvents
 */

/**
 * An update: the data as it was published, and its position.
 *
 * @template {PropertyKey} K
 * @template E
 * @typedef {{type: K, event: E, timestamp: string, id: string}} Update
 */

/**
 * What a handler of this type is given.
 *
 * @template M
 * @template {PropertyKey} K
 * @typedef {K extends keyof OwnEvents ? OwnEvents[K] : K extends keyof M ? Update<K, M[K]> : never} Message
 */

/**
 * @template {object} [M=Record<string, any>] message type → what its `event` is
 * @typedef {object} Client
 * @property {<K extends (keyof M & string) | keyof OwnEvents>(type: K, handler: (message: Message<M, K>) => void, options?: {signal?: AbortSignal}) => () => void} on
 *   calls the handler for each message of the type; `*` for every one. Returns what takes it off again
 * @property {<K extends (keyof M & string) | keyof OwnEvents>(type: K, options?: {signal?: AbortSignal}) => AsyncGenerator<Message<M, K>, void, void>} messages
 *   the same as an async iterator, from this call on until the signal or the end of the client
 * @property {() => void} connect nothing happens before; again after a close is fine
 * @property {() => void} close for good, until the next connect()
 * @property {State} state
 * @property {string} position of the last message that was handled, '' before the first connection
 * @property {M} [_messages] never there: TypeScript infers M from it where a client is handed on
 */

/**
 * Between the modules.
 *
 * @typedef {{type: string, id?: string, [field: string]: any}} Frame a message of the bridge
 *
 * @typedef {object} LineEvents
 * @property {(frame: Frame) => void} frame
 * @property {(code: number, reason: string) => void} end
 *
 * @typedef {(message: object) => void} Send
 * @typedef {(url: string, token: string | null | undefined, on: LineEvents, signal: AbortSignal, options: Options) => Send | void} Open
 *   opens a transport, which is there until the signal; a stream cannot send
 * @typedef {(receive: (frame: Frame) => void, show: (state: State) => void, after: () => string) => Connection} Connect
 *   a connection that begins after the position that it asks for at each dial
 *
 * @typedef {object} ConnectionHost
 * @property {Options['getToken']} getToken
 * @property {(isStream: boolean, token: string | null | undefined, on: LineEvents, signal: AbortSignal) => Send | void} open
 * @property {unknown} canStream
 * @property {(frame: Frame) => void} receive
 * @property {(state: State) => void} show
 *
 * @typedef {object} Connection
 * @property {() => void} start
 * @property {() => void} stop without a word
 * @property {() => void} wake the network or the user is back: look whether it still lives, try at once
 * @property {() => void} resync something was missed: connect anew, from the position that the host says then
 */
export {};
