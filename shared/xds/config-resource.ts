/**
 * Configuration as it travels by xDS: an object's name, age and spec, whatever its kind; the kind is the type of
 * the subscription. Source: Istio's published `istio.mcp.v1alpha1.Resource`; the body is the spec as JSON.
 */
import { message, type Message } from './schema.ts'
import { fromStruct, toStruct, type StructMessage } from './struct.ts'

/** What the resource around it says that its value is. */
export const configResourceType = 'type.googleapis.com/istio.mcp.v1alpha1.Resource'
const structType = 'type.googleapis.com/google.protobuf.Struct'

export interface ConfigResource {
  readonly namespace: string
  readonly name: string
  /** Milliseconds since the epoch, whole seconds; 0 when unknown. Of two objects in conflict the older one wins. */
  readonly createdMs: number
  /** Those that change what the spec means; absent when there are none. */
  readonly annotations?: Readonly<Record<string, string>>
  readonly spec: Readonly<Record<string, unknown>>
}

interface ResourceMessage {
  readonly metadata?: {
    readonly name?: string
    readonly createTime?: { readonly seconds?: number }
    readonly annotations?: Readonly<Record<string, string>>
  }
  readonly body?: { readonly type_url?: string; readonly value?: Buffer }
}

const resource: Message<ResourceMessage> = message('istio.mcp.v1alpha1.Resource')
const struct: Message<StructMessage> = message('google.protobuf.Struct')

export function encodeConfigResource(config: ConfigResource): Buffer {
  const { namespace, name, createdMs, annotations = {}, spec } = config
  const seconds = Math.floor(createdMs / 1000)
  return resource.encode({
    metadata: {
      name: `${namespace}/${name}`,
      ...(seconds === 0 ? {} : { createTime: { seconds } }),
      annotations
    },
    body: { type_url: structType, value: struct.encode(toStruct(spec)) }
  })
}

/** Throws an Error that says what is wrong with the bytes; the object's own fields are not looked at. */
export function decodeConfigResource(bytes: Uint8Array): ConfigResource {
  const { metadata, body } = decoded(resource, bytes)
  const [namespace = '', name = '', ...more] = (metadata?.name ?? '').split('/')
  if (namespace === '' || name === '' || more.length > 0) {
    throw new Error(`metadata.name: expected namespace/name, found ${JSON.stringify(metadata?.name ?? '')}`)
  }
  if (body?.type_url !== structType) {
    throw new Error(
      `body of ${namespace}/${name}: expected ${structType}, found ${body?.type_url ?? 'nothing'}`
    )
  }
  const createdMs = (metadata?.createTime?.seconds ?? 0) * 1000
  const spec = fromStruct(decoded(struct, body.value ?? Buffer.of()))
  const annotations = metadata?.annotations ?? {}
  if (Object.keys(annotations).length === 0) return { namespace, name, createdMs, spec }
  return { namespace, name, createdMs, annotations, spec }
}

function decoded<T extends object>(type: Message<T>, bytes: Uint8Array): T {
  try {
    return type.decode(bytes)
  } catch (cause) {
    throw new Error(`the bytes are no ${type.name}`, { cause })
  }
}
