/** What a container of the lab really runs, with which rights, and what its pod may see of that in its status. */
import path from 'node:path'
import type { Privileges } from './container-root.ts'
import { expand } from './environment.ts'
import type { LabContainer, LabPod } from './kinds.ts'
import { programOf, type CommandMode } from './run-commands.ts'
import type { StandInOptions } from './stand-in.ts'

/** The mesh's own image: its programs run from this project. */
export const meshImage = 'underpass.dev/underpass'
export const meshNamespace = 'istio-system'

/** Folder in every container with what the downward API says of the pod. */
export const downwardFolder = '/run/underpass'

export interface ProgramContext {
  /** Folder of this project. */
  readonly projectRoot: string
  readonly nodePath: string
  readonly runCommands: CommandMode
  /** Extension of the project's programs: `.ts`, or `.js` when compiled. */
  readonly extension: string
}

export interface Program {
  readonly kind: 'mesh' | 'command' | 'stand-in' | 'skipped'
  readonly command: readonly string[]
  readonly privileges: Privileges
  /** Shown by `lab status` and as the container's imageID. */
  readonly says: string
}

export function containerProgram(
  pod: LabPod,
  container: LabContainer,
  environment: ReadonlyMap<string, string>,
  context: ProgramContext,
  purpose: 'init' | 'main'
): Program {
  const { image = '' } = container
  const words = (list: readonly string[] | undefined): string[] | undefined =>
    list?.map(word => expand(word, environment))
  const own = { ...container, image, command: words(container.command), args: words(container.args) }
  if (image === meshImage || image.startsWith(`${meshImage}:`)) return meshProgram(pod, own, context)
  const found = programOf(own, context.runCommands)
  if (found.kind === 'command') {
    return { kind: 'command', command: found.command, privileges: 'none', says: found.command.join(' ') }
  }
  // Who waits for the end of a container waits for ever on a server.
  const ends = purpose === 'init' || pod.metadata.ownerReferences?.some(({ kind }) => kind === 'Job')
  if (ends === true && container.restartPolicy !== 'Always') {
    const text = `not run in the lab: ${found.reason}`
    return { kind: 'skipped', command: ['echo', text], privileges: 'none', says: text }
  }
  return {
    kind: 'stand-in',
    command: [
      context.nodePath,
      '--disable-warning=ExperimentalWarning',
      '--max-old-space-size=64',
      path.join(context.projectRoot, 'lab', `stand-in${context.extension}`),
      JSON.stringify(standInOptions(pod, container))
    ],
    privileges: 'none',
    says: `stand-in: ${found.reason}`
  }
}

function meshProgram(
  pod: LabPod,
  {
    command = [],
    args = [],
    volumeMounts = []
  }: Pick<LabContainer, 'volumeMounts'> & {
    readonly command?: string[] | undefined
    readonly args?: string[] | undefined
  },
  { projectRoot, nodePath, extension }: ProgramContext
): Program {
  // The image's entry point is Node, its first argument a program below /app.
  const [program = '', ...rest] = [...command, ...args].filter(word => word !== 'node')
  const file = program.replace(/^\/app\//, '').replace(/\.js$/, extension)
  const trusted = pod.metadata.namespace === meshNamespace
  // Who wants to see what the node mounts later is the node agent.
  const node = volumeMounts.some(({ mountPropagation }) => mountPropagation === 'HostToContainer')
  return {
    kind: 'mesh',
    command: [nodePath, '--disable-warning=ExperimentalWarning', path.join(projectRoot, file), ...rest],
    privileges: !trusted ? 'none' : node ? 'node' : 'network',
    says: `${file} of this project`
  }
}

function standInOptions(pod: LabPod, container: LabContainer): StandInOptions {
  const ports = new Map<string, StandInOptions['ports'][number]>()
  for (const { containerPort, protocol = 'TCP', name = '' } of container.ports ?? []) {
    if (protocol !== 'SCTP')
      ports.set(`${containerPort}/${protocol}`, { port: containerPort, protocol, name })
  }
  for (const probe of [container.readinessProbe, container.livenessProbe, container.startupProbe]) {
    const port = probe?.httpGet?.port ?? probe?.tcpSocket?.port ?? probe?.grpc?.port
    if (typeof port === 'number' && !ports.has(`${port}/TCP`)) {
      ports.set(`${port}/TCP`, { port, protocol: 'TCP', name: '' })
    }
  }
  return {
    pod: pod.metadata.name,
    namespace: pod.metadata.namespace ?? '',
    container: container.name,
    serviceAccount: pod.spec?.serviceAccountName ?? 'default',
    node: pod.spec?.nodeName ?? '',
    image: container.image ?? '',
    ports: [...ports.values()],
    annotationsFile: `${downwardFolder}/annotations`
  }
}
