/**
 * The Huffman code of HPACK (RFC 7541 appendix B), decoding only: we never send it, since it costs more
 * processor time than the bytes are worth between two proxies.
 *
 * The code is canonical: codes of one length are consecutive in the order of their symbols. So the lengths
 * say all of it, and the tables below are computed from them.
 */

/** Code length in bits of each byte value, then of EOS (256). */
const lengths: readonly number[] = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28,
  28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7,
  8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19,
  13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13,
  28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21,
  22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23,
  22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25,
  25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30
]

const EOS = 256
/** In the upper half of a transition: no symbol is complete yet. */
const noSymbol = 0x1ff
/** In the lower half: EOS, which must not occur. */
const failed = 0xffff

/**
 * The code as a binary tree in one array: node n has its children at 2n and 2n + 1. A child of 0 or more is
 * a node, a negative one is the symbol `-(child + 1)`.
 */
const tree = buildTree()

/**
 * One step per 4 bits: `transitions[node * 16 + nibble]` is the next node, plus a symbol in the upper half
 * where the nibble completed one (no code is shorter than 5 bits, so it completes at most one).
 */
const { transitions, accepting } = buildTransitions()

/** Decodes `bytes[from..to)` to text, one character a byte. Undefined: EOS inside, or padding that is not a prefix of EOS. */
export function decodeHuffman(bytes: Buffer, from: number, to: number): string | undefined {
  // The shortest code has 5 bits, so this is always enough.
  const out = Buffer.allocUnsafe(Math.ceil(((to - from) * 8) / 5))
  let length = 0
  let node = 0
  for (let at = from; at < to; at++) {
    const byte = bytes[at] ?? 0
    const high = transitions[node * 16 + (byte >>> 4)] ?? failed
    if ((high & 0xffff) === failed) return undefined
    if (high >>> 16 !== noSymbol) out[length++] = high >>> 16
    const low = transitions[(high & 0xffff) * 16 + (byte & 15)] ?? failed
    node = low & 0xffff
    if (node === failed) return undefined
    if (low >>> 16 !== noSymbol) out[length++] = low >>> 16
  }
  return accepting[node] === 1 ? out.toString('latin1', 0, length) : undefined
}

function buildTree(): Int16Array {
  const nodes = new Int16Array(2 * lengths.length)
  let used = 1
  let code = 0
  let previous = 0
  const ordered = lengths.map((_, symbol) => symbol).toSorted((a, b) => lengthOf(a) - lengthOf(b) || a - b)
  for (const symbol of ordered) {
    const length = lengthOf(symbol)
    code *= 2 ** (length - previous)
    previous = length
    let node = 0
    for (let bit = length - 1; bit > 0; bit--) {
      const edge = 2 * node + ((code >>> bit) & 1)
      if (nodes[edge] === 0) nodes[edge] = used++
      node = nodes[edge] ?? 0
    }
    nodes[2 * node + (code & 1)] = -(symbol + 1)
    code += 1
  }
  return nodes
}

function lengthOf(symbol: number): number {
  return lengths[symbol] ?? 0
}

function buildTransitions(): { transitions: Uint32Array; accepting: Uint8Array } {
  const count = tree.length / 2
  const transitions = new Uint32Array(count * 16)
  for (let start = 0; start < count; start++) {
    for (let nibble = 0; nibble < 16; nibble++) transitions[start * 16 + nibble] = walk(start, nibble)
  }
  // A string may end at the root, or up to 7 bits into EOS, which is all ones.
  const accepting = new Uint8Array(count)
  for (let node = 0, bits = 0; bits < 8; bits++) {
    accepting[node] = 1
    node = tree[2 * node + 1] ?? 0
  }
  return { transitions, accepting }
}

function walk(start: number, nibble: number): number {
  let node = start
  let symbol = noSymbol
  for (let bit = 3; bit >= 0; bit--) {
    const child = tree[2 * node + ((nibble >>> bit) & 1)] ?? 0
    if (child >= 0) {
      node = child
      continue
    }
    symbol = -(child + 1)
    if (symbol === EOS) return failed
    node = 0
  }
  return node + symbol * 0x1_0000
}
