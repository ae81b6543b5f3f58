/**
 * Returns the result of `use`, or undefined if it throws: an engine may lack storage or channels, or forbid them.
 *
 * @template T
 * @param {() => T} use
 * @returns {T | undefined}
 */
export function quietly(use) {
  try {
    return use();
  } catch {
    return undefined;
  }
}
