/** Objects of every kind with something wrong in them: what cannot be read is said, what can is sent, nothing ends the program. */
import t from 'tap'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { conditionsOf } from '../../../controlplane/translate/conditions.ts'
import { keyOf, type Kind } from '../../../controlplane/cluster/objects.ts'
import { DesiredState } from '../../../controlplane/desired/desired-state.ts'
import { readObject } from '../../../controlplane/read/object.ts'
import { parseAllYaml } from '../../../shared/kube/yaml.ts'
import { settings } from '../world.ts'
import { generator } from './random-objects.ts'

type Json = null | boolean | number | string | Json[] | { [name: string]: Json }
type JsonObject = { [name: string]: Json }

const file = path.join(import.meta.dirname, '..', '..', 'peers', 'controlplane-objects.yaml')
const kinds: ReadonlySet<string> = new Set<Kind>([
  'Namespace',
  'Node',
  'Pod',
  'Service',
  'EndpointSlice',
  'ServiceEntry',
  'WorkloadEntry',
  'Gateway',
  'GatewayClass',
  'AuthorizationPolicy',
  'PeerAuthentication',
  'VirtualService',
  'DestinationRule'
])

/** What only waypoints are told; the waypoint of namespace shop serves their hosts. */
const forWaypoints = `kind: Service
metadata: {name: routed, namespace: shop, labels: {istio.io/use-waypoint: routes}}
spec: {ports: [{port: 80}]}
---
kind: Gateway
metadata: {name: routes, namespace: shop}
spec: {gatewayClassName: c}
status: {addresses: [{type: Hostname, value: routes.shop}]}
---
kind: VirtualService
metadata: {name: v, namespace: shop}
spec: {hosts: [routed, "*.example"], exportTo: [.], gateways: [mesh], http: [{match: [{uri: {prefix: /a}, gateways: [mesh]}], route: [{destination: {host: routed, subset: v1, port: {number: 80}}, weight: 1}], mirror: {host: gone}, mirrors: [{destination: {host: routed}}]}], tcp: [{route: [{destination: {host: routed}}]}]}
---
kind: DestinationRule
metadata: {name: r, namespace: shop}
spec: {host: routed, exportTo: [.], subsets: [{name: v1, labels: {version: v1}}], trafficPolicy: {loadBalancer: {localityLbSetting: {failoverPriority: [rack]}}}}
`
const samples = parseAllYaml(`${readFileSync(file, 'utf8')}\n---\n${forWaypoints}`)
  .map(({ value }) => value as JsonObject)
  .filter(({ kind }) => typeof kind === 'string' && kinds.has(kind))

/** Values that some reader somewhere may not expect. */
const odd: readonly Json[] = [
  null,
  '',
  'constructor',
  '__proto__',
  'toString',
  'a/b/c',
  '*',
  '**',
  '-1',
  '65536',
  '80-90',
  '10.0.0.0/40',
  '::ffff:10.0.0.1',
  'fe80::1%eth0',
  '1'.repeat(5000),
  '\u0000\ud800',
  true,
  -1,
  0,
  1.5,
  65536,
  Number.MAX_SAFE_INTEGER,
  1e300,
  [],
  {},
  [null],
  [[]],
  [{}],
  ['constructor', 'constructor'],
  { constructor: 'x', toString: 'y' },
  { matchLabels: { constructor: 'x' } }
]

const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000_007)
const timeMs = Number(process.env['FUZZ_MS'] ?? 2000)

type Chance = (below: number) => number

/** A copy with one to three places changed. */
function mutated(sample: JsonObject, chance: Chance): JsonObject {
  const copy = structuredClone(sample)
  for (let left = 1 + chance(3); left > 0; left -= 1) change(copy, chance)
  return copy
}

function change(whole: JsonObject, chance: Chance): void {
  let at: JsonObject | Json[] = whole
  for (;;) {
    const names: string[] = Object.keys(at).filter(
      name => at !== whole || !['kind', 'apiVersion'].includes(name)
    )
    if (names.length === 0) return
    const name: string = names[chance(names.length)] ?? ''
    const inside: Json | undefined = Array.isArray(at) ? at[Number(name)] : at[name]
    if (typeof inside === 'object' && inside !== null && chance(5) > 0) {
      at = inside
      continue
    }
    const value = structuredClone(odd[chance(odd.length)] ?? null)
    if (Array.isArray(at)) {
      if (chance(3) === 0) at.push(value)
      else at[Number(name)] = value
    } else {
      const word = odd.filter(each => typeof each === 'string')[chance(10)] ?? ''
      if (chance(5) === 0) delete at[name]
      else
        Object.defineProperty(at, chance(6) === 0 ? word : name, {
          value,
          enumerable: true,
          configurable: true,
          writable: true
        })
    }
    return
  }
}

function sent(desired: DesiredState): Map<string, string> {
  const versions = new Map<string, string>()
  for (const table of ['address', 'authorization'] as const) {
    for (const { name, version } of desired.snapshot.table(table).values())
      versions.set(`${table} ${name}`, version)
  }
  return versions
}

t.test(`objects with mistakes are read or refused by field, never thrown at (SEED=${seed})`, async t => {
  const random = generator(seed)
  const chance: Chance = below => Math.floor(random() * below)
  const desired = new DesiredState(settings)
  const put = (value: JsonObject): ReturnType<typeof readObject> => {
    const read = readObject(value['kind'] as Kind, value)
    if (read.kind === 'object') desired.put(read.object)
    return read
  }
  for (const sample of samples)
    t.equal(put(sample).kind, 'object', `${JSON.stringify(sample['metadata'])} is read as it stands`)
  desired.refresh()
  const good = sent(desired)
  let [read, refused] = [0, 0]
  const until = performance.now() + timeMs
  while (performance.now() < until) {
    const sample = samples[chance(samples.length)]
    if (sample === undefined) break
    const hostile = mutated(sample, chance)
    try {
      const result = put(hostile)
      if (result.kind === 'object') {
        read += 1
        desired.refresh()
        conditionsOf(desired.view, result.object)
        desired.delete(result.object.kind, keyOf(result.object.meta))
      } else {
        refused += 1
        if (result.field === '' || !result.message.includes(result.field)) {
          t.fail('the field is not named', { hostile, result })
          return
        }
        desired.refresh()
      }
      put(sample)
      desired.refresh()
    } catch (error) {
      t.error(error, JSON.stringify(hostile).slice(0, 2000))
      return
    }
  }
  t.ok(read > 50 && refused > 50, `${read} were read, ${refused} refused`)
  t.strictSame(sent(desired), good, 'with the mistakes undone everything is as before')
})
