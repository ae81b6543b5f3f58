/**
 * How many events `to` is after `from`; negative if before; NaN if they are of different epochs and cannot be compared.
 * Comparisons with NaN are false, and the callers rely on that.
 *
 * @param {string} from `<epoch>:<offset>`, or '' for none
 * @param {string} to
 */
export function distance(from, to) {
  const [epoch, offset] = from.split(':');
  const [other, target] = to.split(':');
  return epoch === other ? Number(target) - Number(offset) : NaN;
}
