import t from 'tap'
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { ip, type Ip } from '../../../shared/net/address.ts'
import type { Service, Workload } from '../../../shared/mesh/model.ts'
import { decideRoute } from '../../../shared/mesh/route.ts'
import { openSharedMesh } from '../../../shared/mesh/shared-view.ts'
import { MeshStore, type MeshChange } from '../../../shared/mesh/store.ts'
import { endpointOf, service, vips, workload } from '../../support/mesh.ts'
import { policyOf } from '../../support/policies.ts'

const names = Array.from({ length: 8 }, (_, index) => `svc${index}`)

/** A service, its endpoints and their policy, all with one stamp. */
function generation(name: string, number: number, stamp: number, size: number): MeshChange[] {
  const endpoints = Array.from({ length: size }, (_, index): Workload =>
    workload({
      name: `${name}-${index}`,
      addresses: [ip(`10.${number}.${index >> 8}.${index & 255}`)],
      canonicalRevision: String(stamp),
      capacity: stamp,
      // Long enough to move from one heap block to another.
      workloadName: 'x'.repeat(stamp % 300),
      authorizationPolicies: [`shop/${name}`],
      services: endpointOf(name, [[80, (stamp % 60_000) + 1]])
    })
  )
  return [
    { kind: 'service', service: service({ name, subjectAltNames: [String(stamp)] }) },
    {
      kind: 'policy',
      policy: policyOf(
        { principals: [{ kind: 'exact', value: String(stamp) }] },
        { name, scope: 'WorkloadSelector' }
      )
    },
    ...endpoints.map(workload => ({ kind: 'workload', workload }) as const)
  ]
}

t.test('two threads read while the writer changes everything: nothing torn, and no growth', async t => {
  const store = new MeshStore()
  const size = 12
  let stamp = 1
  for (const [number, name] of names.entries()) store.apply(generation(name, number, stamp, size))
  const stop = new Int32Array(new SharedArrayBuffer(4))
  const workers = [0, 1].map(
    () =>
      new Worker(new URL('mesh-reader.ts', import.meta.url), {
        workerData: { mesh: store.shared(), stop, names }
      })
  )
  const reports = workers.map(async worker => {
    const [report] = (await once(worker, 'message')) as [
      { reads: number; attempts: number; changes: number; faults: string[] }
    ]
    return report
  })
  await Promise.all(workers.map(worker => once(worker, 'online')))
  const churn = (rounds: number): void => {
    for (let round = 0; round < rounds; round += 1) {
      stamp += 1
      const number = stamp % names.length
      store.apply(generation(names[number] ?? '', number, stamp, size))
      if (stamp % 5 === 0) {
        const gone = names[(number + 1) % names.length] ?? ''
        store.apply([{ kind: 'address-removed', name: `shop/${gone}.shop.svc.cluster.local` }])
        store.apply(generation(gone, (number + 1) % names.length, stamp, size))
      }
    }
  }
  churn(800)
  await new Promise(resolve => setTimeout(resolve, 20))
  const warm = store.memoryUsage()
  churn(2500)
  Atomics.store(stop, 0, 1)
  const found = await Promise.all(reports)
  t.strictSame(store.memoryUsage(), warm, 'what is freed is used again')
  for (const { reads, attempts, changes, faults } of found) {
    t.comment(`${reads} reads, ${attempts - reads} of them tried again, ${changes} changes seen`)
    t.strictSame(faults, [])
    t.ok(reads > 100 && changes > 10, 'and it did read changes')
  }
})

t.test('a reader follows the memory as it grows', async t => {
  const store = new MeshStore()
  const reader = openSharedMesh(store.shared())
  for (let count = 0; count < 3000; count += 500) {
    store.apply(
      Array.from(
        { length: 500 },
        (_, index) => ({ kind: 'workload', workload: workload({ name: `w${count + index}` }) }) as const
      )
    )
    t.equal(
      reader.read(view => view.workloadByUid(`Kubernetes//Pod/shop/w${count + 499}`)?.name),
      `w${count + 499}`
    )
    t.equal(
      reader.read(view => view.workloadByUid('Kubernetes//Pod/shop/w0')?.name),
      'w0'
    )
  }
})

t.test('what a function throws on a quiet mesh is thrown', async t => {
  const reader = openSharedMesh(new MeshStore().shared())
  t.throws(
    () =>
      reader.read(() => {
        throw new Error('bug')
      }),
    /bug/
  )
})

