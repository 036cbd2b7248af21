/** One hash for everything that is looked up or spread by a text. */

/** FNV-1a over UTF-16 units, with a final mix; a word. */
export function hashOf(key: string): number {
  let hash = 0x811c9dc5
  for (let index = 0; index < key.length; index += 1) {
    hash = Math.imul(hash ^ key.charCodeAt(index), 0x01000193)
  }
  hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b)
  return (hash ^ (hash >>> 13)) >>> 0
}

/** Two hashes as one; a word that depends on every bit of both. */
export function mixed(a: number, b: number): number {
  let hash = Math.imul(a ^ Math.imul(b ^ (b >>> 16), 0x45d9f3b), 0x9e3779b1)
  hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b)
  return (hash ^ (hash >>> 13)) >>> 0
}
