/** `underpass pods`: which pods are in the mesh, and why the others are not. */
import type { ExitCode, Invocation, LeafCommand } from '../command.ts'
import { askAgents, readMeshPods, validityText, type MeshPod } from '../mesh-pods.ts'
import { clusterOptions, meshOptions, namespaceOptions, outputOptions, watchOption } from '../options.ts'
import { printListing } from '../output.ts'
import type { Column } from '../table.ts'

export const command: LeafCommand = {
  name: 'pods',
  summary: 'which pods are in the mesh, and why the others are not',
  description: `Joins the labels and annotations of pods and namespaces with what the node agents and ztunnels hold.

STATE is "enabled", "pending" (captured, its proxy has not confirmed), "unprotected" (wanted in the mesh, but its traffic
is in the clear), "leftover", "sidecar", "host network" or "outside". RULES, PROXY and CERT are "?" where an agent
could not be asked. WHY tells why a pod is outside, or what is wrong with one inside.`,
  options: [
    ...namespaceOptions,
    { flags: '--unprotected', help: 'only pods that should be in the mesh and are not' },
    ...outputOptions,
    watchOption,
    ...meshOptions,
    ...clusterOptions
  ],
  examples: [
    { what: 'Pods of a namespace', command: 'pods -n shop' },
    { what: 'Whatever should be in the mesh and is not', command: 'pods -A --unprotected' }
  ],
  run
}

const columns: readonly Column<MeshPod>[] = [
  { heading: 'NAMESPACE', cell: ({ namespace }) => namespace },
  { heading: 'POD', cell: ({ name }) => name },
  { heading: 'NODE', cell: ({ node }) => node || '-' },
  { heading: 'WANTED BY', cell: ({ enrolment }) => enrolment.wantedBy || '-' },
  { heading: 'STATE', cell: ({ enrolment }) => enrolment.state },
  { heading: 'RULES', cell: pod => ifMeshed(pod, pod.rules) },
  { heading: 'PROXY', cell: pod => ifMeshed(pod, pod.proxy) },
  { heading: 'CERT', cell: pod => ifMeshed(pod, validityText(pod.certificate)) },
  {
    heading: 'CONNS',
    cell: pod => ifMeshed(pod, pod.connections === undefined ? '-' : String(pod.connections))
  },
  { heading: 'WHY', cell: ({ enrolment, problem }) => problem || enrolment.reason || '-' }
]

/** Pods outside of the mesh have neither rules nor certificates, so their absence is no news. */
function ifMeshed({ enrolment: { state } }: MeshPod, text: string): string {
  return state === 'outside' || state === 'host network' || state === 'sidecar' ? '-' : text
}

async function run(invocation: Invocation): Promise<ExitCode> {
  const client = await invocation.client()
  const namespace = invocation.flag('all-namespaces')
    ? undefined
    : (invocation.text('namespace') ?? client.access.namespace)
  const answers = await askAgents(invocation)
  const all = await readMeshPods(invocation, namespace, answers)
  const rows = invocation.flag('unprotected') ? all.filter(isUnprotected) : all
  await printListing(invocation, {
    kind: 'MeshPod',
    columns,
    rows,
    name: ({ namespace: space, name }) => `pod/${space}/${name}`,
    nothing: invocation.flag('unprotected')
      ? 'every pod that should be in the mesh is'
      : `no pods in ${namespace === undefined ? 'the cluster' : `namespace ${namespace}`}`
  })
  return answers.code
}

export function isUnprotected({ enrolment, rules, proxy }: MeshPod): boolean {
  if (enrolment.state === 'unprotected' || enrolment.state === 'pending') return true
  return enrolment.state === 'enabled' && (rules === 'absent' || proxy === 'absent')
}
