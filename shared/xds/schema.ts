/**
 * The protobuf messages of the wire protocols, by their full names. The only file that imports protobufjs.
 * Field names are camelCase; enums are numbers; bytes are Buffers; unset messages, oneofs and
 * scalars that have their default are absent too; lists and maps are always there.
 */
import protobuf from 'protobufjs'
import path from 'node:path'

export interface Message<T extends object> {
  readonly name: string
  encode(value: T): Buffer
  /** Throws on bytes that are not a message of this type. */
  decode(bytes: Uint8Array): T
}

const files = [
  'workload',
  'authorization',
  'zds',
  'ca',
  'discovery',
  'status',
  'mcp',
  'external_auth',
  'otlp_trace',
  'rate_limit'
]

let root: protobuf.Root | undefined

function loadRoot(): protobuf.Root {
  if (root !== undefined) return root
  root = new protobuf.Root()
  for (const file of files) root.loadSync(path.join(import.meta.dirname, 'proto', `${file}.proto`))
  root.resolveAll()
  return root
}

/** A message type of the schemas in `proto/`; T is what the caller knows of its fields. */
export function message<T extends object>(name: string): Message<T> {
  let type: protobuf.Type | undefined
  const resolve = (): protobuf.Type => (type ??= loadRoot().lookupType(name))
  return {
    name,
    encode: value => Buffer.from(resolve().encode(resolve().fromObject(value)).finish()),
    decode: bytes =>
      resolve().toObject(resolve().decode(bytes), {
        longs: Number,
        bytes: Buffer,
        arrays: true,
        objects: true,
        defaults: false
      }) as T
  }
}
