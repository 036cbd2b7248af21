import t, { type Test } from 'tap'
import dns from 'node:dns/promises'
import type { LookupAddress } from 'node:dns'
import { ip } from '../../shared/net/address.ts'
import { Metrics } from '../../shared/telemetry/metrics.ts'
import { workerFamilies } from '../../ztunnel/families.ts'
import type { Pod } from '../../ztunnel/pod.ts'
import { resolveHostname } from '../../ztunnel/resolve.ts'
import { workload } from '../support/mesh.ts'

const source = workload({ name: 'client' })
const target = workload({ name: 'db', hostname: 'db.example' })

const answers: readonly {
  readonly name: string
  readonly prefer: 4 | 6
  readonly given: string[]
  readonly found: string[]
}[] = [
  {
    name: 'one of the family that the client used',
    prefer: 4,
    given: ['192.0.2.1', '2001:db8::1'],
    found: ['192.0.2.1']
  },
  { name: 'IPv6 likewise', prefer: 6, given: ['192.0.2.1', '2001:db8::1'], found: ['2001:db8::1'] },
  { name: 'the other family when there is no choice', prefer: 6, given: ['192.0.2.1'], found: ['192.0.2.1'] },
  { name: 'any of several', prefer: 4, given: ['192.0.2.1', '192.0.2.2'], found: ['192.0.2.1', '192.0.2.2'] }
]

t.test('which address of a host name is taken', async t => {
  for (const { name, prefer, given, found } of answers) {
    answering(t, async () => given.map(address => ({ address, family: 4 })))
    const seen = new Set<string>()
    for (const chance of [0, 0.99]) seen.add(await resolve({ prefer, chance }))
    t.strictSame([...seen], found, name)
  }
})

t.test('without an address the connection fails, with the name and the cause', async t => {
  answering(t, async () => [])
  await t.rejects(resolve({}), {
    code: 'CONNECT_FAILED',
    message: 'dns response had no valid IP addresses for db.example'
  })
  answering(t, async () => Promise.reject(new Error('ENOTFOUND')))
  await t.rejects(resolve({}), {
    code: 'CONNECT_FAILED',
    message: /^no ip addresses were resolved for workload .*db \(db\.example\)/,
    cause: { message: 'ENOTFOUND' }
  })
})

t.test('a resolver that does not answer holds a connection no longer than a dial would', async t => {
  answering(t, () => new Promise(() => undefined))
  await t.rejects(resolve({ connectTimeoutMs: 20 }), {
    code: 'CONNECT_FAILED',
    cause: { message: 'the resolver did not answer within 20 ms' }
  })
})

t.test('IPv4 only is asked for where IPv6 is off', async t => {
  const asked: unknown[] = []
  answering(t, async options => {
    asked.push(options)
    return [{ address: '192.0.2.1', family: 4 }]
  })
  await resolve({ ipv6: false })
  await resolve({})
  t.match(asked, [{ family: 4 }, { family: 0 }])
})

function answering(t: Test, lookup: (options: unknown) => Promise<LookupAddress[]>): void {
  t.intercept(dns, 'lookup', { value: (_name: string, options: unknown) => lookup(options) })
}

function resolve({
  prefer = 4,
  chance = 0,
  connectTimeoutMs = 10_000,
  ipv6 = true
}: {
  prefer?: 4 | 6
  chance?: number
  connectTimeoutMs?: number
  ipv6?: boolean
}): Promise<string> {
  const pod = {
    config: { ipv6, connectTimeoutMs },
    metrics: new Metrics(workerFamilies),
    random: () => chance
  } as unknown as Pod
  return resolveHostname(pod, source, {
    kind: 'resolve',
    hostname: 'db.example',
    prefer,
    workload: target,
    service: undefined,
    withAddress: () => ({ kind: 'passthrough', to: { ip: ip('192.0.2.1'), port: 1 }, service: undefined })
  })
}
