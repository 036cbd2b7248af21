/** Both ends of VirtualServices: a waypoint reads what the control plane sends it, and it is sent all that it needs. */
import t from 'tap'
import { keyOf, type VirtualServiceObject } from '../../controlplane/cluster/objects.ts'
import { DesiredState } from '../../controlplane/desired/desired-state.ts'
import { translateVirtualService } from '../../controlplane/translate/virtual-service.ts'
import { decodeAddress } from '../../shared/mesh/decode.ts'
import { serviceKey, type Service } from '../../shared/mesh/model.ts'
import { decodeConfigResource, encodeConfigResource } from '../../shared/xds/config-resource.ts'
import { readVirtualService } from '../../waypoint/virtual-services/read-virtual-service.ts'
import { VirtualServiceStore } from '../../waypoint/virtual-services/virtual-service-store.ts'
import { generator, randomRuledObject } from './desired/random-objects.ts'
import { samples } from './validate/samples.ts'
import { object, objects, settings, waypoint, world } from './world.ts'

const { domain } = settings

t.test('what the webhook admits for the mesh is read, without a field left over', async t => {
  const web =
    'kind: Service\nmetadata: {name: web, labels: {istio.io/use-waypoint: wp}}\nspec: {ports: [{port: 80}]}\n'
  const good = samples().filter(({ object, good }) => good && object.kind === 'VirtualService')
  t.ok(good.length > 5, `${good.length} are admitted`)
  for (const sample of good) {
    const { gateways: _, ...spec } = (sample.object as { spec?: Record<string, unknown> }).spec ?? {}
    const virtualService = object({ ...sample.object, spec: { ...spec, hosts: ['web'] } })
    if (virtualService.kind !== 'VirtualService') throw new Error('another kind')
    const sent = translateVirtualService(world(waypoint + web), virtualService)
    if (sent === undefined) throw new Error(`${sample.title} is not sent`)
    const received = decodeConfigResource(encodeConfigResource(sent.message))
    t.doesNotThrow(() => readVirtualService(received, domain), sample.title)
  }
})

t.test('a waypoint is sent all for the services that it serves, and where they lead', async t => {
  const first = Number(process.env['UNDERPASS_SEED'] ?? Date.now() % 1_000_000)
  let [applied, led] = [0, 0]
  for (let seed = first; seed < first + 120; seed += 1) {
    const desired = randomState(seed)
    for (const namespace of ['shop', 'other', 'istio-system']) {
      const known = knownTo(desired, `${namespace}/wp.${namespace}`)
      for (const service of known.services.values()) {
        const name = `seed ${seed}, waypoint of ${namespace}: ${serviceKey(service)}`
        if (!isServedBy(service, `wp.${namespace}`)) continue
        const wanted = [...desired.view.all('VirtualService')].filter(each => heeds(each, namespace, service))
        t.equal(known.store.table(service, 80, 'any') !== undefined, wanted.length > 0, name)
        for (const { meta } of wanted) t.ok(known.names.has(keyOf(meta)), `${name} by ${keyOf(meta)}`)
        applied += wanted.length
      }
      for (const { http } of known.store.all()) {
        for (const backend of http.flatMap(({ rule }) => [
          ...rule.backends,
          ...rule.filters.mirrors.map(mirror => mirror.backend)
        ])) {
          if (backend.kind !== 'service') continue
          led += 1
          t.ok(known.services.has(serviceKey(backend)), `seed ${seed}: ${serviceKey(backend)} is known`)
        }
      }
    }
  }
  t.ok(applied > 0 && led > 0, `${applied} apply to services, ${led} lead to one`)
})

function isServedBy({ waypoint }: Service, hostname: string): boolean {
  return waypoint?.destination.kind === 'hostname' && waypoint.destination.hostname === hostname
}

/** Whether its waypoints in a namespace should route a service by it, said once more. */
function heeds(
  { meta, hosts, exportTo, routes }: VirtualServiceObject,
  namespace: string,
  service: Service
): boolean {
  const seen =
    exportTo.length === 0 || exportTo.some(name => (name === '.' ? meta.namespace : name) === namespace)
  const near = meta.namespace === namespace || meta.namespace === service.namespace
  const whole = hosts.map(host => (/[.*]/.test(host) ? host : `${host}.${meta.namespace}.svc.${domain}`))
  const named = whole.some(host =>
    host.startsWith('*') ? service.hostname.endsWith(host.slice(1)) : host === service.hostname
  )
  return seen && near && named && routes.http.length > 0
}

function randomState(seed: number): DesiredState {
  const random = generator(seed)
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T
  const desired = new DesiredState(settings)
  for (let step = 0; step < 60; step += 1) {
    for (const object of objects(randomRuledObject(pick))) desired.put(object)
  }
  desired.refresh()
  return desired
}

/** As its bytes say. */
function knownTo(
  { snapshot }: DesiredState,
  waypoint: string
): {
  readonly services: ReadonlyMap<string, Service>
  readonly names: ReadonlySet<string>
  readonly store: VirtualServiceStore
} {
  const isKnown = ({ waypoints }: { waypoints: readonly string[] }): boolean => waypoints.includes(waypoint)
  const services = [...snapshot.table('address').values()].filter(isKnown).flatMap(({ value }) => {
    const decoded = decodeAddress(value)
    return decoded.kind === 'service' ? [decoded.service] : []
  })
  const store = new VirtualServiceStore(waypoint.slice(0, waypoint.indexOf('/')))
  const sent = [...snapshot.table('VirtualService').values()].filter(isKnown)
  for (const { name, value } of sent) store.put(name, readVirtualService(decodeConfigResource(value), domain))
  return {
    services: new Map(services.map(service => [serviceKey(service), service])),
    names: new Set(sent.map(({ name }) => name)),
    store
  }
}
