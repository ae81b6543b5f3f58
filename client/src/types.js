/**
 * Types of the modules and for applications.
 *
 * @typedef {'connect' | 'refresh' | 'token_missing' | 'token_invalid' | 'token_expired'} TokenReason
 * @typedef {{reason: TokenReason, signal: AbortSignal}} TokenRequest The argument of `getToken`.
 * @typedef {'websocket' | 'sse' | 'tab'} Transport
 *
 * @typedef {object} State How the client is connected.
 * @property {'idle' | 'connecting' | 'open' | 'waiting' | 'closed'} status
 * @property {number} attempt number of tries that failed in a row; 0 while open
 * @property {Transport} [transport] while open; `tab` is another tab's connection
 * @property {number} [delay] while waiting: ms from the last failure to the next try
 * @property {number} [retryAt] while waiting: when the next try is due, in ms since 1970
 * @property {number} [code] close code of the last connection; 1006 if it ended without one
 * @property {string} [reason] its reason; the client's own are `timeout`, `silent`, `token` (getToken failed), `no_token`
 *   and `closed_everywhere`
 * @property {unknown} [error] thrown by `getToken` or by the constructor of the socket; as text if another tab has the connection
 * @property {'needs-token' | 'forbidden' | 'misconfigured'} [problem] the remedy: log in; none, because the user may not
 *   connect; or correct the page or the bridge. Each `closed` has one, unless the page itself closed the client
 *
 * @typedef {object} Limits
 * @property {number} [timeout] ms; 0, or 2e9 (23 days) or more, such as Infinity: without end
 * @property {AbortSignal} [signal]
 *
 * @typedef {Error & {code: ClientErrorCode, docs: string}} ClientError An error of the client; `docs` is a link to its row in the guide.
 * @typedef {'bad_token' | 'bad_url' | 'closed' | 'no_websocket' | 'timeout' | 'too_slow'} ClientErrorCode
 *
 * @typedef {object} Options
 * @property {string | URL} url of the bridge's /ws: ws(s), http(s), or relative to the page
 * @property {string} [userId] optional if a token names the user, but without it tabs do not share a connection
 * @property {(request: TokenRequest) => Promise<string | null> | string | null} [getToken]
 *   a JWT; null stops the client; if it throws, it is called again later
 * @property {string | URL | false} [sse] URL of /sse; by default beside a `url` that ends with /ws; false: no fallback
 * @property {boolean} [share] one connection for all tabs of the origin and user; by default on
 * @property {'memory' | 'session'} [resume] `session` keeps the position over a reload, in sessionStorage. By default it
 *   is in memory only, because a reloaded page fetches its state, which already contains the old updates
 * @property {AbortSignal} [signal] closes the client
 * @property {readonly ('websocket' | 'sse')[]} [transports] by default both, WebSocket first
 * @property {{min?: number, max?: number}} [backoff] ms between retries: about `min` after the first failure, up to `max`. 500 and 20,000
 * @property {boolean} [receipts] reports to the bridge what the handlers have handled, once a second at most. By default off
 * @property {boolean | ((...line: any[]) => void)} [debug] shows all states and messages, on the console or by this function; by
 *   default on if `localStorage.wsbridgeDebug` is set
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
 * @property {true} [receipts] the bridge takes reports about handled events
 * @property {string} timestamp
 * @property {string} message
 *
 * @typedef {object} Gap Missed events are no longer kept: load your state again.
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
 * @typedef {object} BridgeError The bridge did not understand a message, or cannot handle it now.
 * @property {'error'} type
 * @property {string} code
 * @property {string} message
 *
 * @typedef {{state: State, connected: Connected, gap: Gap, goodbye: Goodbye, error: BridgeError, '*': any}} OwnEvents
 */

/**
 * An update: the data as it was published, its position, the id of its CloudEvent, and its trace if the bridge sends it.
 *
 * @template {PropertyKey} K
 * @template E
 * @typedef {{type: K, event: E, timestamp: string, id: string, event_id?: string, traceparent?: string}} Update
 */

/**
 * An update of any of the application's types.
 *
 * @template M
 * @typedef {{[K in keyof M & string]: Update<K, M[K]>}[keyof M & string]} AnyUpdate
 */

