/** The callers in the pods, each on one long `kubectl attach`, and what the table of cases asks of them. */
import { spawn, type ChildProcess } from 'node:child_process'
import path from 'node:path'
import readline from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import type { KubeClient } from '../../shared/kube/client.ts'
import { authorizationPolicies, peerAuthentications } from '../../shared/kube/istio-api.ts'
import type { Answer, Command } from './matrix-caller.ts'
import type { Call, CallerName, Case, Lookup, PodName, Policy, Target } from './matrix-cases.ts'
import { places } from './matrix-world.ts'

/** Longest time until all calls of a case become what they must be: configuration travels meanwhile. */
const patienceMs = Number(process.env['UNDERPASS_PATIENCE'] ?? 30) * 1000
const answerMs = 15_000

export class Caller {
  readonly name: CallerName
  readonly #process: ChildProcess
  readonly #waiting = new Map<number, (answer: Answer) => void>()
  #asked = 0
  #said = ''

  constructor(name: CallerName, kubeconfig: string) {
    this.name = name
    const kubectl = path.join(process.env['UNDERPASS_PEERS'] ?? '', 'kubectl')
    const { namespace } = places[name]
    this.#process = spawn(
      kubectl,
      ['--kubeconfig', kubeconfig, '-n', namespace, 'attach', '-q', '-i', name, '-c', 'caller'],
      { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, NODE_OPTIONS: '' } }
    )
    this.#process.stderr?.on('data', (chunk: Buffer) => (this.#said += String(chunk)))
    this.#process.stdin?.on('error', () => undefined) // an answer that never comes says it
    const lines = readline.createInterface({ input: this.#process.stdout ?? process.stdin })
    lines.on('line', line => {
      const { id, ...answer } = JSON.parse(line) as Answer & { id: number }
      this.#waiting.get(id)?.(answer)
    })
  }

  async ask(command: Command): Promise<Answer> {
    const id = ++this.#asked
    const answer = new Promise<Answer>(resolve => this.#waiting.set(id, resolve))
    this.#process.stdin?.write(`${JSON.stringify({ id, ...command })}\n`)
    const timeout = new AbortController()
    const late = delay(answerMs, undefined, { signal: timeout.signal }).then(() => {
      throw new Error(`${this.name} did not answer to ${command.do}; kubectl attach said: ${this.#said}`)
    })
    try {
      return await Promise.race([answer, late])
    } finally {
      timeout.abort()
      late.catch(() => undefined)
      this.#waiting.delete(id)
    }
  }

  end(): void {
    this.#process.kill('SIGKILL')
  }
}

export interface World {
  readonly client: KubeClient
  readonly callers: Readonly<Record<CallerName, Caller>>
  readonly addressOf: (pod: PodName) => string
}

/** Applies the objects of the case, waits until all is as it must be, removes them; resolves to what is wrong. */
export async function tryCase(world: World, row: Case): Promise<readonly string[]> {
  const { calls = [], lookups = [], live = [] } = row
  const held = live.map((line, index) => ({ ...line, name: `${row.name} ${index}` }))
  const problems = await settled(async () =>
    Promise.all(
      held.map(async ({ from, to, name }) => {
        const answer = await world.callers[from].ask({ do: 'hold', name, ...placeOf(world, to) })
        return answer.kind === 'served'
          ? ''
          : `${from} → ${told(to)}: expected a connection to keep, ${say(answer)}`
      })
    )
  )
  if (problems.length > 0) return problems
  const objects = row.objects?.(world.addressOf) ?? []
  await Promise.all(objects.map(async object => write(world.client, object)))
  try {
    return await settled(async () =>
      Promise.all([
        ...calls.map(async call => tryCall(world, call)),
        ...lookups.map(async lookup => tryLookup(world, lookup)),
        ...held.map(async ({ from, to, name, expect }) => {
          const answer = await world.callers[from].ask({ do: 'again', name })
          const fine = answer.kind === (expect === 'kept' ? 'served' : 'refused')
          return fine ? '' : `${from} → ${told(to)}: the live connection was to be ${expect}, ${say(answer)}`
        })
      ])
    )
  } finally {
    await Promise.all(objects.map(async object => remove(world.client, object)))
  }
}

async function tryCall(world: World, { from, to, expect }: Call): Promise<string> {
  const answer = await world.callers[from].ask({ do: 'call', ...placeOf(world, to) })
  const where = `${from} → ${told(to)}`
  if (answer.kind !== expect) return `${where}: expected to be ${expect}, ${say(answer)}`
  if (answer.kind !== 'served') return ''
  const by: readonly string[] = 'service' in to ? [to.service] : 'pod' in to ? [to.pod] : to.by
  if (!by.includes(answer.by)) return `${where}: served by ${answer.by} instead of ${by.join(' or ')}`
  const address = world.addressOf(from)
  return answer.sees === address
    ? ''
    : `${where}: the application sees ${answer.sees}, the caller is ${address}`
}

async function tryLookup(world: World, { from, name, expect }: Lookup): Promise<string> {
  const answer = await world.callers[from].ask({ do: 'resolve', host: name })
  const expected = expect.map(each => (each in places ? world.addressOf(each as PodName) : each)).toSorted()
  if (expected.length === 0) {
    const absent = answer.kind === 'unresolved' && answer.code === 'ENOTFOUND'
    return absent ? '' : `${from} asks for ${name}: expected no such name, ${say(answer)}`
  }
  const got = answer.kind === 'resolved' ? answer.addresses.toSorted().join(', ') : ''
  return got === expected.join(', ')
    ? ''
    : `${from} asks for ${name}: expected ${expected.join(', ')}, ${say(answer)}`
}

/** Tries until nothing is wrong; resolves to what was wrong the last time. */
export async function settled(
  attempt: () => Promise<readonly string[]>,
  { withinMs = patienceMs } = {}
): Promise<readonly string[]> {
  const deadline = performance.now() + withinMs
  for (;;) {
    const problems = (await attempt()).filter(problem => problem !== '')
    if (problems.length === 0 || performance.now() > deadline) return problems
    await delay(200)
  }
}

function placeOf(world: World, to: Target): { host: string; port: number } {
  if ('service' in to) return { host: `${to.service}.${places[to.service].namespace}`, port: to.port ?? 80 }
  if ('pod' in to) return { host: world.addressOf(to.pod), port: to.port ?? 8080 }
  return { host: to.name, port: to.port }
}

function told(to: Target): string {
  if ('service' in to) return `Service ${to.service}:${to.port ?? 80}`
  return 'pod' in to ? `pod ${to.pod}:${to.port ?? 8080}` : `${to.name}:${to.port}`
}

function say(answer: Answer): string {
  switch (answer.kind) {
    case 'served':
      return `was served by ${answer.by}`
    case 'refused':
      return `was refused (${answer.how})`
    case 'silent':
      return 'nothing happened'
    case 'resolved':
      return `got ${answer.addresses.join(', ')}`
    case 'unresolved':
      return `the name was not resolved (${answer.code})`
    case 'carried':
      return `carried ${answer.bytes} bytes ${answer.broken}`
    default:
      return answer satisfies never
  }
}

async function write(client: KubeClient, object: Policy): Promise<void> {
  if (object.kind === 'PeerAuthentication') await client.create(peerAuthentications, object)
  else await client.create(authorizationPolicies, object)
}

async function remove(client: KubeClient, { kind, metadata }: Policy): Promise<void> {
  await client.delete(kind === 'PeerAuthentication' ? peerAuthentications : authorizationPolicies, metadata)
}
