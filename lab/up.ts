/** `lab up`: makes the walls, starts the cluster inside, applies the mesh and the manifests, and ends it all again. */
import { spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { KubeClient } from '../shared/kube/client.ts'
import { loadKubeConfig } from '../shared/kube/config.ts'
import { ip } from '../shared/net/address.ts'
import { boundAddress, closeDescriptor, openListener } from '../shared/net/sockets.ts'
import { sleep } from '../shared/runtime/clock.ts'
import { textIfThere } from '../shared/runtime/read-if-there.ts'
import type { UpOptions } from './arguments.ts'
import { requirements, type Requirement } from './check.ts'
import type { InsideOptions } from './inside.ts'
import { isolate, type Isolated } from './isolate.ts'
import { applyManifests, readManifests, type Manifest } from './manifests.ts'
import { meshManifests, meshReady } from './programs.ts'
import { connectOutside, hostResolvers, removeLeftovers, type Outside } from './outside.ts'
import {
  firstChildOf,
  forgetState,
  kubeconfigPath,
  logPath,
  makeStateFolder,
  readState,
  removeState,
  startTimeOf,
  writeState
} from './state.ts'
import { workloadsReady } from './workloads-ready.ts'

/** What a command of the lab needs of the process that it runs in. */
export interface LabContext {
  readonly stateFolder: string
  readonly isRoot: boolean
  readonly uid: number
  readonly environment: NodeJS.ProcessEnv
  readonly projectRoot: string
  readonly nodePath: string
  readonly mainPath: string
  readonly pid: number
  /** A line for the user. */
  readonly print: (line: string) => void
  /** Tells the process that waits for a lab in the background; a no-op in the foreground. */
  readonly notify: (message: BackgroundMessage) => void
}

export interface BackgroundMessage {
  readonly ready: true
}

export interface RunningLab {
  readonly kubeconfig: string
  readonly client: KubeClient
  readonly isolated: Isolated
  stop(): Promise<void>
}

/** Not true of a lab in the background. */
const endedByInterrupt = 'Ctrl-C or '
const graceMs = 3000
const stopDeadlineMs = 15_000
const meshDeadlineMs = 90_000
const workloadDeadlineMs = 120_000

/** Resolves to the exit status when the lab has ended; the signal ends it. */
export async function up(options: UpOptions, context: LabContext, signal: AbortSignal): Promise<number> {
  if (options.detach) return upInBackground(options, context)
  const manifests = options.manifests.flatMap(readManifests)
  let lab: RunningLab
  try {
    lab = await startLab(options, context, signal)
  } catch (error) {
    if (signal.aborted) return 0
    throw error
  }
  try {
    await fill(options, manifests, context, lab, signal)
    context.notify({ ready: true })
    await Promise.race([lab.isolated.exited, aborted(signal)])
    if (!signal.aborted) context.print('the cluster ended by itself; see the messages above')
    return signal.aborted ? 0 : 1
  } catch (error) {
    if (signal.aborted) return 0
    throw error
  } finally {
    await lab.stop()
  }
}

/** The cluster, without anything in it. */
export async function startLab(
  options: Pick<UpOptions, 'nodes' | 'runCommands' | 'internet'>,
  context: LabContext,
  signal: AbortSignal
): Promise<RunningLab> {
  const { stateFolder } = context
  refuseSecond(stateFolder)
  refuseUnfit(await requirements(context))
  forgetState(stateFolder)
  makeStateFolder(stateFolder, context.uid)
  if (options.internet && !context.isRoot) throw new Error('--internet needs root: run the lab with sudo')
  if (context.isRoot) await removeLeftovers()
  const listener = openListener({}, { address: { ip: ip('127.0.0.1'), port: 0 } })
  const address = boundAddress(listener)
  const inside: Omit<InsideOptions, 'listener'> & { readonly port: number } = {
    nodes: options.nodes,
    runCommands: options.runCommands,
    projectRoot: context.projectRoot,
    nodePath: context.nodePath,
    resolvers: options.internet ? hostResolvers(textIfThere) : [],
    port: address?.port ?? 0
  }
  const isolated = isolate(
    {
      isRoot: context.isRoot,
      command: [
        context.nodePath,
        '--disable-warning=ExperimentalWarning',
        context.mainPath,
        'inside',
        JSON.stringify(inside)
      ],
      environment: { PATH: searchPathOf(context.environment) },
      stateFolder,
      listener
    },
    firstChildOf
  )
  // From here on the lab alone holds it.
  closeDescriptor(listener)
  let outside: Outside | undefined
  const stop = async (): Promise<void> => {
    await outside?.disconnect()
    isolated.messages.send({ stop: graceMs })
    const ended = await Promise.race([isolated.exited.then(() => true), sleep(stopDeadlineMs)])
    if (ended) isolated.kill()
    await isolated.exited
    removeState(stateFolder)
  }
  try {
    const kubeconfig = await clusterStarted(isolated, signal)
    if (options.internet) outside = await connectOutside(context.pid, isolated.pid() ?? 0)
    const file = kubeconfigPath(stateFolder)
    writeFileSync(file, kubeconfig, { mode: 0o600 })
    writeState(stateFolder, {
      pid: context.pid,
      startedAt: startTimeOf(context.pid) ?? '',
      inside: isolated.pid() ?? 0,
      ready: false
    })
    const client = new KubeClient(await loadKubeConfig({ kubeconfig: file }), 'underpass-lab')
    return {
      kubeconfig: file,
      client,
      isolated,
      stop: async () => {
        client.close()
        await stop()
      }
    }
  } catch (error) {
    await stop()
    throw error
  }
}

async function fill(
  options: UpOptions,
  manifests: readonly Manifest[],
  context: LabContext,
  { client, kubeconfig }: RunningLab,
  signal: AbortSignal
): Promise<void> {
  const { print, stateFolder } = context
  print(`cluster with ${options.nodes} node${options.nodes === 1 ? '' : 's'} is up`)
  if (options.mesh) {
    await applyManifests(client, meshManifests(context.projectRoot), { namespace: 'default', signal })
    await meshReady(client, options.nodes, AbortSignal.any([signal, AbortSignal.timeout(meshDeadlineMs)]))
    print('mesh is ready: control plane, node agents, ztunnels')
  }
  if (manifests.length > 0) {
    await applyManifests(client, manifests, {
      namespace: 'default',
      signal,
      onApplied: ({ plural, object, change }) => print(`${plural}/${object.metadata.name} ${change}`)
    })
    const late = await workloadsReady(
      client,
      manifests.map(({ object }) => object),
      AbortSignal.any([signal, AbortSignal.timeout(workloadDeadlineMs)])
    )
    for (const line of late) print(`not ready yet: ${line}`)
  }
  const state = readState(stateFolder)
  if (state !== undefined) writeState(stateFolder, { ...state, ready: true })
  print(`ready. kubeconfig: ${kubeconfig}`)
  print('  underpass lab status                          what runs')
  print('  underpass lab exec -n NAMESPACE POD -- CMD    a command in a pod')
  print(`  export KUBECONFIG=${kubeconfig}`)
  print(`${endedByInterrupt}"underpass lab down" ends it.`)
}

/** Starts the same command as a process of its own and waits until that says that it is ready. */
async function upInBackground(options: UpOptions, context: LabContext): Promise<number> {
  refuseSecond(context.stateFolder)
  const words = [
    'up',
    ...options.manifests.flatMap(file => ['-f', file === '-' ? file : path.resolve(file)]),
    ...['--nodes', String(options.nodes), '--run-commands', options.runCommands],
    ...(options.mesh ? [] : ['--no-mesh']),
    ...(options.internet ? ['--internet'] : [])
  ]
  const logFile = logPath(context.stateFolder)
  mkdirSync(path.dirname(logFile), { recursive: true })
  rmSync(logFile, { force: true })
  // Exclusive: where the folder is /tmp, nobody else may have put something under this name.
  const log = openSync(logFile, 'wx+', 0o600)
  const child = spawn(
    context.nodePath,
    ['--disable-warning=ExperimentalWarning', context.mainPath, ...words],
    {
      detached: true,
      stdio: [options.manifests.includes('-') ? 'inherit' : 'ignore', log, log, 'ipc'],
      env: context.environment
    }
  )
  const ready = await new Promise<boolean>(resolve => {
    child.once('message', () => resolve(true))
    child.once('exit', () => resolve(false))
    child.once('error', () => resolve(false))
  })
  // By descriptor: a lab that failed has removed its log.
  const text = readFileSync(`/proc/self/fd/${log}`, 'utf8').trimEnd()
  closeSync(log)
  context.print(text.replace(endedByInterrupt, ''))
  if (!ready) {
    rmSync(logFile, { force: true })
    return 1
  }
  child.disconnect()
  child.unref()
  return 0
}

function refuseSecond(stateFolder: string): void {
  const running = readState(stateFolder)
  if (running !== undefined) {
    throw new Error(
      `a lab runs already (process ${running.pid}); end it with "underpass lab down", or set UNDERPASS_LAB_DIR to another folder`
    )
  }
}

function refuseUnfit(found: readonly Requirement[]): void {
  const missing = found.filter(({ ok }) => !ok)
  if (missing.length === 0) return
  const lines = missing.map(({ name, detail, remedy }) => `  ${name}: ${detail}\n    ${remedy}`)
  throw new Error(`this machine cannot run a lab:\n${lines.join('\n')}`)
}

/** Resolves to the kubeconfig when the API answers. */
function clusterStarted(isolated: Isolated, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    isolated.messages.onMessage(message => {
      const { kubeconfig, failed } = message as { kubeconfig?: string; failed?: string }
      if (kubeconfig !== undefined) resolve(kubeconfig)
      if (failed !== undefined) reject(new Error(failed))
    })
    void isolated.exited.then(code =>
      reject(new Error(`the cluster ended with status ${code} before it was up`))
    )
    signal.addEventListener('abort', () => reject(new Error('interrupted')), { once: true })
  })
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    if (signal.aborted) resolve()
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

function searchPathOf(environment: NodeJS.ProcessEnv): string {
  return `${environment['PATH'] ?? ''}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`
}
