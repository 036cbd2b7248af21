/** `underpass enroll` and `unenroll`: the label, what it does to each pod, and whether it has. */
import type { KubeClient } from '../../shared/kube/client.ts'
import { namespaces, pods, type Namespace, type Pod } from '../../shared/kube/core-api.ts'
import { parseDuration } from '../../shared/runtime/env.ts'
import { CommandFailure, UsageError, type ExitCode, type Invocation, type LeafCommand } from '../command.ts'
import { changesOf, modeFor, type Mode, type PodChange, type Target } from '../enrolment-change.ts'
import { modeLabel } from '../enrolment.ts'
import { fieldManager } from '../install/manifest.ts'
import { askAgents, readMeshPods, type MeshPod } from '../mesh-pods.ts'
import { clusterOptions, meshOptions } from '../options.ts'
import { limit, podName } from '../reach.ts'
import { formatTable } from '../table.ts'
import { waiting } from '../watch.ts'

export const enroll = enrolmentCommand({
  name: 'enroll',
  summary: 'bring a namespace or a pod into the mesh',
  description: `Sets the label ${modeLabel}=ambient. Pods join without a restart: connections that are open stay as they are, in the
clear, until they end; new ones go through the mesh. Prints what happens to each pod, and why some stay outside.`,
  inside: true
})

export const unenroll = enrolmentCommand({
  name: 'unenroll',
  summary: 'take a namespace or a pod out of the mesh',
  description: `Removes the label ${modeLabel}; a pod in a namespace that stays in the mesh gets the value "none". Pods leave without
a restart; their open connections through the mesh end.`,
  inside: false
})

interface Direction {
  readonly name: string
  readonly summary: string
  readonly description: string
  readonly inside: boolean
}

function enrolmentCommand({ name, summary, description, inside }: Direction): LeafCommand {
  return {
    name,
    summary,
    description,
    arguments: [
      { name: 'target', help: 'NAMESPACE, or pod/NAME, NAME.NAMESPACE, NAMESPACE/NAME', required: true }
    ],
    options: [
      { flags: '-n, --namespace <name>', help: "namespace of a pod (default: the context's)" },
      { flags: '--dry-run', help: 'say what would happen; change nothing' },
      { flags: '--wait', help: `wait until every pod ${inside ? 'is in the mesh' : 'is out of it'}` },
      { flags: '--ready-timeout <duration>', help: 'how long to wait for that', fallback: '2m' },
      ...meshOptions,
      ...clusterOptions
    ],
    examples: [
      { what: 'A namespace', command: `${name} shop --wait` },
      { what: 'One pod', command: `${name} pod/web -n shop` },
      { what: 'What would happen', command: `${name} shop --dry-run` }
    ],
    run: invocation => run(invocation, inside)
  }
}

async function run(invocation: Invocation, inside: boolean): Promise<ExitCode> {
  const { io } = invocation
  const patienceMs = patience(invocation)
  const client = await invocation.client()
  const target = targetOf(invocation, client.access.namespace)
  const space = target.kind === 'namespace' ? target.name : target.namespace
  const namespace = await client.find(namespaces, { name: space }, limit(invocation))
  if (namespace === undefined) throw new CommandFailure(await noNamespace(invocation, client, space))
  const { items } = await client.list(pods, { namespace: space, signal: limit(invocation) })
  if (target.kind === 'pod' && !items.some(({ metadata }) => metadata.name === target.name)) {
    throw new CommandFailure(`no pod ${target.name} in namespace ${space}`)
  }
  const mode = modeFor(target, inside, namespace)
  const changes = changesOf(target, mode, namespace, items)
  await announce(invocation, target, changes, items, inside)
  if (invocation.flag('dry-run')) return 0
  await setMode(client, target, mode, limit(invocation))
  io.out(`${describe(target)} ${inside ? 'enrolled' : 'unenrolled'}\n`)
  if (!invocation.flag('wait')) return 0
  const wanted = new Set(
    changes.filter(({ effect }) => effect === (inside ? 'joins' : 'leaves')).map(({ uid }) => uid)
  )
  if (inside) for (const { effect, uid } of changes) if (effect === 'stays inside') wanted.add(uid)
  return waitForPods(invocation, client, space, wanted, inside, patienceMs)
}

function patience(invocation: Invocation): number {
  const text = invocation.text('ready-timeout') ?? '2m'
  const ms = parseDuration(text)
  if (ms !== undefined) return ms
  throw new UsageError(`--ready-timeout ${JSON.stringify(text)}: expected a duration such as 90s or 5m`)
}

/** A bare word is a namespace; pods are written as such, or with `-n`. */
function targetOf(invocation: Invocation, fallback: string): Target {
  const [text = ''] = invocation.args
  const namespace = invocation.text('namespace')
  const [, named] = /^(?:namespaces?|ns)\/([^/]+)$/.exec(text) ?? []
  if (named !== undefined) return { kind: 'namespace', name: named }
  if (namespace === undefined && !/[./]/.test(text)) return { kind: 'namespace', name: text }
  return { kind: 'pod', ...podName(text, namespace ?? fallback) }
}