/**
 * The argument of a handler for this type.
 *
 * @template M
 * @template {PropertyKey} K
 * @typedef {K extends keyof OwnEvents ? OwnEvents[K] : K extends keyof M ? Update<K, M[K]> : never} Message
 */

/**
 * @template {object} [M=Record<string, any>] message type → type of its `event`
 * @typedef {object} Client
 * @property {string} userId of the options; '' without it
 * @property {<K extends (keyof M & string) | keyof OwnEvents>(type: K, handler: (message: Message<M, K>) => void, options?: {signal?: AbortSignal}) => () => void} on
 *   calls the handler for each message of the type; `*` for every one. Returns a function that removes the handler
 * @property {<K extends (keyof M & string) | keyof OwnEvents>(type: K, options?: {signal?: AbortSignal}) => AsyncGenerator<Message<M, K>, void, void>} messages
 *   the same as an async iterator, from this call on until the signal or the end of the client
 * @property {() => void} connect connects; while the client waits, tries at once
 * @property {(options?: {everywhere?: boolean}) => void} close closes until the next connect(); `everywhere`: in all tabs of this
 *   `url` and `userId`, for a logout
 * @property {(limits?: Limits) => Promise<State>} ready resolves when the client is open; rejects when it is closed
 * @property {(eventId: string, limits?: Limits) => Promise<AnyUpdate<M> | Gap | Connected>} settled resolves after the handlers of
 *   the event with this CloudEvent id have run, or those of a gap that may include it, also one of the last 10 s, or of the first
 *   `connected` after this call; while `follow` loads, after it has shown them. By default within 10 s
 * @property {State} state
 * @property {string} position of the last message that was handled, '' before the first connection
 * @property {M} [_messages] does not exist: TypeScript infers M from it if a client is passed to a function
 */

/**
 * The options of `follow` for a state `S`.
 *
 * @template {object} M
 * @template S
 * @typedef {object} Follow
 * @property {(request: {cause: 'first' | 'gap', signal: AbortSignal}) => Promise<S> | S} load fetches the state. It is called
 *   again if it throws. The signal is aborted when the answer is no longer needed
 * @property {(state: S) => void} [set] replaces the state of the page
 * @property {(update: AnyUpdate<M>) => void} apply applies one update. It gets each update
 *   since the load began. The loaded state may contain the update already: then `apply` must change nothing
 * @property {number} [jitter] ms within which all pages load again after a restart of the bridge. Default: 5,000
 * @property {(error: unknown) => void} [onError] receives errors of `load`, `set` and `apply`. Default: console.error
 */

/**
 * Between the modules.
 *
 * @typedef {{type: string, id?: string, [field: string]: any}} Frame a message of the bridge
 *
 * @typedef {object} TransportEvents
 * @property {(frame: Frame) => void} frame
 * @property {(code: number, reason: string, error?: unknown) => void} end
 *
 * @typedef {(message: object) => void} Send
 * @typedef {(url: string, token: string | null | undefined, on: TransportEvents, signal: AbortSignal, options: Options) => Send | void} Open
 *   opens a transport, which lasts until the signal; a stream cannot send
 * @typedef {(receive: (frame: Frame) => void, show: (state: State) => void, after: () => string) => Connection} Connect
 *   creates a connection that resumes each time from the position that `after` returns
 *
 * @typedef {object} ConnectionHost
 * @property {Options['getToken']} getToken
 * @property {(isStream: boolean, token: string | null | undefined, on: TransportEvents, signal: AbortSignal) => Send | void} open
 * @property {Choice} [choice] of the transport; without it there are only sockets
 * @property {(attempt: number) => number} backoff
 * @property {(frame: Frame) => void} receive
 * @property {(state: State) => void} show
 *
 * @typedef {ReturnType<typeof import('./choice.js').createChoice>} Choice
 *
 * @typedef {object} Connection
 * @property {() => void} start
 * @property {() => void} stop ends the connection without calling `show`
 * @property {Send} send if this tab has a socket that is open
 * @property {(now?: unknown) => void} wake after the network or the user returned: check the connection, or retry soon; `now`: at once
 * @property {(before?: number) => void} resync after missed updates: reconnect, with the backoff of so many attempts `before`, and resume from the host's position
 */
export {};
