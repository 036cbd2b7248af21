/** One hash for everything that is looked up or spread by a text. */

/**
 * A word from a text. With a seed that nobody outside knows, nobody can name things so that they all fall together;
 * without one it is the same in every process.
 */
export function hashOf(text: string, seed = 0): number {
  let hash = seed ^ 0x811c9dc5
  for (let index = 0; index < text.length; index += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x85ebca6b)
    hash ^= hash >>> 15
  }
  hash = Math.imul(hash, 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}

/** Two hashes as one; a word that depends on every bit of both. */
export function mixed(a: number, b: number): number {
  let hash = Math.imul(a ^ Math.imul(b ^ (b >>> 16), 0x45d9f3b), 0x9e3779b1)
  hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b)
  return (hash ^ (hash >>> 13)) >>> 0
}
