/**
 * Whatever changes while a client is slow, asks, forgets or comes back: once it has acknowledged everything it
 * holds just what it should. Seeds are printed; UNDERPASS_SEED runs one again.
 */
import t, { type Test } from 'tap'
import { DesiredState } from '../../../controlplane/desired/desired-state.ts'
import type { Resource } from '../../../controlplane/desired/snapshot.ts'
import { Subscription, type DeltaRequest } from '../../../controlplane/xds/subscription.ts'
import { generator, randomObject } from '../desired/random-objects.ts'
import { objects, settings } from '../world.ts'

const nothing: DeltaRequest = {
  resourceNamesSubscribe: [],
  resourceNamesUnsubscribe: [],
  initialResourceVersions: {}
}
const onDemand: DeltaRequest = { ...nothing, resourceNamesSubscribe: ['*'], resourceNamesUnsubscribe: ['*'] }

/** The address of the waypoint whose scope is tried. */
const waypoint = '/10.9.9.9'

class Client {
  readonly desired: DesiredState
  readonly #first: DeltaRequest
  readonly #scope: (() => string | undefined) | undefined
  #subscription: Subscription
  #nonces = 0
  /** Name → version, as the client has it. */
  held = new Map<string, string>()

  constructor(desired: DesiredState, first: DeltaRequest, scope?: () => string | undefined) {
    this.desired = desired
    this.#first = first
    this.#scope = scope
    this.#subscription = this.#connect(first)
  }

  #connect(first: DeltaRequest): Subscription {
    const { snapshot } = this.desired
    return new Subscription(
      { snapshot, table: 'address', workloadsOnly: false, node: '', scope: this.#scope },
      first
    )
  }

  get subscription(): Subscription {
    return this.#subscription
  }

  /** Takes what may be sent, if nothing is out. */
  receive(): boolean {
    if (!this.#subscription.free) return false
    const batch = this.#subscription.take('all')
    if (batch === undefined) return false
    this.#subscription.outstanding = String((this.#nonces += 1))
    const sent = new Set(batch.resources.map(({ resource }) => resource.name))
    for (const name of batch.removed) {
      if (sent.has(name)) throw new Error(`${name} is sent and removed at once`)
      this.held.delete(name)
    }
    if (batch.everything) {
      this.held = new Map([...this.table()].map(([name, { version }]) => [name, version]))
    }
    for (const { resource } of batch.resources) this.held.set(resource.name, resource.version)
    return true
  }

  ack(): void {
    const { outstanding } = this.#subscription
    if (outstanding !== undefined) this.#subscription.request({ ...nothing, responseNonce: outstanding })
  }

  ask(name: string): void {
    this.#subscription.request({ ...nothing, resourceNamesSubscribe: [name] })
  }

  /** The connection breaks; what is on its way is lost. */
  reconnect(): void {
    this.#subscription = this.#connect({
      ...this.#first,
      initialResourceVersions: Object.fromEntries(this.held)
    })
  }

  settle(): void {
    this.ack()
    while (this.receive()) this.ack()
  }

  table(): ReadonlyMap<string, Resource> {
    return this.desired.snapshot.table('address')
  }
}

function run(
  t: Test,
  kind: string,
  start: (desired: DesiredState) => Client,
  expected: (client: Client, asked: ReadonlySet<string>) => readonly string[]
): void {
  const first = Number(process.env['UNDERPASS_SEED'] ?? Date.now() % 1_000_000)
  for (let seed = first; seed < first + 15; seed += 1) {
    const random = generator(seed)
    const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T
    const desired = new DesiredState(settings)
    const client = start(desired)
    const asked = new Set<string>()
    for (let step = 0; step < 120; step += 1) {
      const [object] = objects(randomObject(pick, random))
      if (object === undefined) continue
      const { namespace, name } = object.meta
      if (random() < 0.25) desired.delete(object.kind, namespace === '' ? name : `${namespace}/${name}`)
      else desired.put(object)
      if (random() < 0.5) client.subscription.note(desired.refresh().address)
      if (random() < 0.4) client.receive()
      if (random() < 0.4) client.ack()
      if (kind === 'on demand' && random() < 0.1 && !desired.outdated) {
        const wish = pick([...client.table().keys(), '/10.0.0.1', '/10.0.0.2', 'shop/h1', 'shop/nobody'])
        asked.add(wish)
        client.ask(wish)
      }
      if (kind !== 'on demand' && random() < 0.1) {
        // What changes while it is away it is not told.
        for (let change = 0; change < 8; change += 1) {
          for (const each of objects(randomObject(pick, random))) desired.put(each)
        }
        desired.refresh()
        client.reconnect()
      }
    }
    client.subscription.note(desired.refresh().address)
    client.settle()
    const problems: string[] = []
    const table = client.table()
    for (const name of expected(client, asked)) if (!client.held.has(name)) problems.push(`lacks ${name}`)
    for (const [name, version] of client.held) {
      const now = table.get(name)
      if (now === undefined) problems.push(`still holds ${name}`)
      else if (now.version !== version) problems.push(`holds an old ${name}`)
    }
    if (kind !== 'on demand' && client.held.size !== expected(client, asked).length)
      problems.push('holds too much')
    if (problems.length > 0) t.fail(`${kind}, seed ${seed}: ${problems.join(', ')}`)
  }
  t.pass(`${kind}: fifteen histories from seed ${first}`)
}

t.test('a client that wants everything has everything', async t => {
  run(
    t,
    'everything',
    desired => new Client(desired, nothing),
    client => [...client.table().keys()]
  )
})

t.test(
  'a client on demand has what it asked for, with the workloads of services, and nothing that is gone',
  async t => {
    run(
      t,
      'on demand',
      desired => new Client(desired, onDemand),
      (client, asked) => {
        const wanted = new Set<string>()
        for (const resource of client.table().values()) {
          if (!asked.has(resource.name) && !resource.addresses.some(address => asked.has(address))) continue
          wanted.add(resource.name)
          if (resource.kind !== 'service') continue
          for (const workload of client.desired.snapshot.workloadsOfService(resource.name))
            wanted.add(workload)
        }
        return [...wanted]
      }
    )
  }
)

t.test('a waypoint has what goes through it, and nothing else', async t => {
  run(
    t,
    'scope',
    desired => new Client(desired, nothing, () => waypoint),
    client => {
      const wanted = new Set<string>()
      for (const resource of client.table().values()) {
        if (!resource.waypoints.includes(waypoint)) continue
        wanted.add(resource.name)
        if (resource.kind !== 'service') continue
        for (const workload of client.desired.snapshot.workloadsOfService(resource.name)) wanted.add(workload)
      }
      return [...wanted]
    }
  )
})
