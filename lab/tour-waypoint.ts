/** The chapter of the tour about layer 7: a waypoint that chooses between two versions, by header and by weight. */
import path from 'node:path'
import { gateways } from '../shared/kube/gateway-api.ts'
import { applyManifests, readManifests } from './manifests.ts'
import type { TourReport } from './tour-report.ts'
import type { TourTools } from './tour-tools.ts'
import { wait } from './wait.ts'
import { workloadsReady } from './workloads-ready.ts'

const namespace = 'store'
const deadlineMs = 60_000
const count = 60

export async function chooseVersions(
  report: TourReport,
  tools: TourTools,
  signal: AbortSignal
): Promise<void> {
  report.chapter('A waypoint: layer 7 for one namespace, because it asked for it')
  const { context, lab } = tools
  const objects = readManifests(path.join(context.projectRoot, 'lab', 'demo', 'canary.yaml'))
  report.command('kubectl apply -f canary.yaml')
  await applyManifests(lab.client, objects, { namespace, signal })
  const limit = AbortSignal.any([signal, AbortSignal.timeout(deadlineMs)])
  const late = await workloadsReady(
    lab.client,
    objects.map(({ object }) => object),
    limit
  )
  const programmed = await untilProgrammed(tools, limit)
  report.check(
    'the Gateway is programmed: its waypoint runs, and the namespace uses it',
    late.length === 0 && programmed,
    late.join('\n')
  )
  await untilRouted(tools, limit)
  const asked = await versions(report, tools, { 'x-version': 'v2' })
  report.check(
    `who asks for version 2 gets it: ${asked.v2} of ${count} requests`,
    asked.v2 === count,
    JSON.stringify(asked)
  )
  const others = await versions(report, tools, {})
  report.check(
    `of all others a quarter gets it, request by request on one connection: ${others.v1} to ${others.v2}`,
    others.v1 + others.v2 === count && others.v2 > 2 && others.v2 < count / 2,
    JSON.stringify(others)
  )
  report.row({
    what: 'with the waypoint',
    from: 'client',
    to: 'catalogue',
    wire: 'HBONE, TLS 1.3',
    result: others.v1 > 0 && others.v2 > 0 ? 'v1 and v2, by weight' : 'one version only'
  })
}

async function untilProgrammed({ lab }: TourTools, signal: AbortSignal): Promise<boolean> {
  for (;;) {
    const { status } = await lab.client.get(gateways, { namespace, name: 'waypoint' })
    const programmed = status?.conditions?.find(({ type }) => type === 'Programmed')
    if (programmed?.status === 'True') return true
    if (!(await wait(100, signal))) return false
  }
}

/** The node's ztunnel hears of the waypoint a moment later; until then requests go as they went. */
async function untilRouted(tools: TourTools, signal: AbortSignal): Promise<void> {
  const { context } = tools
  for (;;) {
    const answer = await tools.exec(
      'client',
      [context.nodePath, '-e', script, '1', '{"x-version":"v2"}'],
      namespace
    )
    if (answer.stdout.includes('"v2":1') || !(await wait(100, signal))) return
  }
}

interface Versions {
  readonly v1: number
  readonly v2: number
}

async function versions(
  report: TourReport,
  tools: TourTools,
  headers: Readonly<Record<string, string>>
): Promise<Versions> {
  const words = Object.entries(headers).map(([name, value]) => ` -H '${name}: ${value}'`)
  report.command(`underpass lab exec -n ${namespace} client -- curl -s${words.join('')} http://catalogue/`)
  const answer = await tools.exec(
    'client',
    [tools.context.nodePath, '-e', script, String(count), JSON.stringify(headers)],
    namespace
  )
  try {
    return { v1: 0, v2: 0, ...(JSON.parse(answer.stdout) as Partial<Versions>) }
  } catch {
    // Nothing was answered: the check that follows says so.
    return { v1: 0, v2: 0 }
  }
}

/** So many requests one after the other, and how many each version answered. */
const script = `(async () => {
  const [count, headers] = process.argv.slice(1).map(text => JSON.parse(text))
  const answered = {}
  for (let at = 0; at < count; at += 1) {
    const { container } = await (await fetch('http://catalogue/', { headers, signal: AbortSignal.timeout(5000) })).json()
    answered[container] = (answered[container] ?? 0) + 1
  }
  console.log(JSON.stringify(answered))
})().catch(error => { console.error(error.cause?.message ?? error.message); process.exitCode = 56 })`
