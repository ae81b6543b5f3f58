/** A fake client for the tests of the adapters. It has no connection. */
export class Emitter {
  state = { status: 'idle', attempt: 0 };
  position = '';
  calls = [];
  #handlers = new Map();

  on(type, handler) {
    const handlers = this.#handlers.get(type) ?? new Set();
    this.#handlers.set(type, handlers.add(handler));
    return () => handlers.delete(handler);
  }

  connect() {
    this.calls.push('connect');
  }

  close() {
    this.calls.push('close');
  }

  emit(type, message) {
    for (const handler of [...(this.#handlers.get(type) ?? [])]) handler({ type, ...message });
  }

  get subscriptions() {
    return [...this.#handlers.values()].reduce((sum, handlers) => sum + handlers.size, 0);
  }
}
