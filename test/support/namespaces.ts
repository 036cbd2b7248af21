/** Network namespaces for tests: made with a name of this process, removed with the test. Needs root. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { closeNetns, openNetns } from '../../shared/net/netns.ts'

export interface Namespace {
  readonly name: string
  readonly path: string
  /** An open descriptor of it, closed with the test. */
  readonly fd: number
  /** Runs a program inside and returns what it wrote; throws with its complaint when it fails. */
  run(program: string, ...parameters: string[]): string
  /** Starts a program inside; the test ends it. */
  start(program: string, ...parameters: string[]): ChildProcess
}

/** The reason to skip a test that needs namespaces, or false. */
export function needsRoot(): string | false {
  if (process.getuid?.() !== 0) return 'needs root'
  return false
}

let count = 0

/** A namespace with lo up. */
export function makeNamespace(t: { teardown(done: () => void): void }, prefix: string): Namespace {
  const name = `${prefix}-${process.pid}-${count++}`
  ip('netns', 'add', name)
  const path = `/var/run/netns/${name}`
  const fd = openNetns(path)
  const children = new Set<ChildProcess>()
  t.teardown(() => {
    for (const child of children) child.kill('SIGKILL')
    closeNetns(fd)
    ip('netns', 'del', name)
  })
  ip('-n', name, 'link', 'set', 'lo', 'up')
  return {
    name,
    path,
    fd,
    run: (program, ...parameters) =>
      execFileSync('ip', ['netns', 'exec', name, program, ...parameters], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'pipe'],
        timeout: 30_000
      }),
    start: (program, ...parameters) => {
      const child = spawn('ip', ['netns', 'exec', name, program, ...parameters], { stdio: 'pipe' })
      children.add(child)
      child.once('exit', () => children.delete(child))
      return child
    }
  }
}

/** Joins two namespaces by a veth pair; each end gets the addresses (`10.0.0.1/24`, `fd00::1/64`) and is up. */
export function joinNamespaces(
  a: { readonly namespace: Namespace; readonly device: string; readonly addresses: readonly string[] },
  b: { readonly namespace: Namespace; readonly device: string; readonly addresses: readonly string[] }
): void {
  ip(
    '-n',
    a.namespace.name,
    'link',
    'add',
    a.device,
    'type',
    'veth',
    'peer',
    'name',
    b.device,
    'netns',
    b.namespace.name
  )
  for (const { namespace, device, addresses } of [a, b]) {
    for (const address of addresses) {
      const nodad = address.includes(':') ? ['nodad'] : []
      ip('-n', namespace.name, 'addr', 'add', address, 'dev', device, ...nodad)
    }
    ip('-n', namespace.name, 'link', 'set', device, 'up')
  }
}

function ip(...parameters: string[]): void {
  execFileSync('ip', parameters, { stdio: ['ignore', 'ignore', 'pipe'] })
}
