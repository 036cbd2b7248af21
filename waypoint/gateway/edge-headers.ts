/** What a gateway says of a client to whom it forwards, in the place of what the client says of itself. */
import type { SocketAddress } from '../../shared/net/address.ts'
import type { HeaderList } from '../http/header-list.ts'

/** Words of proxies inside the mesh: from outside they would be believed. Source: Envoy's published handling of them. */
const inside = [
  'x-envoy-internal',
  'x-envoy-external-address',
  'x-envoy-decorator-operation',
  'x-envoy-peer-metadata',
  'x-envoy-peer-metadata-id'
]

/** RFC 7239 knows the same as `Forwarded`; what everybody reads is X-Forwarded-For, to whose end the client is added. */
export function stampEdge(headers: HeaderList, client: SocketAddress, certificate: string | undefined): void {
  if (certificate !== undefined) headers.set('x-forwarded-client-cert', certificate)
  for (const name of inside) headers.remove(name)
  const before = headers.all('x-forwarded-for')
  headers.set('x-forwarded-for', before.length === 0 ? client.ip : `${before.join(', ')}, ${client.ip}`)
  headers.remove('x-forwarded-proto')
}
