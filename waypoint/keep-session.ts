/**
 * The session that a client of a rule is in: the backend and the pod that it leads to, and what the answer tells the
 * client so that it comes back. Source: Gateway API, GEP-1619; a session counts more than weights.
 */
import { usableEndpoints, type UsableEndpoint } from '../shared/mesh/pick.ts'
import { serviceKey, type Service, type WorkloadUid } from '../shared/mesh/model.ts'
import type { HeaderList } from './http/header-list.ts'
import { ownWorkload } from './own-workload.ts'
import type { Means } from './pick-pod.ts'
import type { Backend, SessionPersistence } from './routes/route.ts'
import { readSession, SessionPods, sessionKey, writeSession, type PodTag } from './session-persistence.ts'
import type { Target } from './upstream/tunnels.ts'

export interface KeptSession {
  /** Where it leads; undefined: nowhere yet, or to a pod that is gone. */
  readonly backend: Backend | undefined
  readonly pod: Target | undefined
  /** Says in the answer whose it is, where the client has to know. */
  mark(answered: Target, answer: HeaderList): void
}

/** `secure`: the client's connection is encrypted. */
export function keptSession(
  means: Means,
  persistence: SessionPersistence,
  {
    backends,
    headers,
    secure
  }: {
    readonly backends: readonly Backend[]
    readonly headers: HeaderList
    readonly secure: boolean
  }
): KeptSession {
  const context = { key: sessionKey(means.config.trustDomain), now: Date.now() }
  const carried = readSession(persistence, headers, context)
  const places = backends.flatMap(backend => placeOf(means, backend, context.key) ?? [])
  const found = carried === undefined ? undefined : findPod(places, carried)
  return {
    backend: found?.backend,
    pod: found?.pod,
    mark(target, answer) {
      const answered = tagOf(places, target.workload.uid)
      if (answered === undefined) return
      const header = writeSession(persistence, { answered, carried, secure }, context)
      if (header !== undefined) answer.append(...header)
    }
  }
}

interface Place {
  readonly backend: Backend
  readonly endpoints: readonly UsableEndpoint[]
  readonly pods: SessionPods
}

/** While the endpoints are the same, their tags are. */
const podsOf = new WeakMap<readonly UsableEndpoint[], SessionPods>()

function placeOf({ view, config }: Means, backend: Backend, key: string): Place | undefined {
  if (backend.kind !== 'service') return undefined
  const mesh = view()
  const service: Service | undefined = mesh.service(serviceKey(backend))
  if (service === undefined) return undefined
  const endpoints = usableEndpoints(mesh, service, backend.port, ownWorkload(mesh, config))
  let pods = podsOf.get(endpoints)
  if (pods === undefined) {
    pods = new SessionPods(key, serviceKey(service), backend.port)
    pods.update(endpoints.map(({ workload }) => workload.uid))
    podsOf.set(endpoints, pods)
  }
  return { backend, endpoints, pods }
}

function findPod(places: readonly Place[], tag: PodTag): { backend: Backend; pod: Target } | undefined {
  for (const { backend, endpoints, pods } of places) {
    const uid = pods.pod(tag)
    const pod = uid === undefined ? undefined : endpoints.find(({ workload }) => workload.uid === uid)
    if (pod !== undefined) return { backend, pod }
  }
  return undefined
}

function tagOf(places: readonly Place[], uid: WorkloadUid): PodTag | undefined {
  for (const { pods } of places) {
    const tag = pods.tag(uid)
    if (tag !== undefined) return tag
  }
  return undefined
}
