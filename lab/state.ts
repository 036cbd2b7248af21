/**
 * The lab's folder on the host: who runs it, how to reach it. `lab status`, `exec` and `down` read it; the next
 * start removes what a killed lab left.
 */
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { Env } from '../shared/runtime/env.ts'
import { messageOf } from '../shared/runtime/errors.ts'

export interface LabState {
  /** The process that started the lab. */
  readonly pid: number
  /** When that process started, in clock ticks since boot: a process id alone may have been given out again. */
  readonly startedAt: string
  /** The lab's main process in its namespaces, as the host sees it. */
  readonly inside: number
  readonly ready: boolean
}

/** Where a user's lab keeps its state; UNDERPASS_LAB_DIR moves it, so that several labs can run. */
export function stateFolder(env: Env, isRoot: boolean, uid: number): string {
  const chosen = env['UNDERPASS_LAB_DIR']
  if (chosen !== undefined && chosen !== '') return path.resolve(chosen)
  if (isRoot) return '/run/underpass-lab'
  const runtime = env['XDG_RUNTIME_DIR']
  return runtime !== undefined && runtime !== ''
    ? path.join(runtime, 'underpass-lab')
    : path.join(tmpdir(), `underpass-lab-${uid}`)
}

/** Makes the folder, readable by its owner only. Refuses one that somebody else made (/tmp is shared). */
export function makeStateFolder(folder: string, uid: number): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
  } catch (error) {
    throw new Error(`${messageOf(error)}; set UNDERPASS_LAB_DIR to a folder that you may make`, {
      cause: error
    })
  }
  const found = lstatSync(folder)
  if (!found.isDirectory() || found.uid !== uid) {
    throw new Error(`${folder} belongs to somebody else; set UNDERPASS_LAB_DIR to a folder of yours`)
  }
}

export function writeState(folder: string, state: LabState): void {
  const file = path.join(folder, 'state.json')
  writeFileSync(`${file}.new`, JSON.stringify(state), { mode: 0o600 })
  renameSync(`${file}.new`, file)
}

/** The lab that runs; undefined when none does, also when a file is left of one that was killed. */
export function readState(folder: string): LabState | undefined {
  const state = readStateFile(folder)
  return state !== undefined && startTimeOf(state.pid) === state.startedAt ? state : undefined
}

/** What the file says, whether that lab still runs or not. */
export function readStateFile(folder: string): LabState | undefined {
  try {
    return JSON.parse(readFileSync(path.join(folder, 'state.json'), 'utf8')) as LabState
  } catch {
    // No lab was started here, or it was killed while it wrote: nothing to be told from.
    return undefined
  }
}

/** Files that a lab writes into its folder. */
const files = ['state.json', 'state.json.new', 'kubeconfig']

/** Removes what a killed lab left; a lab in the background writes its log already. */
export function forgetState(folder: string): void {
  if (!existsSync(`${folder}/.`)) return // none, or no folder: whoever makes it says so
  for (const name of files) rmSync(path.join(folder, name), { force: true })
}

/** Removes a lab's own files, and the folder when nothing else is in it: somebody may have named one of theirs. */
export function removeState(folder: string): void {
  forgetState(folder)
  rmSync(logPath(folder), { force: true })
  try {
    rmdirSync(folder)
  } catch {
    // There is none, or it holds what is not ours.
  }
}

/** The same for a shell that may outlive this program; `$state` is the folder. */
export const removeStateScript = `${files.map(name => `rm -f -- "$state/${name}"`).join('; ')}; rm -f -- "$state.log"; rmdir -- "$state"`

/** What a lab in the background prints; beside the folder, which the start makes anew. */
export function logPath(folder: string): string {
  return `${folder}.log`
}

export function kubeconfigPath(folder: string): string {
  return path.join(folder, 'kubeconfig')
}

/** Field 22 of /proc/PID/stat; undefined when there is no such process. */
export function startTimeOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The program's name, in parentheses, may hold spaces.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' ? undefined : fields[19]
  } catch {
    // The process is gone.
    return undefined
  }
}

/** The first child of a process; undefined when it has none. */
export function firstChildOf(pid: number): number | undefined {
  try {
    const [first = ''] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ')
    return first === '' ? undefined : Number(first)
  } catch {
    // The process is gone.
    return undefined
  }
}
