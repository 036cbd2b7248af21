/**
 * Both ends of DestinationRules: with what the control plane sends it, a waypoint decides as if it knew every rule and
 * every label of the cluster.
 */
import t from 'tap'
import type { DestinationRuleObject } from '../../controlplane/cluster/objects.ts'
import { hostOfRule } from '../../controlplane/cluster/cluster.ts'
import { DesiredState } from '../../controlplane/desired/desired-state.ts'
import { decodeAddress } from '../../shared/mesh/decode.ts'
import type { Service, Workload } from '../../shared/mesh/model.ts'
import { decodeConfigResource, type ConfigResource } from '../../shared/xds/config-resource.ts'
import { DestinationRuleStore } from '../../waypoint/destination-rules/destination-rule-store.ts'
import { readDestinationRule } from '../../waypoint/destination-rules/read-destination-rule.ts'
import { generator, randomRuledObject } from './desired/random-objects.ts'
import { objects, settings } from './world.ts'

const namespaces = ['shop', 'other', 'istio-system']
const { rootNamespace, domain } = settings

t.test('what is sent is enough, whatever the cluster is like', async t => {
  const first = Number(process.env['UNDERPASS_SEED'] ?? Date.now() % 1_000_000)
  let [decided, chosen] = [0, 0]
  for (let seed = first; seed < first + 120; seed += 1) {
    const desired = randomState(seed)
    for (const namespace of namespaces) {
      const { services, workloads, rules } = knownTo(desired, `${namespace}/wp.${namespace}`)
      const sent = storeOf(namespace, rules)
      const all = storeOf(namespace, [...desired.view.all('DestinationRule')].flatMap(asSent))
      for (const service of services) {
        const name = `seed ${seed}, waypoint of ${namespace}: ${service.namespace}/${service.hostname}`
        const policy = all.policyFor(service, 80, undefined)
        if (policy !== undefined) decided += 1
        const same = [sent.policyFor(service, 80, undefined), sent.subsetOf(service, 's')]
        t.strictSame(same, [policy, all.subsetOf(service, 's')], name)
        for (const { uid, labels } of workloads) {
          const pod = desired.view.get('Pod', uid.replace(/^.*Pod\//, ''))
          const isMember = desired.snapshot
            .workloadsOfService(`${service.namespace}/${service.hostname}`)
            .has(uid)
          if (pod === undefined || !isMember) continue
          for (const key of all.subsetOf(service, 's')?.keys() ?? []) {
            chosen += 1
            t.equal(labels.get(key), pod.meta.labels[key], `${name}: label ${key} of ${uid}`)
          }
        }
      }
    }
  }
  t.ok(decided > 0 && chosen > 0, `${decided} services have rules, ${chosen} labels choose among their pods`)
})

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
): { services: readonly Service[]; workloads: readonly Workload[]; rules: readonly ConfigResource[] } {
  const isKnown = ({ waypoints }: { waypoints: readonly string[] }): boolean => waypoints.includes(waypoint)
  const addresses = [...snapshot.table('address').values()]
  return {
    services: addresses.filter(isKnown).flatMap(({ value }) => {
      const decoded = decodeAddress(value)
      return decoded.kind === 'service' ? [decoded.service] : []
    }),
    workloads: addresses.flatMap(({ value }) => {
      const decoded = decodeAddress(value)
      return decoded.kind === 'workload' ? [decoded.workload] : []
    }),
    rules: [...snapshot.table('DestinationRule').values()]
      .filter(isKnown)
      .map(({ value }) => decodeConfigResource(value))
  }
}

function asSent(rule: DestinationRuleObject): readonly ConfigResource[] {
  const { meta, spec } = rule
  if (spec === undefined) return []
  const { namespace, name, createdMs } = meta
  return [{ namespace, name, createdMs, spec: { ...spec, host: hostOfRule(rule, domain) } }]
}

function storeOf(namespace: string, rules: readonly ConfigResource[]): DestinationRuleStore {
  const store = new DestinationRuleStore({ namespace, rootNamespace })
  for (const rule of rules) store.put(`${rule.namespace}/${rule.name}`, readDestinationRule(rule, domain))
  return store
}
