/** Pods that call each other without end, on both nodes, and what they see. */
import path from 'node:path'
import type { KubeObject } from '../../shared/kube/object.ts'
import type { Cluster } from '../support/cluster.ts'
import { eventually } from '../support/eventually.ts'
import { podProgram } from '../support/pod-program.ts'
import type { Second } from './faults-pod.ts'

/** What the pods say to each other. */
export const words = 'only-for-the-other-end'

const nodes = { caller: 'node1', one: 'node1', remote: 'node2', two: 'node2' } as const
export type PodName = keyof typeof nodes

/** What callers saw between two times, of all their calls to one target. */
export interface Seen {
  readonly answered: number
  readonly failed: number
  /** `ECONNRESET 12, no answer 3` */
  readonly reasons: string
  /** The longest time to an answer, in milliseconds. */
  readonly longestMs: number
  readonly longestFailureMs: number
  /** Answers on the connection that is held, and how often it ended. */
  readonly held: number
  readonly cut: number
}

export interface World {
  addressOf(pod: PodName): string
  /** Of the calls that ended between two times; `to` is now when absent. */
  seen(caller: PodName, target: string, times: { from: number; to?: number }): Promise<Seen>
  /** Resolves when every target of these callers answered all calls of two seconds after `since`, and holds a connection. */
  flowing(since?: number, callers?: readonly PodName[]): Promise<void>
}

/** `caller` calls the pods `one` and `two` and the Service that is both; `remote`, on the other node, calls `one`. */
export async function startWorld({ kubectl }: Cluster): Promise<World> {
  const apply = async (items: readonly KubeObject[]): Promise<void> => {
    await kubectl(['apply', '-f', '-'], JSON.stringify({ apiVersion: 'v1', kind: 'List', items }))
    await inShop('wait', '--for=condition=Ready', 'pod', '--all', '--timeout=90s')
  }
  const inShop = async (...words: readonly string[]): Promise<string> => kubectl(['-n', 'shop', ...words])
  const addresses = new Map<string, string>()
  const readAddresses = async (kind: string, field: string): Promise<void> => {
    const text = await inShop(
      'get',
      kind,
      '-o',
      `jsonpath={range .items[*]}{.metadata.name}={${field}}{"\\n"}{end}`
    )
    for (const line of text.trim().split('\n')) {
      const [name = '', address = ''] = line.split('=')
      addresses.set(`${kind}/${name}`, address)
    }
  }
  const addressOf = (pod: PodName): string => addresses.get(`pods/${pod}`) ?? ''

  await apply([
    {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: 'shop', labels: { 'istio.io/dataplane-mode': 'ambient' } }
    },
    ...Object.keys(nodes).map(name => ({
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { name, namespace: 'shop' }
    })),
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'both', namespace: 'shop' },
      spec: { selector: { app: 'server' }, ports: [{ name: 'tcp', port: 80, targetPort: 8080 }] }
    } as KubeObject,
    podObject('one', 'server', []),
    podObject('two', 'server', [])
  ])
  await readAddresses('pods', '.status.podIP')
  await readAddresses('services', '.spec.clusterIP')
  const [one, two] = (['one', 'two'] as const).map(name => `${name}=${addressOf(name)}:8080`)
  const both = `both=${addresses.get('services/both')}:80`
  await apply([
    podObject('caller', 'client', [one ?? '', two ?? '', both]),
    podObject('remote', 'client', [one ?? ''])
  ])
  await readAddresses('pods', '.status.podIP')

  const secondsOf = async (caller: PodName, from: number): Promise<readonly Second[]> =>
    (await inShop('logs', caller, `--since-time=${new Date(from - 1000).toISOString()}`))
      .split('\n')
      .filter(line => line.startsWith('{'))
      .map(line => JSON.parse(line) as Second)
      .filter(({ at }) => at > from)
  return {
    addressOf,
    async seen(caller, target, { from, to = Infinity }) {
      return sumOf((await secondsOf(caller, from)).filter(each => each.to === target && each.at <= to))
    },
    async flowing(since = Date.now(), callers = ['caller', 'remote']) {
      for (const caller of callers) {
        await eventually(`all calls of ${caller} are answered`, async () => {
          const latest = (await secondsOf(caller, since)).slice(-8)
          const targets = new Set(latest.map(({ to }) => to))
          return (
            [...targets].every(target => {
              const ofTarget = latest.filter(({ to }) => to === target).slice(-2)
              return ofTarget.length === 2 && ofTarget.every(isWell)
            }) && targets.size > 0
          )
        })
      }
    }
  }
}

/** For people. */
export function told({ answered, failed, reasons, longestMs, longestFailureMs, held, cut }: Seen): string {
  const failures =
    failed === 0 ? 'none failed' : `${failed} failed (${reasons}; within ${longestFailureMs} ms)`
  const connection =
    cut === 0 ? `the held connection was answered ${held} times` : `the held connection was cut ${cut} times`
  return `${answered} calls answered, the slowest after ${longestMs} ms; ${failures}; ${connection}`
}

function isWell({ answered, failed, held }: Second): boolean {
  return answered > 0 && Object.keys(failed).length === 0 && held > 0
}

function sumOf(seconds: readonly Second[]): Seen {
  const reasons = new Map<string, number>()
  for (const { failed } of seconds) {
    for (const [reason, times] of Object.entries(failed))
      reasons.set(reason, (reasons.get(reason) ?? 0) + times)
  }
  const sum = (field: 'answered' | 'held' | 'cut'): number =>
    seconds.reduce((total, second) => total + second[field], 0)
  return {
    answered: sum('answered'),
    failed: [...reasons.values()].reduce((total, times) => total + times, 0),
    reasons: [...reasons].map(([reason, times]) => `${reason} ${times}`).join(', '),
    longestMs: Math.max(0, ...seconds.map(({ longestMs }) => longestMs)),
    longestFailureMs: Math.max(0, ...seconds.map(({ longestFailureMs }) => longestFailureMs)),
    held: sum('held'),
    cut: sum('cut')
  }
}

function podObject(name: PodName, app: string, targets: readonly string[]): KubeObject {
  const container = {
    name: 'app',
    ...podProgram(path.join(import.meta.dirname, 'faults-pod.ts'), targets),
    env: [{ name: 'WORDS', value: words }],
    readinessProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1 }
  }
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'shop', labels: { app } },
    spec: {
      serviceAccountName: name,
      automountServiceAccountToken: false,
      nodeName: nodes[name],
      hostname: name,
      terminationGracePeriodSeconds: 0,
      containers: [container]
    }
  } as KubeObject
}
