/** Findings about an installed mesh: its parts, its pods, and what stands between them. */
import { daemonSets, deployments } from '../../shared/kube/apps-api.ts'
import { configMaps, namespaces, pods, services, type Pod } from '../../shared/kube/core-api.ts'
import { gateways } from '../../shared/kube/gateway-api.ts'
import { authorizationPolicies } from '../../shared/kube/istio-api.ts'
import { networkPolicies } from '../../shared/kube/networking-api.ts'
import type { Invocation } from '../command.ts'
import { enrolmentOf } from '../enrolment.ts'
import { isOurs, meshNamespace } from '../install/manifest.ts'
import { daemonSetRollout, deploymentRollout, podTrouble, type Rollout } from '../install/readiness.ts'
import { skewOf } from '../install/versions.ts'
import { askAgents, readMeshPods, type MeshPod } from '../mesh-pods.ts'
import { isUnprotected } from '../commands/pods.ts'
import { finding, type Finding } from './findings.ts'
import { findBlockingPolicies } from './network-policies.ts'
import type { Reader } from './read.ts'
import { findBypassableWaypoints } from './waypoints.ts'

/** The least that a certificate should have left: rotation happens long before. */
const leastValidityMs = 10 * 60_000

export async function checkMesh(
  invocation: Invocation,
  reader: Reader,
  version: string
): Promise<readonly Finding[]> {
  const [all, spaces, policies, waypoints, authorization, cilium] = await Promise.all([
    reader.list(pods),
    reader.list(namespaces),
    reader.list(networkPolicies),
    reader.list(gateways),
    reader.list(authorizationPolicies),
    reader.find(configMaps, { namespace: 'kube-system', name: 'cilium-config' })
  ])
  const byName = new Map(spaces.map(space => [space.metadata.name, space]))
  const enrolled = all.filter(
    pod => enrolmentOf(pod, byName.get(pod.metadata.namespace ?? '')).wantedBy !== '' && isRunning(pod)
  )
  return [
    ...(await checkParts(reader, all)),
    ...findVersionSkew(all, version),
    ...findBlockingPolicies(policies, enrolled, { cilium: cilium !== undefined }),
    ...findBypassableWaypoints(spaces, waypoints, authorization),
    ...(await checkPods(invocation, reader))
  ]
}

const workloads = [
  { kind: 'Deployment', name: 'istiod' },
  { kind: 'DaemonSet', name: 'istio-cni-node' },
  { kind: 'DaemonSet', name: 'ztunnel' }
] as const

/** Whoever's they are: a mesh of mixed parts works too. */
async function checkParts(reader: Reader, all: readonly Pod[]): Promise<readonly Finding[]> {
  const found = await Promise.all(
    workloads.map(async ({ kind, name }) => {
      const object = `${kind.toLowerCase()}.apps ${meshNamespace}/${name}`
      const rollout = await rolloutOf(reader, kind, name)
      if (rollout === undefined) {
        return (await isElsewhere(reader, kind)) ? [] : [finding('UP0015', object, 'missing')]
      }
      if (rollout.done) return []
      return [finding('UP0015', object, `${rollout.ready} of ${rollout.wanted} ready`)]
    })
  )
  const troubled = all
    .filter(({ metadata }) => metadata.namespace === meshNamespace && isOurs(metadata.labels))
    .flatMap(pod => {
      const trouble = podTrouble(pod)
      if (trouble === undefined || trouble.kind === 'starting') return []
      return [finding('UP0015', `pod ${meshNamespace}/${pod.metadata.name}`, trouble.text)]
    })
  return [...found.flat(), ...troubled]
}

/** A control plane outside of the cluster: its Service selects no pods. */
async function isElsewhere(reader: Reader, kind: string): Promise<boolean> {
  if (kind !== 'Deployment') return false
  const service = await reader.find(services, { namespace: meshNamespace, name: 'istiod' })
  return service !== undefined && service.spec?.selector === undefined
}

async function rolloutOf(
  reader: Reader,
  kind: 'Deployment' | 'DaemonSet',
  name: string
): Promise<Rollout | undefined> {
  const ref = { namespace: meshNamespace, name }
  if (kind === 'Deployment') {
    const found = await reader.find(deployments, ref)
    return found === undefined ? undefined : deploymentRollout(found)
  }
  const found = await reader.find(daemonSets, ref)
  return found === undefined ? undefined : daemonSetRollout(found)
}

/** Of our own programs, each of which says its version in a label. */
export function findVersionSkew(all: readonly Pod[], version: string): readonly Finding[] {
  return all
    .filter(({ metadata }) => metadata.namespace === meshNamespace && isOurs(metadata.labels))
    .flatMap(({ metadata }) => {
      const running = metadata.labels?.['app.kubernetes.io/version'] ?? ''
      const skew = skewOf(running, version)
      if (skew.kind !== 'too far') return []
      return [
        finding('UP0016', `pod ${meshNamespace}/${metadata.name}`, `${running}; this program: ${version}`)
      ]
    })
}

async function checkPods(invocation: Invocation, reader: Reader): Promise<readonly Finding[]> {
  const silent: string[] = []
  const listening = { ...invocation, io: { ...invocation.io, err: (line: string) => void silent.push(line) } }
  const answers = await reader.read(() => askAgents(listening))
  if (answers === undefined) return []
  const known = (await reader.read(() => readMeshPods(listening, undefined, answers))) ?? []
  return [
    ...silent.map(line => finding('UP0020', 'agents', line.replace(/^warning: /, '').trim())),
    ...known.flatMap(podFindings)
  ]
}

export function podFindings(pod: MeshPod): readonly Finding[] {
  const object = `pod ${pod.namespace}/${pod.name}`
  if (isUnprotected(pod)) {
    const { state, reason } = pod.enrolment
    return [
      finding(
        'UP0018',
        object,
        `${state}: ${pod.problem || reason || `rules ${pod.rules}, proxy ${pod.proxy}`}`
      )
    ]
  }
  const { certificate } = pod
  if (pod.enrolment.state !== 'enabled' || certificate === undefined) return []
  if (typeof certificate === 'string') return [finding('UP0019', object, certificate)]
  if (certificate >= leastValidityMs) return []
  const left = certificate <= 0 ? 'has expired' : `ends in ${Math.ceil(certificate / 60_000)} min`
  return [finding('UP0019', object, left, certificate <= 0 ? 'error' : 'warning')]
}

function isRunning({ status }: Pod): boolean {
  return status?.phase === 'Running'
}
