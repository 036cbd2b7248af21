/** TM-30: collectors as the mesh configuration writes them. */
import t from 'tap'
import { readTraceProviders } from '../../../waypoint/telemetry/tracing/trace-providers.ts'

const service = 'obs/otel.obs.svc.cluster.local'
const grpc = { service, port: 4317 }

const good: readonly (readonly [name: string, written: object, expected: object])[] = [
  [
    'gRPC',
    { opentelemetry: grpc },
    {
      kind: 'grpc',
      service: { namespace: 'obs', hostname: 'otel.obs.svc.cluster.local', port: 4317 },
      timeoutMs: 10_000,
      maxTagLength: 256
    }
  ],
  [
    'HTTP',
    {
      opentelemetry: {
        ...{ service: 'otel.example', port: 4318, maxTagLength: 20 },
        http: { path: '/v1/traces', timeout: '3s', headers: [{ name: 'X-Token', value: 'a b' }] }
      }
    },
    {
      ...{ kind: 'http', path: '/v1/traces', timeoutMs: 3000, maxTagLength: 20 },
      service: { namespace: undefined, hostname: 'otel.example', port: 4318 },
      headers: [['x-token', 'a b']]
    }
  ],
  ['gRPC with a timeout', { opentelemetry: { ...grpc, grpc: { timeout: '1s' } } }, { timeoutMs: 1000 }]
]
for (const [name, written, expected] of good) {
  t.test(name, async t => {
    t.match(readTraceProviders([{ name: 'otel', ...written }]).get('otel'), expected)
  })
}

const bad: readonly (readonly [written: object, reason: RegExp])[] = [
  [{ opentelemetry: { port: 1 } }, /opentelemetry\.service/],
  [{ opentelemetry: { service, port: 0 } }, /opentelemetry\.port/],
  [{ opentelemetry: { ...grpc, http: { path: 'v1' } } }, /opentelemetry\.http\.path/],
  [{ opentelemetry: { ...grpc, http: { path: '/', timeout: 'soon' } } }, /opentelemetry\.http\.timeout/],
  [{ opentelemetry: { ...grpc, http: { path: '/', headers: [{ name: 'a b' }] } } }, /http\.headers\[0\]/],
  [{ opentelemetry: { ...grpc, http: { path: '/' }, grpc: {} } }, /choose one/],
  [{ opentelemetry: { ...grpc, tls: {} } }, /opentelemetry\.tls: unknown field/],
  [{ zipkin: grpc }, /zipkin is not supported: use opentelemetry/]
]
for (const [written, reason] of bad) {
  t.test(`refused: ${JSON.stringify(written)}`, async t => {
    const found = readTraceProviders([{ name: 'otel', ...written }]).get('otel')
    t.match(found, { kind: 'invalid', reason })
  })
}

t.test('providers of other kinds are not ours, and what is no list has none', async t => {
  t.equal(readTraceProviders([{ name: 'a', envoyFileAccessLog: {} }, 3, { opentelemetry: {} }]).size, 0)
  t.equal(readTraceProviders('no').size, 0)
})
