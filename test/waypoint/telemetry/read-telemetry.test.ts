/** TM-18 to TM-21: Telemetry objects, field by field. */
import t from 'tap'
import { readTelemetry } from '../../../waypoint/telemetry/rules/read-telemetry.ts'
import type { TelemetryPolicy } from '../../../waypoint/telemetry/rules/telemetry-policy.ts'

const read = (
  spec: Readonly<Record<string, unknown>>,
  mode: 'SERVER' | 'CLIENT' = 'SERVER'
): TelemetryPolicy =>
  readTelemetry(
    { namespace: 'shop', name: 'a', createdMs: 0, spec },
    { rootNamespace: 'istio-system', mode, environment: name => (name === 'TIER' ? 'gold' : undefined) }
  )

const understood: readonly (readonly [
  name: string,
  spec: Readonly<Record<string, unknown>>,
  expected: object
])[] = [
  ['nothing', {}, { logging: [], tracing: [], metrics: [], unsupported: [] }],
  [
    'logging by envoy',
    { accessLogging: [{ providers: [{ name: 'envoy' }] }] },
    { logging: [{ enabled: true }] }
  ],
  ['no logging', { accessLogging: [{ disabled: true }] }, { logging: [{ enabled: false }] }],
  [
    'tracing, all of it',
    {
      tracing: [
        {
          ...{ providers: [{ name: 'otel' }], randomSamplingPercentage: 12.5, disableSpanReporting: true },
          ...{ enableIstioTags: false, disableContextPropagation: true, useRequestIdForTraceSampling: false },
          customTags: {
            a: { literal: { value: 'x' } },
            b: { header: { name: 'X-User', defaultValue: 'nobody' } },
            c: { environment: { name: 'TIER' } },
            d: { environment: { name: 'NONE', defaultValue: 'other' } }
          }
        }
      ]
    },
    {
      tracing: [
        {
          ...{ provider: 'otel', sampling: 0.125, reports: false, propagates: false, istioTags: false },
          customTags: [
            { kind: 'literal', key: 'a', value: 'x' },
            { kind: 'header', key: 'b', name: 'x-user', fallback: 'nobody' },
            { kind: 'literal', key: 'c', value: 'gold' },
            { kind: 'literal', key: 'd', value: 'other' }
          ]
        }
      ]
    }
  ],
  ['a percentage of 0', { tracing: [{ randomSamplingPercentage: 0 }] }, { tracing: [{ sampling: 0 }] }],
  [
    'what is not said stays as it is',
    { tracing: [{}] },
    { tracing: [{ provider: undefined, sampling: undefined, reports: undefined, customTags: undefined }] }
  ],
  [
    'one metric',
    { metrics: [{ overrides: [{ match: { metric: 'REQUEST_COUNT' }, disabled: true }] }] },
    { metrics: [{ families: ['istio_requests_total'], disabled: true }] }
  ],
  [
    'all metrics',
    {
      metrics: [
        {
          providers: [{ name: 'prometheus' }],
          overrides: [{ tagOverrides: { response_code: { operation: 'REMOVE' } } }]
        }
      ]
    },
    { metrics: [{ disabled: undefined, labels: new Map([['response_code', { kind: 'remove' }]]) }] }
  ],
  [
    'a metric by its name',
    { metrics: [{ overrides: [{ match: { customMetric: 'istio_request_bytes' }, disabled: true }] }] },
    { metrics: [{ families: ['istio_request_bytes'] }] }
  ],
  [
    'what is for clients is not for a waypoint',
    {
      accessLogging: [{ match: { mode: 'CLIENT' }, disabled: true }],
      tracing: [{ match: { mode: 'CLIENT' } }],
      metrics: [{ overrides: [{ match: { metric: 'REQUEST_SIZE', mode: 'CLIENT' }, disabled: true }] }]
    },
    { logging: { length: 0 }, tracing: { length: 0 }, metrics: { length: 0 } }
  ]
]
for (const [name, spec, expected] of understood) {
  t.test(name, async t => {
    const policy = read(spec)
    t.match(policy, expected)
    t.strictSame(policy.unsupported, [])
  })
}

t.test('a gateway is a client', async t => {
  const spec = { accessLogging: [{ match: { mode: 'CLIENT' }, disabled: true }] }
  t.equal(read(spec, 'CLIENT').logging.length, 1)
})

const told: readonly (readonly [spec: Readonly<Record<string, unknown>>, reason: RegExp])[] = [
  [
    { accessLogging: [{ providers: [{ name: 'otel' }] }] },
    /accessLogging\[0\]\.providers: access log provider otel/
  ],
  [
    { accessLogging: [{ filter: { expression: 'connection.mtls' } }] },
    /accessLogging\[0\]\.filter: all is logged/
  ],
  [
    { metrics: [{ providers: [{ name: 'stackdriver' }] }] },
    /metrics\[0\]\.providers: metrics for stackdriver/
  ],
  [{ metrics: [{ overrides: [{ match: { customMetric: 'my_own' } }] }] }, /there is no metric my_own/],
  [
    { metrics: [{ overrides: [{ tagOverrides: { mine: { value: '"x"' } } }] }] },
    /only labels that the metric has/
  ],
  [
    { metrics: [{ overrides: [{ tagOverrides: { source_app: { value: 'a + b' } } }] }] },
    /the expression "a \+ b" is not understood/
  ],
  [
    { tracing: [{ customTags: { a: { formatter: { value: '%X%' } } } }] },
    /expected literal, header or environment/
  ]
]
for (const [spec, reason] of told) {
  t.test(`told: ${JSON.stringify(spec)}`, async t => {
    t.match(read(spec).unsupported, [reason])
  })
}

const refused: readonly (readonly [spec: Readonly<Record<string, unknown>>, reason: RegExp])[] = [
  [{ selector: { matchLabels: {} } }, /spec\.selector/],
  [{ accessLogging: [{ disable: true }] }, /spec\.accessLogging\[0\]\.disable: unknown field/],
  [{ tracing: [{ randomSamplingPercentage: 101 }] }, /randomSamplingPercentage/],
  [{ tracing: [{ customTags: { a: { header: { name: 'a b' } } } }] }, /customTags.*name of a header/],
  [{ metrics: [{ overrides: [{ match: { metric: 'REQUESTS' } }] }] }, /match\.metric/],
  [{ metrics: [{ overrides: [{ disabled: 'yes' }] }] }, /overrides\[0\]\.disabled/]
]
for (const [spec, reason] of refused) {
  t.test(`refused: ${JSON.stringify(spec)}`, async t => {
    t.throws(() => read(spec), { message: reason })
  })
}
