/**
 * Reads a DeltaDiscoveryResponse straight from its bytes. The first push of a large mesh is one message of many
 * megabytes, of which a tree of objects would take several times as much.
 * Source: envoy.service.discovery.v3, and the encoding of Protocol Buffers.
 */

export interface DeltaResponseMessage {
  readonly typeUrl: string
  readonly nonce: string
  readonly resources: readonly ResourceMessage[]
  readonly removedResources: readonly string[]
}

export interface ResourceMessage {
  readonly name: string
  readonly version: string
  readonly aliases: readonly string[]
  /** Body of the Any; a view of the message's bytes. */
  readonly bytes: Buffer
}

const Response = { resources: 2, typeUrl: 4, nonce: 5, removedResources: 6 } as const
const Resource = { version: 1, resource: 2, name: 3, aliases: 4 } as const
const AnyMessage = { value: 2 } as const

const WireType = { varint: 0, bits64: 1, delimited: 2, bits32: 5 } as const

/** Throws on bytes that are no such message. */
export function readDeltaResponse(bytes: Buffer): DeltaResponseMessage {
  let [typeUrl, nonce] = ['', '']
  const resources: ResourceMessage[] = []
  const removedResources: string[] = []
  forEachField(bytes, 0, bytes.length, (field, start, end) => {
    if (field === Response.resources) resources.push(readResource(bytes, start, end))
    else if (field === Response.typeUrl) typeUrl = bytes.toString('utf8', start, end)
    else if (field === Response.nonce) nonce = bytes.toString('utf8', start, end)
    else if (field === Response.removedResources) removedResources.push(bytes.toString('utf8', start, end))
  })
  return { typeUrl, nonce, resources, removedResources }
}

const none: readonly string[] = []
const empty: Buffer = Buffer.alloc(0)

function readResource(bytes: Buffer, from: number, to: number): ResourceMessage {
  let [name, version] = ['', '']
  let aliases = none
  let value: Buffer = empty
  forEachField(bytes, from, to, (field, start, end) => {
    if (field === Resource.name) name = bytes.toString('utf8', start, end)
    else if (field === Resource.version) version = bytes.toString('utf8', start, end)
    else if (field === Resource.aliases) aliases = [...aliases, bytes.toString('utf8', start, end)]
    else if (field === Resource.resource) {
      forEachField(bytes, start, end, (inner, first, last) => {
        if (inner === AnyMessage.value) value = bytes.subarray(first, last)
      })
    }
  })
  return { name, version, aliases, bytes: value }
}

/** Tells the length-delimited fields, in their order; others are passed over, as unknown ones have to be. */
function forEachField(
  bytes: Buffer,
  from: number,
  to: number,
  tell: (field: number, start: number, end: number) => void
): void {
  let at = from
  const varint = (): number => {
    let value = 0
    for (let shift = 0; shift < 70; shift += 7) {
      if (at >= to) throw new Error(`the message ends in the middle of a number, at byte ${at}`)
      const byte = bytes[at++] ?? 0
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) return value
    }
    throw new Error(`a number of more than ten bytes, at byte ${at}`)
  }
  while (at < to) {
    const tag = varint()
    const field = Math.floor(tag / 8)
    if (field === 0) throw new Error(`a field without a number, at byte ${at}`)
    switch (tag % 8) {
      case WireType.varint:
        varint()
        break
      case WireType.bits64:
        at += 8
        break
      case WireType.bits32:
        at += 4
        break
      case WireType.delimited: {
        const length = varint()
        const end = at + length
        if (end > to) throw new Error(`a field of the message ends beyond it, at byte ${at}`)
        tell(field, at, end)
        at = end
        break
      }
      default:
        throw new Error(`wire type ${tag % 8} is unknown, at byte ${at}`)
    }
  }
  if (at !== to) throw new Error(`the message ends in the middle of a field, at byte ${at}`)
}
