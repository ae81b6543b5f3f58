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
 * @property {string} [reason] and its reason; the client's own are `timeout`, `silent`, `token` (there was none to be had), `no_token`
 *   and `closed_everywhere`
 * @property {unknown} [error] what `getToken` threw, or the constructor of the socket; as text where another tab has the connection
 * @property {'needs-token' | 'forbidden' | 'misconfigured'} [problem] what a person must do about it: log in, nothing (the user may
 *   not connect), or change the page or the bridge. Each `closed` has one, unless the page itself closed the client
 *
 * @typedef {object} Limits
 * @property {number} [timeout] ms
 * @property {AbortSignal} [signal]
 *
 * @typedef {Error & {code: ClientErrorCode, docs: string}} ClientError An error of the client; `docs` is where the guide explains it.
 * @typedef {'bad_token' | 'bad_url' | 'closed' | 'no_websocket' | 'timeout' | 'too_slow'} ClientErrorCode
 *
 * @typedef {object} Options
 * @property {string | URL} url of the bridge's /ws: ws(s), http(s), or relative to the page
 * @property {string} [userId] may be left out where a token names the user; tabs share a connection only with it
 * @property {(request: {reason: TokenReason, signal: AbortSignal}) => Promise<string | null> | string | null} [getToken]
 *   a JWT; null stops the client; if it throws, it is called again later
 * @property {string | URL | false} [sse] URL of /sse; by default beside a `url` that ends with /ws; false: no fallback
 * @property {boolean} [share] one connection for all tabs of the origin and user; by default on
 * @property {'memory' | 'session'} [resume] `session` keeps the position over a reload, in sessionStorage. By default
 *   it is in memory only: a page that loads fetches its state, and old updates must not come over it
 * @property {AbortSignal} [signal] closes the client
 * @property {readonly ('websocket' | 'sse')[]} [transports] by default both, WebSocket first
 * @property {{min?: number, max?: number}} [backoff] ms between retries: about `min` after the first failure, up to `max`. 500 and 20,000
 * @property {boolean | ((...line: any[]) => void)} [debug] shows all states and messages, on the console or by this function; by
 *   default on where `localStorage.wsbridgeDebug` is set
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
 * An update: the data as it was published, its position, and the id of its CloudEvent.
 *
 * @template {PropertyKey} K
 * @template E
 * @typedef {{type: K, event: E, timestamp: string, id: string, event_id?: string}} Update
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
 * @property {() => void} connect nothing happens before; again after a close is fine; while it waits it tries now
 * @property {(options?: {everywhere?: boolean}) => void} close for good, until the next connect(); `everywhere`: in all tabs of this
 *   `url` and `userId`, for a logout
 * @property {(limits?: Limits) => Promise<State>} ready resolves when the client is open; rejects when it is closed
 * @property {(eventId: string, limits?: Limits) => Promise<Update<string, any> | Gap>} settled resolves after the handlers of the event
 *   with this CloudEvent id have run, or those of a gap that it may be in. By default within 10 s
 * @property {State} state
 * @property {string} position of the last message that was handled, '' before the first connection
 * @property {M} [_messages] never there: TypeScript infers M from it where a client is handed on
 */

/**
 * What `follow` does with a state `S`.
 *
 * @template {object} M
 * @template S
 * @typedef {object} Follow
 * @property {(request: {cause: 'first' | 'gap', signal: AbortSignal}) => Promise<S> | S} load fetches the state. It is called
 *   again if it throws. The signal is aborted when the answer is not needed any more
 * @property {(state: S) => void} [set] replaces the state of the page
 * @property {(update: {[K in keyof M & string]: Update<K, M[K]>}[keyof M & string]) => void} apply changes it. It gets each update
 *   since the load began, also those that the loaded state has already: once more must change nothing
 * @property {number} [jitter] ms, of which a random part passes before a load after a restart of the bridge. 5,000
 * @property {(error: unknown) => void} [onError] gets what `load`, `set` or `apply` has thrown. console.error
 */

/**
 * Between the modules.
 *
 * @typedef {{type: string, id?: string, [field: string]: any}} Frame a message of the bridge
 *
 * @typedef {object} LineEvents
 * @property {(frame: Frame) => void} frame
 * @property {(code: number, reason: string, error?: unknown) => void} end
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
 * @property {boolean} canStream
 * @property {boolean} canSocket
 * @property {(attempt: number) => number} backoff
 * @property {() => boolean} isBlocked whether sockets did not come through before
 * @property {(isStream: boolean) => void} remember which transport came through
 * @property {(frame: Frame) => void} receive
 * @property {(state: State) => void} show
 *
 * @typedef {object} Connection
 * @property {() => void} start
 * @property {() => void} stop without a word
 * @property {(now?: unknown) => void} wake the network or the user is back: look whether it still lives, try soon; `now`: at once
 * @property {() => void} resync something was missed: connect anew, from the position that the host says then
 */
export {};
