/**
 * What an idle ztunnel holds, with no other workload and with 10,000, which it read from a file or, as in a cluster,
 * was sent by a control plane over xDS.
 */
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { ip, ipToBytes } from '../../shared/net/address.ts'
import { makeNamespace } from '../support/namespaces.ts'
import { startControlPlane } from '../support/test-control-plane.ts'
import { interrupted } from './interrupt.ts'
import { residentMb } from './process-cost.ts'
import type { Setup } from './setup.ts'
import { pairedRatio, spreadOf, type Spread } from './statistics.ts'
import { ownRow, rowOf, targets, type Row } from './table.ts'
import { end, startZtunnel, workloadLine } from './ztunnel-hop.ts'

type From = 'file' | 'xDS'

interface Idle {
  readonly program: readonly string[]
  readonly workers: number
  readonly workloads: number
  readonly from: From
}

const MANY = 10_000
/** Memory hangs on when garbage was collected last, so each figure is a median. */
const ROUNDS = 3

/** `nginxMb`: what nginx holds, for the ratio of the first row. */
export async function idleRows({ folder, ours, rust }: Setup, nginxMb: number | undefined): Promise<Row[]> {
  const measure = async (options: Idle): Promise<number[]> => {
    const found: number[] = []
    for (let round = 0; round < ROUNDS; round += 1) found.push(await residentIdle(folder, options))
    return found
  }
  const rows: Row[] = []
  for (const from of ['file', 'xDS'] as const) {
    for (const workloads of [0, MANY]) {
      const one = await measure({ program: ours, workers: 1, workloads, from })
      const two = await measure({ program: ours, workers: 2, workloads, from })
      const peer =
        rust === undefined ? undefined : await measure({ program: rust, workers: 1, workloads, from })
      rows.push(
        idleRow(`memory idle, ${named(workloads, from)}`, one, {
          ztunnel: peer,
          nginx: workloads === 0 && nginxMb !== undefined ? one.map(() => nginxMb) : undefined
        }),
        ownRow(`memory of a further worker, ${named(workloads, from)}`, 'MB', difference(two, one))
      )
    }
  }
  return rows
}

function named(workloads: number, from: From): string {
  return `${workloads === 0 ? 'no' : '10,000'} workloads ${from === 'file' ? 'from a file' : 'over xDS'}`
}

function difference(more: readonly number[], less: readonly number[]): Spread {
  return spreadOf(more.map((value, index) => value - (less[index] ?? NaN)))
}

function idleRow(
  name: string,
  ours: readonly number[],
  others: Readonly<Record<string, readonly number[] | undefined>>
): Row {
  const peers = Object.fromEntries(
    Object.entries(others).flatMap(([peer, values]) =>
      values === undefined ? [] : [[peer, { value: spreadOf(values), ratio: pairedRatio(ours, values) }]]
    )
  )
  return rowOf({ name, unit: 'MB', ours: spreadOf(ours), peers, targets: targets[name] ?? {} })
}

/** Megabytes that a ztunnel holds one second after it is ready. */
async function residentIdle(folder: string, { program, workers, workloads, from }: Idle): Promise<number> {
  await using made = new AsyncDisposableStack()
  const t = { teardown: (undo: () => unknown): void => made.defer(async () => void (await undo())) }
  const netns = makeNamespace(t, 'upbi')
  netns.run('ip', 'addr', 'add', `${own}/32`, 'dev', 'lo')
  const env = from === 'file' ? fromFile(folder, workloads) : await fromControlPlane(t, netns, workloads)
  const ztunnel = await startZtunnel({
    program,
    netns: netns.name,
    role: 'client',
    folder,
    env: { ZTUNNEL_WORKER_THREADS: String(workers), ...env }
  })
  made.defer(() => end(ztunnel))
  await delay(1000, undefined, { signal: interrupted })
  return residentMb(ztunnel.pid ?? 0)
}

const own = '10.98.0.1'

function addressOf(index: number): string {
  return `10.${100 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`
}

function fromFile(folder: string, workloads: number): Record<string, string> {
  const file = path.join(folder, `mesh-${workloads}.yaml`)
  const others = Array.from({ length: workloads }, (_, index) =>
    workloadLine(`other-${index}`, addressOf(index))
  )
  writeFileSync(file, ['workloads:', workloadLine('client', own), ...others].join('\n'))
  return { LOCAL_XDS_PATH: file }
}

async function fromControlPlane(
  t: { teardown(undo: () => unknown): void },
  { name, fd }: { readonly name: string; readonly fd: number },
  workloads: number
): Promise<Record<string, string>> {
  const node = { name: 'a', netns: name, netnsFd: fd, v4: ip(own), v6: ip('fd98::1') } as const
  const plane = await startControlPlane(t, [node], {
    addresses: Object.fromEntries([
      message('client', own),
      ...Array.from({ length: workloads }, (_, index) => message(`other-${index}`, addressOf(index)))
    ])
  })
  return { ...plane.xdsEnv, ...plane.caEnv }
}

function message(name: string, address: string): readonly [string, object] {
  const uid = `c//Pod/bench/${name}`
  const workload = {
    uid,
    name,
    namespace: 'bench',
    serviceAccount: name,
    trustDomain: 'cluster.local',
    addresses: [ipToBytes(ip(address))],
    tunnelProtocol: 1,
    node: name,
    clusterId: 'Kubernetes'
  }
  return [uid, { workload }]
}
