/** Protobuf by field numbers alone, so that what a schema says of them is checked by something else than itself. */

export type Wire = ReadonlyMap<number, readonly (Buffer | number)[]>

export function field(number: number, value: Buffer | string | number): Buffer {
  if (typeof value === 'number') return Buffer.concat([varint(number * 8), varint(value)])
  const bytes = Buffer.from(value as string)
  return Buffer.concat([varint(number * 8 + 2), varint(bytes.length), bytes])
}

export function fields(
  ...parts: readonly (readonly [number: number, value: Buffer | string | number])[]
): Buffer {
  return Buffer.concat(parts.map(([number, value]) => field(number, value)))
}

export function readFields(bytes: Buffer): Wire {
  const found = new Map<number, (Buffer | number)[]>()
  let at = 0
  const next = (): number => {
    let value = 0n
    for (let shift = 0n; ; shift += 7n) {
      const byte = BigInt(bytes[at++] ?? 0)
      value |= (byte & 127n) << shift
      if (byte < 128n) return Number(BigInt.asIntN(64, value))
    }
  }
  const readValue = (kind: number): Buffer | number => {
    if (kind === 1) return Number(bytes.readBigUInt64LE((at += 8) - 8))
    if (kind === 5) return bytes.readUInt32LE((at += 4) - 4)
    const length = next()
    return kind === 2 ? bytes.subarray(at, (at += length)) : length
  }
  while (at < bytes.length) {
    const tag = next()
    const value = readValue(tag % 8)
    found.set(tag >> 3, [...(found.get(tag >> 3) ?? []), value])
  }
  return found
}

/** The message at the end of a path of field numbers. */
export function within(bytes: Buffer, ...path: readonly number[]): Buffer {
  return path.reduce(
    (inner, number) => Buffer.from((readFields(inner).get(number)?.[0] ?? '') as Buffer),
    bytes
  )
}

function varint(value: number): Buffer {
  const bytes: number[] = []
  let left = value
  for (; left > 127; left = Math.floor(left / 128)) bytes.push((left % 128) + 128)
  return Buffer.from([...bytes, left])
}