async function noNamespace(invocation: Invocation, client: KubeClient, name: string): Promise<string> {
  const { items } = await client.list(namespaces, { signal: limit(invocation) })
  const known = items.map(({ metadata }) => metadata.name).slice(0, 10)
  return `no namespace ${JSON.stringify(name)} (there are: ${known.join(', ')}); a pod is written pod/NAME or NAME.NAMESPACE`
}

/** Shown of each pod; a namespace may have many that stay as they are. */
async function announce(
  invocation: Invocation,
  target: Target,
  changes: readonly PodChange[],
  items: readonly Pod[],
  inside: boolean
): Promise<void> {
  const { io } = invocation
  const connections = await connectionsOf(invocation, changes, inside)
  if (changes.length === 0)
    io.out(`no pods run in ${describe(target)}; those to come ${inside ? 'join' : 'stay out'}\n`)
  else {
    const columns = [
      { heading: 'POD', cell: ({ name }: PodChange) => name },
      { heading: 'NODE', cell: ({ node }: PodChange) => node || '-' },
      { heading: 'WHAT HAPPENS', cell: ({ effect }: PodChange) => effect },
      { heading: 'CONNS', cell: ({ uid }: PodChange) => String(connections.get(uid) ?? '-') },
      { heading: 'WHY', cell: ({ reason }: PodChange) => reason || '-' }
    ]
    io.out(formatTable(columns, changes, { headings: true, wide: false }))
  }
  const total = [...connections.values()].reduce((sum, count) => sum + count, 0)
  if (!inside && total > 0) io.out(`${total} open connections through the mesh end\n`)
  if (inside && changes.some(({ effect }) => effect === 'joins')) {
    io.out('connections that are open now stay as they are until they end; new ones go through the mesh\n')
  }
  const owned =
    target.kind === 'pod' &&
    items.find(({ metadata }) => metadata.name === target.name)?.metadata.ownerReferences
  if (owned) {
    const [{ kind, name } = { kind: '', name: '' }] = owned
    io.err(
      `warning: the pod belongs to ${kind} ${name}, whose next pod will not have the label; put it into the template to keep it\n`
    )
  }
}

/** Connections that the mesh carries for the pods that leave it. */
async function connectionsOf(
  invocation: Invocation,
  changes: readonly PodChange[],
  inside: boolean
): Promise<ReadonlyMap<string, number>> {
  if (inside || !changes.some(({ effect }) => effect === 'leaves')) return new Map()
  const { dumps } = await askAgents(invocation)
  const states = new Map(dumps.flatMap(({ dump }) => Object.entries(dump.workloadState)))
  return new Map(
    changes.flatMap(({ uid, effect }): [string, number][] => {
      const open = states.get(uid)?.connections
      if (effect !== 'leaves' || open === undefined) return []
      return [[uid, (open.inbound?.length ?? 0) + (open.outbound?.length ?? 0)]]
    })
  )
}

async function setMode(client: KubeClient, target: Target, mode: Mode, signal: AbortSignal): Promise<void> {
  const patch = { metadata: { labels: { [modeLabel]: mode ?? null } } }
  // a merge, so that a label which kubectl set can be removed as well
  const options = { kind: 'merge', fieldManager, signal } as const
  if (target.kind === 'namespace') {
    await client.patch<Namespace>(namespaces, { name: target.name }, patch, options)
  } else {
    const { namespace, name } = target
    await client.patch<Pod>(pods, { namespace, name }, patch, options)
  }
}

/** How often the cluster is asked. */
const pauseMs = 500

/** 0 when all of them are where they shall be, 2 with the reasons when some are not at the end of the patience. */
async function waitForPods(
  invocation: Invocation,
  client: KubeClient,
  namespace: string,
  wanted: ReadonlySet<string>,
  inside: boolean,
  patienceMs: number
): Promise<ExitCode> {
  const { io } = invocation
  const late = AbortSignal.timeout(patienceMs)
  for (;;) {
    const { items } = await client.list(pods, { namespace, signal: limit(invocation) })
    const missing = items.filter(
      ({ metadata, status }) =>
        wanted.has(metadata.uid ?? '') &&
        status?.phase === 'Running' &&
        !arrived(metadata.annotations?.['ambient.istio.io/redirection'], inside)
    )
    if (missing.length === 0) {
      io.out(`${wanted.size} pods are ${inside ? 'in the mesh' : 'out of the mesh'}\n`)
      return 0
    }
    if (late.aborted) {
      const known = await readMeshPods(invocation, namespace, await askAgents(invocation))
      for (const { metadata } of missing) io.err(`${lateText(metadata.name, known, inside)}\n`)
      return 2
    }
    await waiting(pauseMs, io.signal)
    io.signal.throwIfAborted()
  }
}

function arrived(redirection: string | undefined, inside: boolean): boolean {
  return inside ? redirection === 'enabled' : redirection === undefined
}

function lateText(name: string, known: readonly MeshPod[], inside: boolean): string {
  const pod = known.find(other => other.name === name)
  const state = pod?.enrolment.state ?? 'unknown'
  const why = pod?.problem || 'no agent says why; see underpass status'
  return `pod ${name} is not ${inside ? 'in the mesh' : 'out of the mesh'} yet (${state}): ${why}`
}

function describe(target: Target): string {
  return target.kind === 'namespace' ? `namespace ${target.name}` : `pod ${target.namespace}/${target.name}`
}
