/**
 * What Underpass tells its own proxies beyond the Workload API: extensions of services and workloads, each a
 * `google.protobuf.Struct` in the extension's Any. Others ignore them.
 */
import { LABELS_EXTENSION, TRAFFIC_EXTENSION } from '../../shared/mesh/decode.ts'
import type { TrafficExtension } from '../../shared/mesh/model.ts'
import { message, type Message } from '../../shared/xds/schema.ts'
import { toStruct, type StructMessage } from '../../shared/xds/struct.ts'
import type { ExtensionMessage } from './messages.ts'

const struct: Message<StructMessage> = message('google.protobuf.Struct')

export function trafficExtension(traffic: TrafficExtension): ExtensionMessage {
  return extension(TRAFFIC_EXTENSION, { ...traffic })
}

/** In the order in which they are given, so that equal labels give equal bytes. */
export function labelsExtension(
  labels: readonly (readonly [key: string, value: string])[]
): ExtensionMessage {
  return extension(LABELS_EXTENSION, Object.fromEntries(labels))
}

function extension(name: string, content: Readonly<Record<string, unknown>>): ExtensionMessage {
  const value = struct.encode(toStruct(content))
  return { name, config: { type_url: 'type.googleapis.com/google.protobuf.Struct', value } }
}
