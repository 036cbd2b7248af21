/**
 * A CPU profile of V8 as pprof reads it: `go tool pprof`, Parca, Pyroscope. Source: google/pprof, profile.proto,
 * whose few fields that we need are written by hand.
 */
import { gzipSync } from 'node:zlib'

/** What the inspector answers to Profiler.stop. */
export interface V8Profile {
  readonly nodes: readonly V8Node[]
  /** Microseconds. */
  readonly startTime: number
  readonly endTime: number
  readonly samples?: readonly number[]
  /** Microseconds between samples. */
  readonly timeDeltas?: readonly number[]
}

interface V8Node {
  readonly id: number
  readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number }
  readonly children?: readonly number[]
}

/** A thread's profile and the name under which its stacks appear. */
export interface ThreadProfile {
  readonly thread: string
  readonly profile: V8Profile
}

/** Gzipped protobuf. Every stack starts with a frame that names its thread; idle time is left out. */
export function pprofOf(threads: readonly ThreadProfile[], frequency: number): Buffer {
  const strings = new Numbering<string>()
  strings.of('') // index 0 is the empty string by definition
  const functions = new Numbering<string>(1) // 0 means none
  const parts: Buffer[] = []
  const cpu = { type: strings.of('cpu'), unit: strings.of('nanoseconds') }
  const valueType = (type: number, unit: number): Buffer =>
    Buffer.concat([varintField(1, type), varintField(2, unit)])
  parts.push(bytesField(1, valueType(strings.of('samples'), strings.of('count'))))
  parts.push(bytesField(1, valueType(cpu.type, cpu.unit)))
  for (const { thread, profile } of threads) {
    for (const { stack, count, microseconds } of stacksOf(profile)) {
      const ids = [...stack.map(frame => functions.of(frame)), functions.of(`${thread}\0\0`)]
      const values = Buffer.concat([varint(count), varint(microseconds * 1000)])
      parts.push(
        bytesField(2, Buffer.concat([bytesField(1, Buffer.concat(ids.map(varint))), bytesField(2, values)]))
      )
    }
  }
  for (const [frame, id] of functions) {
    const [name = '', file = '', line = '0'] = frame.split('\0')
    const lineMessage = Buffer.concat([varintField(1, id), varintField(2, Number(line))])
    parts.push(bytesField(4, Buffer.concat([varintField(1, id), bytesField(4, lineMessage)])))
    const nameId = strings.of(name)
    const fields = [
      varintField(1, id),
      varintField(2, nameId),
      varintField(3, nameId),
      varintField(4, strings.of(file))
    ]
    parts.push(bytesField(5, Buffer.concat(fields)))
  }
  const duration = Math.max(0, ...threads.map(({ profile }) => profile.endTime - profile.startTime))
  parts.push(varintField(10, duration * 1000))
  parts.push(bytesField(11, valueType(cpu.type, cpu.unit)))
  parts.push(varintField(12, Math.round(1e9 / frequency)))
  for (const [text] of strings) parts.push(bytesField(6, Buffer.from(text)))
  return gzipSync(Buffer.concat(parts))
}

interface Stack {
  /** `function\0file\0line`, innermost first. */
  readonly stack: readonly string[]
  count: number
  microseconds: number
}

function stacksOf(profile: V8Profile): Iterable<Stack> {
  const nodes = new Map(profile.nodes.map(node => [node.id, node]))
  const parents = new Map<number, number>()
  for (const { id, children = [] } of profile.nodes) for (const child of children) parents.set(child, id)
  const stacks = new Map<number, Stack>()
  for (const [index, id] of (profile.samples ?? []).entries()) {
    const node = nodes.get(id)
    if (node === undefined || ['(idle)', '(root)', '(program)'].includes(node.callFrame.functionName))
      continue
    let found = stacks.get(id)
    if (found === undefined)
      stacks.set(id, (found = { stack: framesOf(id, nodes, parents), count: 0, microseconds: 0 }))
    found.count += 1
    found.microseconds += Math.max(0, profile.timeDeltas?.[index] ?? 0)
  }
  return stacks.values()
}

function framesOf(
  leaf: number,
  nodes: ReadonlyMap<number, V8Node>,
  parents: ReadonlyMap<number, number>
): string[] {
  const frames: string[] = []
  for (let id: number | undefined = leaf; id !== undefined; id = parents.get(id)) {
    const { functionName, url, lineNumber } = nodes.get(id)?.callFrame ?? {
      functionName: '',
      url: '',
      lineNumber: -1
    }
    if (functionName !== '(root)') frames.push(`${functionName || '(anonymous)'}\0${url}\0${lineNumber + 1}`)
  }
  return frames
}

/** Numbers things in the order of their first use, and iterates in that order. */
class Numbering<T> {
  readonly #numbers = new Map<T, number>()
  readonly #first: number

  constructor(first = 0) {
    this.#first = first
  }

  of(value: T): number {
    const known = this.#numbers.get(value)
    if (known !== undefined) return known
    const number = this.#numbers.size + this.#first
    this.#numbers.set(value, number)
    return number
  }

  [Symbol.iterator](): IterableIterator<[T, number]> {
    return this.#numbers.entries()
  }
}

function varintField(field: number, value: number): Buffer {
  return value === 0 ? Buffer.alloc(0) : Buffer.concat([varint(field << 3), varint(value)])
}

function bytesField(field: number, bytes: Buffer): Buffer {
  return Buffer.concat([varint((field << 3) | 2), varint(bytes.length), bytes])
}

function varint(value: number): Buffer {
  const bytes: number[] = []
  let rest = BigInt(Math.max(0, Math.round(value)))
  while (rest > 0x7fn) {
    bytes.push(Number(rest & 0x7fn) | 0x80)
    rest >>= 7n
  }
  bytes.push(Number(rest))
  return Buffer.from(bytes)
}
