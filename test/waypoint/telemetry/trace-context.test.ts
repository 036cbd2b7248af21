/** TM-32: what headers say of the trace that a request is part of, and what they say afterwards. */
import t from 'tap'
import { HeaderList } from '../../../waypoint/http/header-list.ts'
import { readTraceContext, writeTraceContext } from '../../../waypoint/telemetry/tracing/trace-context.ts'

const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
const spanId = '00f067aa0ba902b7'
const short = 'a3ce929d0e0e4736'

const read: readonly (readonly [name: string, headers: readonly string[], expected: unknown])[] = [
  ['nothing', ['accept', '*/*'], undefined],
  ['W3C, sampled', ['traceparent', `00-${traceId}-${spanId}-01`], { traceId, spanId, sampled: true }],
  ['W3C, not sampled', ['traceparent', `00-${traceId}-${spanId}-00`], { traceId, spanId, sampled: false }],
  ['W3C, other flags', ['traceparent', `00-${traceId}-${spanId}-02`], { sampled: false }],
  ['W3C of a later version', ['traceparent', `cc-${traceId}-${spanId}-01-more`], { traceId, sampled: true }],
  ['W3C, too long for its version', ['traceparent', `00-${traceId}-${spanId}-01-more`], undefined],
  ['W3C, the version that is none', ['traceparent', `ff-${traceId}-${spanId}-01`], undefined],
  ['W3C in capitals', ['traceparent', `00-${traceId.toUpperCase()}-${spanId}-01`], undefined],
  ['W3C, all zeros', ['traceparent', `00-${'0'.repeat(32)}-${spanId}-01`], undefined],
  ['W3C, a span of zeros', ['traceparent', `00-${traceId}-${'0'.repeat(16)}-01`], undefined],
  ['B3', ['b3', `${traceId}-${spanId}-1`], { traceId, spanId, sampled: true }],
  ['B3 with a parent', ['b3', `${traceId}-${spanId}-0-${short}`], { traceId, spanId, sampled: false }],
  ['B3, debug', ['b3', `${traceId}-${spanId}-d`], { sampled: true }],
  ['B3, undecided', ['b3', `${traceId}-${spanId}`], { traceId, sampled: undefined }],
  ['B3, 64 bits', ['b3', `${short}-${spanId}-1`], { traceId: `${'0'.repeat(16)}${short}` }],
  ['B3, only a refusal', ['b3', '0'], { traceId: '', sampled: false }],
  ['B3, nonsense', ['b3', 'x-y-z'], undefined],
  [
    'B3 in fields',
    ['x-b3-traceid', traceId.toUpperCase(), 'x-b3-spanid', spanId, 'x-b3-sampled', '1'],
    { traceId, spanId, sampled: true }
  ],
  [
    'B3 in fields, debug',
    ['x-b3-traceid', traceId, 'x-b3-spanid', spanId, 'x-b3-flags', '1'],
    { sampled: true }
  ],
  ['B3 in fields, only a decision', ['x-b3-sampled', 'false'], { traceId: '', sampled: false }],
  ['B3 in fields, half', ['x-b3-traceid', traceId], undefined],
  [
    'both: W3C counts',
    ['b3', `${traceId}-${short}-0`, 'traceparent', `00-${traceId}-${spanId}-01`],
    { spanId, sampled: true }
  ]
]
for (const [name, headers, expected] of read) {
  t.test(`read: ${name}`, async t => {
    const found = readTraceContext(HeaderList.of(...headers))
    if (expected === undefined) t.equal(found, undefined)
    else t.match(found, expected)
  })
}

const next = { traceId, spanId: '1111111111111111', parentId: spanId, sampled: true }
const w3c = ['traceparent', `00-${traceId}-1111111111111111-01`]
const written: readonly (readonly [name: string, before: readonly string[], after: readonly string[]])[] = [
  ['to nothing', [], w3c],
  [
    'to W3C, whose state is kept',
    ['traceparent', `00-${traceId}-${spanId}-01`, 'tracestate', 'a=b'],
    [...w3c, 'tracestate', 'a=b']
  ],
  ['to a state without a trace', ['tracestate', 'a=b'], w3c],
  ['to B3', ['b3', `${traceId}-${spanId}-1`], ['b3', `${traceId}-1111111111111111-1-${spanId}`, ...w3c]],
  [
    'to B3 in fields',
    ['x-b3-traceid', traceId, 'x-b3-spanid', spanId, 'x-b3-sampled', '1'],
    [
      ...['x-b3-traceid', traceId, 'x-b3-spanid', '1111111111111111', 'x-b3-sampled', '1'],
      ...w3c,
      ...['x-b3-parentspanid', spanId]
    ]
  ]
]
for (const [name, before, after] of written) {
  t.test(`written: ${name}`, async t => {
    const headers = HeaderList.of(...before)
    writeTraceContext(headers, next)
    t.strictSame([...headers].flat(), after)
  })
}
