import t from 'tap'
import type { ServiceEntryObject } from '../../../controlplane/cluster/objects.ts'
import { addressOwners, allocate, type Allocation } from '../../../controlplane/translate/allocation.ts'
import { object } from '../world.ts'

interface Wishes {
  readonly hosts?: readonly string[]
  readonly resolution?: string
  readonly addresses?: readonly string[]
  readonly labels?: Readonly<Record<string, string>>
  readonly allocated?: readonly Allocation[] | readonly { readonly host: string; readonly value: string }[]
  readonly created?: string
}

function entry(name: string, wishes: Wishes = {}): ServiceEntryObject {
  const { hosts = [`${name}.example.com`], resolution = 'DNS', addresses = [], labels = {} } = wishes
  const made = object({
    kind: 'ServiceEntry',
    metadata: { name, labels, creationTimestamp: wishes.created ?? '2026-01-01T00:00:00Z' },
    spec: { hosts, resolution, addresses },
    status: { addresses: wishes.allocated ?? [] }
  })
  if (made.kind !== 'ServiceEntry') throw new Error(made.kind)
  return made
}

const alone = (each: ServiceEntryObject): readonly Allocation[] | undefined =>
  allocate(each, addressOwners([each]))

t.test('a host without an address gets one of each family, in the ranges that Istio uses', async t => {
  const given = alone(entry('a')) ?? []
  t.equal(given.length, 2)
  t.match(given[0], { host: 'a.example.com', value: /^240\.240\.\d+\.\d+$/ })
  t.match(given[1], { host: 'a.example.com', value: /^2001:2:/ })
  t.strictSame(alone(entry('a')), given, 'and the same one again after all was lost')
  t.equal(alone(entry('a', { allocated: given })), undefined, 'which stays')
})

t.test('who gets none', async t => {
  const table: Readonly<Record<string, Wishes>> = {
    'an entry with addresses': { addresses: ['192.0.2.1'] },
    'resolution NONE': { resolution: 'NONE' },
    'an opt-out': { labels: { 'networking.istio.io/enable-autoallocate-ip': 'False' } },
    'a wildcard': { hosts: ['*.example.com'] }
  }
  for (const [title, wishes] of Object.entries(table)) {
    t.equal(alone(entry('a', wishes)), undefined, title)
    const allocated = [{ host: 'a.example.com', value: '240.240.0.9' }]
    t.strictSame(alone(entry('a', { ...wishes, allocated })), [], `${title}: what it had is taken back`)
  }
  t.equal(alone(entry('a', { hosts: ['*.example.com'], resolution: 'DYNAMIC_DNS' }))?.length, 2)
})

t.test('hosts that come and go change nothing for the others', async t => {
  const first = alone(entry('a', { hosts: ['one.example.com', 'two.example.com'] })) ?? []
  t.equal(new Set(first.map(({ value }) => value)).size, 4)
  const less = alone(entry('a', { hosts: ['two.example.com'], allocated: first }))
  t.strictSame(less, first.slice(2))
})

t.test(
  'of two with one address the younger moves; one that an operator wrote is never given away',
  async t => {
    const taken = alone(entry('a')) ?? []
    const stolen = taken.map(({ value }) => ({ host: 'b.example.com', value }))
    const [old, young] = [entry('a', { allocated: taken }), entry('b', { allocated: stolen })]
    const owners = addressOwners([old, young])
    t.equal(allocate(old, owners), undefined)
    const moved = allocate(young, owners) ?? []
    t.equal(moved.length, 2)
    t.notOk(moved.some(({ value }) => taken.some(other => other.value === value)))
    const written = entry('c', { addresses: [taken[0]?.value ?? ''] })
    const given = allocate(old, addressOwners([old, written])) ?? []
    t.not(given[0]?.value, taken[0]?.value)
    t.equal(given[1]?.value, taken[1]?.value, 'the other family is not touched')
  }
)

t.test('two thousand hosts share no address', async t => {
  const entries = Array.from({ length: 2000 }, (_, index) => entry(`host-${index}`))
  const owners = new Map(addressOwners(entries))
  for (const each of entries) {
    for (const { host, value } of allocate(each, owners) ?? []) {
      if (owners.has(value)) t.fail(`${value} of ${host} is used twice`)
      owners.set(value, host)
    }
  }
  t.equal(owners.size, 4000)
})

t.test('a range that is used up gives none', async t => {
  const full = new Map(addressOwners([]))
  for (const each of Array.from({ length: 66_000 }, (_, index) => index)) {
    const [a, b] = [Math.floor(each / 256), each % 256]
    full.set(`240.240.${a}.${b}` as never, 'other')
  }
  const given = allocate(entry('a'), full) ?? []
  t.strictSame(
    given.map(({ value }) => value.includes(':')),
    [true]
  )
})
