/**
 * What Underpass tells its own ztunnels about a service beyond the Workload API: extension
 * `underpass.dev/traffic`, a `google.protobuf.Struct` in the extension's Any. Others ignore it.
 */
import { message } from '../../shared/xds/schema.ts'
import type { TrafficExtension } from '../../shared/mesh/model.ts'
import type { ExtensionMessage } from './messages.ts'

export const trafficExtensionName = 'underpass.dev/traffic'

const struct = message<{ fields: Record<string, { numberValue: number }> }>('google.protobuf.Struct')

export function trafficExtension(traffic: TrafficExtension): ExtensionMessage {
  return {
    name: trafficExtensionName,
    config: {
      type_url: 'type.googleapis.com/google.protobuf.Struct',
      value: struct.encode({
        fields: { clientIpAffinitySeconds: { numberValue: traffic.clientIpAffinitySeconds } }
      })
    }
  }
}
