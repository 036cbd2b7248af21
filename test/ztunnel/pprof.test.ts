import t from 'tap'
import { gunzipSync } from 'node:zlib'
import protobuf from 'protobufjs'
import { pprofOf, type V8Profile } from '../../ztunnel/pprof.ts'

// google/pprof, profile.proto, as far as we write it
const { root } = protobuf.parse(`syntax = "proto3";
message Profile { repeated ValueType sample_type = 1; repeated Sample sample = 2; repeated Location location = 4; repeated Function function = 5; repeated string string_table = 6; int64 duration_nanos = 10; ValueType period_type = 11; int64 period = 12; }
message ValueType { int64 type = 1; int64 unit = 2; }
message Sample { repeated uint64 location_id = 1; repeated int64 value = 2; }
message Location { uint64 id = 1; repeated Line line = 4; }
message Line { uint64 function_id = 1; int64 line = 2; }
message Function { uint64 id = 1; int64 name = 2; int64 system_name = 3; int64 filename = 4; }`)

interface Decoded {
  readonly sampleType: { type: number; unit: number }[]
  readonly sample: { locationId: number[]; value: number[] }[]
  readonly location: { id: number; line: { functionId: number; line: number }[] }[]
  readonly function: { id: number; name: number; filename?: number }[]
  readonly stringTable: string[]
  readonly durationNanos: number
  readonly period: number
}

const frame = (
  id: number,
  functionName: string,
  lineNumber: number,
  children: number[] = []
): V8Profile['nodes'][number] => ({
  id,
  callFrame: { functionName, url: functionName.startsWith('(') ? '' : 'file:///a.ts', lineNumber },
  children
})

t.test('stacks, counts and times come out as pprof reads them', async t => {
  const profile: V8Profile = {
    nodes: [
      frame(1, '(root)', -1, [2, 4]),
      frame(2, 'outer', 9, [3]),
      frame(3, 'inner', 19),
      frame(4, '(idle)', -1)
    ],
    startTime: 0,
    endTime: 5000,
    samples: [3, 3, 2, 4],
    timeDeltas: [100, 200, 50, 4000]
  }
  const type = root.lookupType('Profile')
  const bytes = gunzipSync(pprofOf([{ thread: 'worker 0', profile }], 100))
  const decoded = type.toObject(type.decode(bytes), { longs: Number, arrays: true }) as Decoded
  const text = (index: number): string | undefined => decoded.stringTable[index]
  t.strictSame(
    decoded.sampleType.map(({ type, unit }) => [text(type), text(unit)]),
    [
      ['samples', 'count'],
      ['cpu', 'nanoseconds']
    ]
  )
  const names = new Map(decoded.function.map(({ id, name }) => [id, text(name)]))
  const lines = new Map(
    decoded.location.map(({ id, line }) => [
      id,
      `${names.get(line[0]?.functionId ?? 0)}:${line[0]?.line ?? 0}`
    ])
  )
  t.strictSame(
    decoded.sample.map(({ locationId, value }) => [locationId.map(id => lines.get(id)), value]),
    [
      [
        ['inner:20', 'outer:10', 'worker 0:0'],
        [2, 300_000]
      ],
      [
        ['outer:10', 'worker 0:0'],
        [1, 50_000]
      ]
    ]
  )
  t.equal(text(0), '')
  t.equal(decoded.durationNanos, 5_000_000)
  t.equal(decoded.period, 10_000_000)
})
