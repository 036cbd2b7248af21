/** What a bug report holds. Whatever cannot be had is written down as such; the rest is still worth sending. */
import type { KubeClient } from '../../shared/kube/client.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { Invocation } from '../command.ts'
import { Kinds } from '../install/kinds.ts'
import { meshNamespace } from '../install/manifest.ts'
import { readLog } from '../pod-logs.ts'
import { askText, findAgents, limit, type Agent, type AgentKind } from '../reach.ts'
import { redactObject, redactText } from './redact.ts'
import type { TarEntry } from './tar.ts'

interface Collected {
  readonly apiVersion: string
  readonly kind: string
  /** Only in the namespace of the mesh. */
  readonly ours?: boolean
}

const objects: readonly Collected[] = [
  ...['Pod', 'Service', 'ConfigMap', 'Secret', 'ServiceAccount', 'Event'].map(kind => ({
    apiVersion: 'v1',
    kind,
    ours: true
  })),
  ...['Deployment', 'DaemonSet', 'ReplicaSet'].map(kind => ({ apiVersion: 'apps/v1', kind, ours: true })),
  { apiVersion: 'v1', kind: 'Node' },
  { apiVersion: 'v1', kind: 'Namespace' },
  { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy' },
  { apiVersion: 'admissionregistration.k8s.io/v1', kind: 'ValidatingWebhookConfiguration' },
  { apiVersion: 'admissionregistration.k8s.io/v1', kind: 'MutatingWebhookConfiguration' },
  ...['AuthorizationPolicy', 'PeerAuthentication'].map(kind => ({
    apiVersion: 'security.istio.io/v1',
    kind
  })),
  ...['ServiceEntry', 'WorkloadEntry'].map(kind => ({ apiVersion: 'networking.istio.io/v1', kind })),
  { apiVersion: 'ratelimits.underpass.dev/v1alpha1', kind: 'RateLimitPolicy' },
  { apiVersion: 'gateway.networking.k8s.io/v1', kind: 'Gateway' }
]

/** What each kind of program is asked for. */
const questions: Readonly<Record<AgentKind, readonly string[]>> = {
  ztunnel: ['/config_dump', '/v1/version', '/v1/pods', '/v1/connections', '/v1/certs', '/v1/xds'],
  'node agent': ['/v1/version', '/v1/pods', '/v1/inventory'],
  'control plane': ['/version', '/debug/syncz', '/metrics']
}

export interface CollectOptions {
  readonly sinceSeconds: number | undefined
  readonly tailLines: number
}

export async function collect(
  invocation: Invocation,
  client: KubeClient,
  options: CollectOptions
): Promise<readonly TarEntry[]> {
  const entries: TarEntry[] = []
  const problems: string[] = []
  const add = (path: string, content: string): void => {
    entries.push({ path: path.replaceAll(/[^\w./-]/g, '_'), content: redactText(content) })
  }
  const attempt = async (what: string, run: () => Promise<void>): Promise<void> => {
    try {
      await run()
    } catch (error) {
      problems.push(`${what}: ${messageOf(error)}`)
    }
    invocation.io.signal.throwIfAborted()
  }

  const kinds = new Kinds(client)
  for (const { apiVersion, kind, ours } of objects) {
    await attempt(`objects of kind ${kind}`, async () => {
      const type = await kinds.find({ apiVersion, kind }, limit(invocation))
      if (type === undefined) return
      const namespace = ours === true ? meshNamespace : undefined
      const { items } = await client.list(type, { namespace, signal: limit(invocation) })
      const shown = items.map(item => redactObject({ ...item, apiVersion, kind }))
      add(`objects/${type.plural}.json`, `${JSON.stringify(shown, null, 2)}\n`)
    })
  }
  for (const kind of Object.keys(questions) as AgentKind[]) {
    await attempt(kind, async () => {
      const agents = await findAgents(invocation, kind)
      await Promise.all(agents.map(agent => addAgent(agent)))
    })
  }
  add('problems.txt', problems.map(line => `${line}\n`).join(''))
  return entries

  async function addAgent(agent: Agent): Promise<void> {
    const folder = `${agent.kind.replace(' ', '-')}/${agent.node || 'node'}/${agent.pod}`
    for (const path of questions[agent.kind]) {
      await attempt(`${agent.pod} ${path}`, async () => {
        add(`${folder}/${path.slice(1).replaceAll('/', '-')}`, await askText(invocation, agent, { path }))
      })
    }
    if (agent.kind === 'node agent') await attempt(`rules of ${agent.node}`, () => addRules(agent, folder))
    await attempt(`log of ${agent.pod}`, async () => add(`${folder}/log`, await logOf(agent, false)))
    // most have not ended yet
    const before = await logOf(agent, true).catch(() => '')
    if (before !== '') add(`${folder}/log-previous`, before)
  }

  async function addRules(agent: Agent, folder: string): Promise<void> {
    const { pods } = JSON.parse(await askText(invocation, agent, { path: '/v1/pods' })) as {
      pods: readonly { readonly namespace: string; readonly name: string }[]
    }
    for (const { namespace, name } of pods) {
      await attempt(`rules of pod ${namespace}/${name}`, async () => {
        const path = `/v1/rules?pod=${encodeURIComponent(`${namespace}/${name}`)}`
        add(`${folder}/rules/${namespace}/${name}`, await askText(invocation, agent, { path }))
      })
    }
  }

  async function logOf({ namespace, pod }: Agent, previous: boolean): Promise<string> {
    const lines: string[] = []
    const query = { namespace, pod, previous, ...options }
    for await (const { time, text } of readLog(client, query, limit(invocation)))
      lines.push(`${time} ${text}\n`)
    return lines.join('')
  }
}
