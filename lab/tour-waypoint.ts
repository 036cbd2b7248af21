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
  const tokens = await onlyTesters(report, tools, signal)
  report.row({
    what: 'with the waypoint',
    from: 'client',
    to: 'catalogue',
    wire: 'HBONE, TLS 1.3',
    result: others.v1 > 0 && others.v2 > 0 && tokens ? 'by weight, header, token' : 'not as written'
  })
}

/** A policy of layer 7: what it asks for is in the request, not in the connection. */
async function onlyTesters(report: TourReport, tools: TourTools, signal: AbortSignal): Promise<boolean> {
  report.command('kubectl apply -f testers.yaml')
  const file = path.join(tools.context.projectRoot, 'lab', 'demo', 'testers.yaml')
  await applyManifests(tools.lab.client, readManifests(file), { namespace, signal })
  const status = async (authorization: string, from = report): Promise<number> => {
    const headers = { 'x-version': 'v2', ...(authorization === '' ? {} : { authorization }) }
    return (await ask(from, tools, headers, 1)).status
  }
  const deadline = Date.now() + deadlineMs
  let without = await status('')
  while (without !== 403 && Date.now() < deadline && (await wait(100, signal))) {
    without = (await ask(undefined, tools, { 'x-version': 'v2' }, 1)).status
  }
  const forged = await status(`Bearer ${testersToken.slice(0, -4)}AAAA`)
  const good = await status(`Bearer ${testersToken}`)
  report.check('version 2 without a token: 403', without === 403, String(without))
  report.check('with a token that somebody changed: 401', forged === 401, String(forged))
  report.check('with the token of a tester: 200', good === 200, String(good))
  return without === 403 && forged === 401 && good === 200
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
  for (;;) {
    const { v2 } = await ask(undefined, tools, { 'x-version': 'v2' }, 1)
    if (v2 === 1 || !(await wait(100, signal))) return
  }
}

interface Answers {
  readonly v1: number
  readonly v2: number
  /** Of the last one. */
  readonly status: number
}

async function versions(
  report: TourReport,
  tools: TourTools,
  headers: Readonly<Record<string, string>>
): Promise<Answers> {
  return ask(report, tools, headers, count)
}

async function ask(
  report: TourReport | undefined,
  tools: TourTools,
  headers: Readonly<Record<string, string>>,
  times: number
): Promise<Answers> {
  const words = Object.entries(headers).map(([name, value]) => ` -H '${name}: ${shortened(value)}'`)
  report?.command(`underpass lab exec -n ${namespace} client -- curl -s${words.join('')} http://catalogue/`)
  const answer = await tools.exec(
    'client',
    [tools.context.nodePath, '-e', script, String(times), JSON.stringify(headers)],
    namespace
  )
  try {
    return { v1: 0, v2: 0, status: 0, ...(JSON.parse(answer.stdout) as Partial<Answers>) }
  } catch {
    // Nothing was answered: the check that follows says so.
    return { v1: 0, v2: 0, status: 0 }
  }
}

function shortened(value: string): string {
  return value.length > 30 ? `${value.slice(0, 15)}…${value.slice(-8)}` : value
}

/** So many requests one after the other: how many each version answered, and the last status. */
const script = `(async () => {
  const [count, headers] = process.argv.slice(1).map(text => JSON.parse(text))
  const answered = {}
  for (let at = 0; at < count; at += 1) {
    const answer = await fetch('http://catalogue/', { headers, signal: AbortSignal.timeout(5000) })
    const text = await answer.text()
    answered.status = answer.status
    if (answer.status !== 200) continue
    const { container } = JSON.parse(text)
    answered[container] = (answered[container] ?? 0) + 1
  }
  console.log(JSON.stringify(answered))
})().catch(error => { console.error(error.cause?.message ?? error.message); process.exitCode = 56 })`

/** Of the key in testers.yaml; it never ends, and is good for nothing else. */
const testersToken =
  'eyJhbGciOiJFUzI1NiIsImtpZCI6ImRlbW8ifQ.eyJpc3MiOiJodHRwczovL2xvZ2luLnN0b3JlLmV4YW1wbGUiLCJzdWIiOiJhb' +
  'm4iLCJncm91cHMiOlsidGVzdGVycyJdfQ.Y8W1LF3gBN5g73GTW5KrMdEaWsKJQzr1laDxDJpv4N1cVRRCmNy5NkG1d1xrI8BJQRmnjW_zGRmzh6PjPJUd0w'