t.test('a wait ends with the change that it waits for, or when its signal aborts', async t => {
  const store = new MeshStore()
  const reader = openSharedMesh(store.shared())
  const forever = new AbortController().signal
  const find = (name: string): Promise<Workload | undefined> =>
    reader.until(view => view.workloadByName('shop', name, name), forever)
  const waiting = find('late')
  store.apply([{ kind: 'workload', workload: workload({ name: 'other' }) }])
  await new Promise(resolve => setImmediate(resolve))
  store.apply([{ kind: 'workload', workload: workload({ name: 'late' }) }])
  t.equal((await waiting)?.name, 'late')
  t.equal((await find('late'))?.name, 'late', 'what is there is there at once')
  const stopping = new AbortController()
  const aborted = reader.until(view => view.workloadByUid('nobody'), stopping.signal)
  stopping.abort()
  t.equal(await aborted, undefined)
  t.equal(await reader.until(view => view.workloadByUid('nobody'), AbortSignal.abort()), undefined)
  const before = reader.policyVersion()
  store.apply([{ kind: 'authorization-removed', name: 'a/b' }])
  t.equal(reader.policyVersion(), before)
})

t.test('figures: 10,000 workloads in 500 services', async t => {
  const podIp = (index: number): Ip => ip(`10.${128 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`)
  const services = Array.from({ length: 500 }, (_, index): Service =>
    service({ name: `svc${index}`, vips: vips(`/10.96.${index >> 8}.${index & 255}`) })
  )
  const workloads = Array.from({ length: 10_000 }, (_, index): Workload =>
    workload({
      name: `deployment-${index % 500}-7d4b9c6f5-x${index}`,
      addresses: [podIp(index)],
      node: `node-${index % 50}`,
      services: endpointOf(`svc${index % 500}`, [[80, 8080]]),
      locality: { region: 'eu-west-1', zone: `eu-west-1${index % 3}`, subzone: '' }
    })
  )
  const store = new MeshStore()
  const loading = performance.now()
  store.apply([
    ...services.map(service => ({ kind: 'service', service }) as const),
    ...workloads.map(workload => ({ kind: 'workload', workload }) as const)
  ])
  const loaded = performance.now() - loading
  const { slots, index, heap } = store.memoryUsage()
  const reader = openSharedMesh(store.shared())
  const source = workloads[0] as Workload
  const context = { network: '', source, sourceIp: podIp(0), random: Math.random }
  const timed = (rounds: number, step: (round: number) => void): number => {
    const started = performance.now()
    for (let round = 0; round < rounds; round += 1) step(round)
    return ((performance.now() - started) * 1000) / rounds
  }
  const toService = (round: number): void => {
    reader.read(view => decideRoute(view, context, { ip: ip(`10.96.0.${round % 20}`), port: 80 }))
  }
  timed(20_000, toService)
  const warm = timed(50_000, toService)
  const warmPod = timed(50_000, round =>
    reader.read(view => decideRoute(view, context, { ip: podIp(round % 100), port: 8080 }))
  )
  const cold = timed(5000, round =>
    reader.read(view => decideRoute(view, context, { ip: podIp(2000 + round), port: 8080 }))
  )
  const update = timed(2000, round => {
    store.apply([
      { kind: 'workload', workload: { ...(workloads[round] as Workload), canonicalRevision: 'v2' } }
    ])
  })
  const big = Array.from({ length: 5000 }, (_, index): Workload =>
    workload({
      name: `big-${index}`,
      addresses: [podIp(20_000 + index)],
      services: endpointOf('big', [[80, 8080]])
    })
  )
  store.apply([
    { kind: 'service', service: service({ name: 'big', vips: vips('/10.97.0.1') }) },
    ...big.map(workload => ({ kind: 'workload', workload }) as const)
  ])
  const toBig = (): void => {
    reader.read(view => decideRoute(view, context, { ip: ip('10.97.0.1'), port: 80 }))
  }
  const firstBig = timed(1, toBig)
  timed(500, toBig)
  const warmBig = timed(2000, toBig)
  const mb = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`
  t.comment(
    `shared memory: slots ${mb(slots)}, index ${mb(index)}, heap ${mb(heap)}; loaded in ${loaded.toFixed(0)} ms`
  )
  t.comment(
    `decideRoute: warm service ${warm.toFixed(1)} µs, warm pod ${warmPod.toFixed(1)} µs, cold pod ${cold.toFixed(1)} µs`
  )
  t.comment(
    `5,000 endpoints: first ${firstBig.toFixed(0)} µs, then ${warmBig.toFixed(1)} µs; one update ${update.toFixed(1)} µs`
  )
  t.ok(slots + index + heap < 12e6, 'about a kilobyte for each workload')
  t.ok(warm < 250 && warmPod < 250, 'microseconds, even on a busy machine')
})
