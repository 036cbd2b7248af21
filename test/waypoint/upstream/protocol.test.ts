/** What pods are spoken to in. */
import t from 'tap'
import type { AppProtocol } from '../../../shared/mesh/model.ts'
import { HeaderList } from '../../../waypoint/http/header-list.ts'
import { usualPolicy, usualConnections } from '../../../waypoint/traffic-policy.ts'
import { protocolTowards } from '../../../waypoint/upstream/protocol.ts'
import { service } from '../../support/mesh.ts'

const situations: readonly {
  readonly port: AppProtocol | undefined
  readonly type?: string
  readonly upgraded?: true
  readonly expected: 'http1' | 'http2'
}[] = [
  { port: undefined, expected: 'http1' },
  { port: 'HTTP11', expected: 'http1' },
  { port: 'HTTP2', expected: 'http2' },
  { port: 'GRPC', expected: 'http2' },
  { port: 'HTTP11', upgraded: true, expected: 'http2' },
  { port: undefined, type: 'application/grpc', expected: 'http2' },
  { port: 'TLS', type: 'application/grpc+proto', expected: 'http2' },
  { port: undefined, type: 'application/grpc; charset=utf-8', expected: 'http2' },
  { port: undefined, type: 'application/grpc-web', expected: 'http1' },
  { port: undefined, type: 'text/html', expected: 'http1' },
  { port: 'HTTP11', type: 'application/grpc', expected: 'http1' }
]

for (const { port, type, upgraded, expected } of situations) {
  const title = `a port of ${port ?? 'nobody knows what'}, ${type ?? 'any'} request`
  t.test(`${title}${upgraded ? ', upgraded' : ''}: ${expected}`, async t => {
    const web = { ...service({ name: 'web' }), protocols: new Map(port === undefined ? [] : [[80, port]]) }
    const policy = { ...usualPolicy, connections: { ...usualConnections, upgradeToHttp2: upgraded ?? false } }
    const headers = type === undefined ? new HeaderList() : HeaderList.of('content-type', type)
    t.equal(protocolTowards(web, 80, upgraded && { policy }, headers), expected)
  })
}
