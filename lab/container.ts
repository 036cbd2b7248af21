/**
 * One container: a process tree in its own mount, process, host name and IPC namespaces and in the network
 * namespace of its pod. Its process 1 is a shell that builds the root file system, starts the command with
 * its rights taken away, passes SIGTERM on and ends with it; when it ends, the kernel ends all the others.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import type { Readable } from 'node:stream'
import { type ContainerLog } from './container-log.ts'
import { dropPrivileges, quote, type ContainerRoot, type RootTemplate } from './container-root.ts'
import { firstChildOf } from './state.ts'

export interface ContainerSpec extends ContainerRoot {
  /** Path of the pod's network namespace. */
  readonly netns: string
  readonly command: readonly string[]
  readonly environment: ReadonlyMap<string, string>
  /** The node's processes are visible (`hostPID`). */
  readonly nodeProcesses: boolean
}

export interface Exit {
  /** 128 + n when signal n ended it. */
  readonly code: number
  readonly finishedAt: Date
}

export class Container {
  readonly startedAt = new Date()
  readonly exited: Promise<Exit>
  readonly #child: ChildProcess
  readonly #entered: Promise<unknown>
  readonly #spec: ContainerSpec
  #exit: Exit | undefined
  #init: number | undefined

  /** Starts it; a container that cannot be started exits at once, with the reason in its log. */
  constructor(template: RootTemplate, spec: ContainerSpec, log: ContainerLog) {
    this.#spec = spec
    mkdirSync(spec.folder, { recursive: true })
    const script = path.join(spec.folder, 'start.sh')
    writeFileSync(script, startScript(template, spec), { mode: 0o600 })
    // Under the node's own processes there is no process namespace whose end would end the tree.
    const namespaces = ['--mount', '--uts', '--ipc', ...(spec.nodeProcesses ? [] : ['--pid'])]
    this.#child = spawn(
      'nsenter',
      [
        `--net=${spec.netns}`,
        'unshare',
        ...namespaces,
        // What the node mounts later (network namespaces of new pods) shows in the node agent, too.
        `--propagation=${spec.privileges === 'node' ? 'slave' : 'private'}`,
        '--fork',
        '--kill-child',
        'sh',
        script
      ],
      { stdio: ['ignore', 'pipe', 'pipe', 'pipe'], env: { PATH: searchPath }, detached: true }
    )
    log.attach(this.#child.stdout, 'stdout')
    log.attach(this.#child.stderr, 'stderr')
    const told = this.#child.stdio[3] as Readable
    this.#entered = new Promise(resolve => told.once('data', resolve))
    told.on('error', () => undefined)
    this.exited = new Promise(resolve => {
      const finish = (code: number): void => {
        this.#exit ??= { code, finishedAt: new Date() }
        resolve(this.#exit)
      }
      this.#child.once('error', error => {
        log.write('stderr', `lab: the container cannot be started: ${error.message}\n`)
        finish(128)
      })
      this.#child.once('exit', (code, signal) => finish(code ?? 128 + signalNumber(signal)))
    })
  }

  /** Resolves when the command is about to start in its finished root file system, or has failed to. */
  async entered(): Promise<void> {
    await Promise.race([this.#entered, this.exited])
  }

  get exit(): Exit | undefined {
    return this.#exit
  }

  /** Process id, as the lab's processes see it, of the container's first process; undefined until it runs. */
  get pid(): number | undefined {
    this.#init ??= this.#child.pid === undefined ? undefined : firstChildOf(this.#child.pid)
    return this.#exit === undefined ? this.#init : undefined
  }

  /** Asks the command to end (SIGTERM), and ends everything after `graceMs`. */
  async stop(graceMs: number): Promise<void> {
    if (this.#exit !== undefined) return
    signalProcess(this.pid, 'SIGTERM')
    const timer = setTimeout(() => this.kill(), graceMs)
    await this.exited
    clearTimeout(timer)
  }

  kill(): void {
    // The whole group: without a process namespace nothing else would end the command.
    if (this.#exit === undefined && this.#child.pid !== undefined) signalProcess(-this.#child.pid, 'SIGKILL')
  }

  /** The words that run a command inside, with the rights and the environment of the container. */
  enter(command: readonly string[], environment: ReadonlyMap<string, string> = new Map()): string[] {
    if (this.pid === undefined) throw new Error('the container does not run')
    const { privileges, environment: own, nodeProcesses } = this.#spec
    const namespaces = ['--mount', '--uts', '--ipc', '--net', ...(nodeProcesses ? [] : ['--pid'])]
    return [
      'nsenter',
      `--target=${this.pid}`,
      ...namespaces,
      '--',
      'sh',
      '-c',
      'cd "$0" 2>/dev/null; exec "$@"',
      this.#spec.workingDir,
      ...dropPrivileges(privileges, new Map([...own, ...environment])),
      ...command
    ]
  }
}

export const searchPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

function startScript(template: RootTemplate, spec: ContainerSpec): string {
  const command = [...dropPrivileges(spec.privileges, spec.environment), ...spec.command].map(quote)
  return [
    'set -eu',
    template.enterScript(spec),
    // Descriptor 3 tells the kubelet that the walls stand.
    'echo >&3; exec 3>&-',
    "trap 'kill -TERM $child' TERM",
    `${command.join(' ')} &`,
    'child=$!',
    // A trapped signal ends the wait early: wait again until the command is gone.
    'while code=0; wait $child || code=$?; kill -0 $child 2>/dev/null; do :; done',
    'exit $code'
  ].join('\n')
}

function signalProcess(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return
  try {
    process.kill(pid, signal)
  } catch {
    // It ended by itself in the meantime.
  }
}

function signalNumber(signal: NodeJS.Signals | null): number {
  return signal === null
    ? 0
    : ({ SIGHUP: 1, SIGINT: 2, SIGKILL: 9, SIGSEGV: 11, SIGTERM: 15 }[signal as string] ?? 1)
}
