/**
 * The walls around the lab: network, mount and process namespaces of its own (and, without root, a user
 * namespace), entered through util-linux because a running Node cannot. Process 1 in there is a shell that ends
 * when the pipe to its parent closes, and the kernel then ends every other process and removes every link,
 * address, route, rule and mount: even `kill -9` leaves nothing.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import type { Socket } from 'node:net'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { removeStateScript } from './state.ts'

/** `unshare` words for this user. A user namespace is only made where root cannot be had otherwise. */
export function unshareWords(isRoot: boolean): [command: string, ...args: string[]] {
  return [
    'unshare',
    ...(isRoot ? [] : ['--user', '--map-root-user']),
    '--net',
    '--mount',
    '--pid',
    '--fork',
    '--kill-child',
    '--mount-proc'
  ]
}

/** Words that enter the lab's namespaces again; `pid` is its main process as the host sees it. */
export function enterWords(isRoot: boolean, pid: number): string[] {
  return [
    'nsenter',
    `--target=${pid}`,
    ...(isRoot ? [] : ['--user', '--preserve-credentials']),
    '--net',
    '--mount',
    '--pid',
    '--'
  ]
}

/**
 * Process 1. Its descriptor 0 is the pipe whose other end only the parent holds. `wait` also collects orphans,
 * which become its children. The state folder goes here when the parent can no longer remove it,
 * before the end of the main process ends all.
 */
const reaper = `
exec 5<&0 </dev/null
state=$1; shift
"$@" 5<&- &
main=$!
{ while read -r line <&5; do :; done; ${removeStateScript}; kill -KILL $main; } >/dev/null 2>&1 &
exec 3<&- 4<&- 5<&-
wait $main
`

export interface IsolatedProgram {
  readonly isRoot: boolean
  /** Runs in the namespaces. */
  readonly command: readonly string[]
  readonly environment: NodeJS.ProcessEnv
  /** Removed when the parent was killed. */
  readonly stateFolder: string
  /** A listening descriptor of the host's network namespace; the program finds it as descriptor 3. */
  readonly listener: number
}

/** Messages in lines of JSON, over descriptor 4 of the isolated program. */
export interface MessagePipe {
  send(message: unknown): void
  onMessage(listener: (message: unknown) => void): void
}

export interface Isolated {
  readonly messages: MessagePipe
  /** Process id of the program as the host sees it; undefined before it runs and after it ended. */
  pid(): number | undefined
  /** The exit code; never rejects. */
  readonly exited: Promise<number>
  /** Ends everything inside at once. */
  kill(): void
}

export function isolate(program: IsolatedProgram, childOf: (pid: number) => number | undefined): Isolated {
  const [command, ...args] = [
    ...unshareWords(program.isRoot),
    'sh',
    '-c',
    reaper,
    'reaper',
    program.stateFolder,
    // The reaper keeps the machine's /run; the program may cover it.
    'unshare',
    '--mount',
    ...program.command
  ]
  const child = spawn(command, args, {
    // Its own session: Ctrl-C in the terminal reaches only the parent, which then ends the lab in order.
    detached: true,
    stdio: ['pipe', 'inherit', 'inherit', program.listener, 'pipe'],
    env: program.environment
  })
  const exited = exitOf(child)
  child.stdin?.on('error', () => undefined)
  const channel = child.stdio[4] as Socket
  channel.on('error', () => undefined)
  return {
    messages: messagePipe(channel, channel),
    pid: () => {
      const init = child.pid === undefined ? undefined : childOf(child.pid)
      return init === undefined ? undefined : childOf(init)
    },
    exited,
    kill: () => {
      child.kill('SIGKILL')
    }
  }
}

export function messagePipe(input: Readable, output: Writable): MessagePipe {
  return {
    send: message => {
      output.write(`${JSON.stringify(message)}\n`)
    },
    onMessage: listener => {
      createInterface({ input }).on('line', line => listener(JSON.parse(line)))
    }
  }
}

function exitOf(child: ChildProcess): Promise<number> {
  return new Promise(resolve => {
    child.once('error', () => resolve(127))
    child.once('exit', (code, signal) => resolve(code ?? (signal === 'SIGKILL' ? 137 : 143)))
  })
}
