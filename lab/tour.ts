/**
 * The tour that `npm run demo` gives: a small shop, first in the clear, then in the mesh, then with a policy.
 * Each chapter checks what it claims, on captured packets and in the access logs; the exit status tells.
 */
import { existsSync, readdirSync, readlinkSync } from 'node:fs'
import path from 'node:path'
import { namespaces } from '../shared/kube/core-api.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import type { SteadyResult } from './demo/steady-client.ts'
import { labPods } from './kinds.ts'
import { applyManifests, readManifests } from './manifests.ts'
import { meshManifests, meshReady } from './programs.ts'
import { TourReport } from './tour-report.ts'
import { chooseVersions } from './tour-waypoint.ts'
import { finished, TourTools, type CommandResult } from './tour-tools.ts'
import { startLab, type LabContext, type RunningLab } from './up.ts'
import { wait } from './wait.ts'
import type { WirePacket } from './wire.ts'
import { workloadsReady } from './workloads-ready.ts'

const nodes = 2
const secret = 'card=4711-0815'
const url = `http://cart/orders?${secret}`
/** The link that joins node1 to the others: web's requests to cart pass it. */
const link = 'node1'
const meshDeadlineMs = 60_000
const enrolDeadlineMs = 20_000

/** Resolves to the exit status. */
export async function tour(context: LabContext, signal: AbortSignal): Promise<number> {
  const report = new TourReport(context.print)
  context.print('Underpass, a tour: a shop of three workloads on a cluster of network namespaces')
  let lab: RunningLab
  try {
    lab = await startLab({ nodes, runCommands: 'allow-list', internet: false }, context, signal)
  } catch (error) {
    if (signal.aborted) return 130
    throw error
  }
  const tools = new TourTools(context, lab)
  const walls = wallsOf(lab.isolated.pid())
  try {
    await openTheShop(report, tools, signal)
    await inTheClear(report, tools)
    await enterTheMesh(report, tools, signal)
    await whoTalks(report, tools)
    await refuse(report, tools, signal)
    await chooseVersions(report, tools, signal)
    report.table()
  } catch (error) {
    if (signal.aborted) return 130
    report.check('the tour reached its end', false, messageOf(error))
  } finally {
    tools.close()
    await lab.stop()
  }
  const left = await remains(context.stateFolder, walls)
  context.print('')
  report.check(
    'all of it is gone: no process, no namespace, no file is left',
    left.length === 0,
    left.join('\n')
  )
  report.end()
  return report.failed === 0 ? 0 : 1
}

async function openTheShop(
  report: TourReport,
  { context, lab }: TourTools,
  signal: AbortSignal
): Promise<void> {
  const started = Date.now()
  report.chapter('A cluster, the mesh, and a shop that knows nothing of it')
  const apply = { namespace: 'default', signal }
  await applyManifests(lab.client, meshManifests(context.projectRoot), apply)
  const shop = readManifests(path.join(context.projectRoot, 'lab', 'demo', 'shop.yaml'))
  report.command('underpass lab up -f shop.yaml')
  await applyManifests(lab.client, shop, apply)
  const limit = AbortSignal.any([signal, AbortSignal.timeout(meshDeadlineMs)])
  await meshReady(lab.client, nodes, limit)
  const late = await workloadsReady(
    lab.client,
    shop.map(({ object }) => object),
    limit
  )
  report.check('control plane, node agents and ztunnels are ready on two nodes', true)
  report.check(
    `the shop is open: web and a visitor on node1, cart on node2 (${((Date.now() - started) / 1000).toFixed(1)} s)`,
    late.length === 0,
    late.join('\n')
  )
  if (late.length > 0) throw new Error('the shop does not open')
}

async function inTheClear(report: TourReport, tools: TourTools): Promise<void> {
  report.chapter('Without the mesh: anybody on the wire can read along')
  const wire = await tools.listen(link)
  const answer = await request(report, tools, 'web')
  await wire.close(carriesSecret)
  const packets = wire.between(await tools.podIp('web'), await tools.podIp('cart'))
  const readable = packets.filter(carriesSecret)
  show(report, packets, 'seen between the nodes:')
  report.check('cart answers web', answer.code === 0 && servedBy(answer) === 'cart', answer.stderr)
  report.check(
    'the card number is readable on the wire',
    readable.length > 0,
    `${packets.length} packets seen`
  )
  report.row({
    what: 'in the clear',
    from: 'web',
    to: 'cart',
    wire: readable.length > 0 ? 'HTTP, readable' : 'not readable',
    result: `HTTP ${statusOf(answer)}`
  })
}

async function enterTheMesh(report: TourReport, tools: TourTools, signal: AbortSignal): Promise<void> {
  report.chapter('One label: the same traffic in mutual TLS, without a restart')
  const before = await identities(tools)
  const steady = await tools.start('web', tools.program('lab/demo', 'steady-client', 'http://cart/'))
  const result = finished(steady)
  await wait(300, signal)
  report.command('kubectl label namespace shop istio.io/dataplane-mode=ambient')
  const labels = { 'istio.io/dataplane-mode': 'ambient' }
  await tools.lab.client.patch(namespaces, { name: 'shop' }, { metadata: { labels } }, { kind: 'merge' })
  const enrolledMs = await untilEnrolled(tools, signal)
  const { answer, packets, handshakes } = await untilTunnelled(report, tools, signal)
  steady.stdin?.end()
  const { requests, failures, connections } = JSON.parse((await result).stdout) as SteadyResult
  show(report, packets, 'seen between the nodes now:')
  const tunnelled = packets.filter(isHbone)
  report.check('cart answers web as before', answer.code === 0 && servedBy(answer) === 'cart', answer.stderr)
  report.check(
    `all of it travels as TLS 1.3 to port 15008 (${tunnelled.length} packets), and the card number is nowhere`,
    handshakes.some(choosesTls13) && tunnelled.length === packets.length && !packets.some(carriesSecret),
    packets
      .filter(packet => !isHbone(packet))
      .map(describe)
      .join('\n')
  )
  report.check(
    `the pods are the same ones, enrolled ${(enrolledMs / 1000).toFixed(1)} s after the label`,
    (await identities(tools)) === before
  )
  report.check(
    `a connection that was open all the time stays open: ${requests} requests, ${failures} failed`,
    requests > 0 && failures === 0 && connections === 1,
    `${connections} connections, ${failures} failures`
  )
  report.row({
    what: 'in the mesh',
    from: 'web',
    to: 'cart',
    wire: packets.every(isHbone) ? 'HBONE, TLS 1.3' : 'not all HBONE',
    result: `HTTP ${statusOf(answer)}`
  })
}

async function whoTalks(report: TourReport, tools: TourTools): Promise<void> {
  report.chapter('Both sides know who the other is')
  const answer = await request(report, tools, 'web')
  const line = await accessLine(
    tools,
    'node2',
    entry => entry.includes('inbound') && entry.includes('/sa/web')
  )
  report.say(
    "node2's ztunnel logged:",
    ...fieldsOf(line, ['src.identity', 'dst.workload', 'dst.identity', 'bytes_sent'])
  )
  report.check('the request went through', answer.code === 0, answer.stderr)
  report.check(
    'cart was called by spiffe://cluster.local/ns/shop/sa/web, proven by its certificate',
    line.includes('spiffe://cluster.local/ns/shop/sa/web'),
    line
  )
  const out = await accessLine(
    tools,
    'node1',
    entry => entry.includes('outbound') && entry.includes('/sa/cart')
  )
  report.check(
    'web reached spiffe://cluster.local/ns/shop/sa/cart, and nobody in between',
    out.includes('spiffe://cluster.local/ns/shop/sa/cart'),
    out
  )
}

async function refuse(report: TourReport, tools: TourTools, signal: AbortSignal): Promise<void> {
  report.chapter('A policy: only web may talk to cart')
  const early = await request(report, tools, 'visitor')
  report.check('before it the visitor is served', early.code === 0, early.stderr)
  report.command('kubectl apply -f cart-policy.yaml')
  const policy = readManifests(path.join(tools.context.projectRoot, 'lab', 'demo', 'cart-policy.yaml'))
  await applyManifests(tools.lab.client, policy, { namespace: 'shop', signal })
  const refused = await untilRefused(report, tools, signal)
  const allowed = await request(report, tools, 'web')
  const line = await accessLine(
    tools,
    'node2',
    entry => entry.includes('/sa/visitor') && entry.includes('polic')
  )
  report.say("node2's ztunnel logged:", ...fieldsOf(line, ['src.identity', 'dst.workload', 'error']))
  const explain = ['explain', '--from', 'shop/visitor', '--to', 'cart.shop:80']
  report.command(`underpass ${explain.join(' ')}`)
  const explained = await tools.cli(...explain)
  report.say(
    ...explained.stdout
      .split('\n')
      .filter(text => /REFUSED|cart-for-web-only|result/.test(text))
      .map(text => `  ${text.trim()}`)
  )
  report.check('the visitor is refused', refused.code !== 0, refused.stdout)
  report.check('web is served', allowed.code === 0, allowed.stderr)
  report.check(
    'the log says who was refused, and that a policy did it',
    /polic/.test(line) && line.includes('/sa/visitor'),
    line
  )
  report.check(
    'explain names the policy that refused',
    explained.stdout.includes('REFUSED') && explained.stdout.includes('cart-for-web-only'),
    `${explained.stdout}${explained.stderr}`
  )
  const wire = 'HBONE, TLS 1.3'
  report.row({ what: 'with the policy', from: 'web', to: 'cart', wire, result: `HTTP ${statusOf(allowed)}` })
  const result = refused.code === 0 ? 'HTTP 200' : line === '' ? 'failed' : 'refused by policy'
  report.row({ what: 'with the policy', from: 'visitor', to: 'cart', wire, result })
}

/** The network and process namespaces of a process, as the kernel names them. */
function wallsOf(pid: number | undefined): readonly string[] {
  return ['net', 'pid'].map(kind => namespaceOf(String(pid), kind)).filter(name => name !== '')
}

/** What is still there of a lab that has ended: processes within its walls, and its folder. */
async function remains(folder: string, walls: readonly string[]): Promise<string[]> {
  for (let tries = 0; ; tries += 1) {
    const processes = readdirSync('/proc')
      .filter(name => /^\d+$/.test(name))
      .filter(pid => ['net', 'pid'].some(kind => walls.includes(namespaceOf(pid, kind))))
    const left = [...processes.map(pid => `process ${pid}`), ...(existsSync(folder) ? [folder] : [])]
    if (walls.length === 0) return ['it was not seen running']
    // The kernel finishes a moment after the last process has ended.
    if (left.length === 0 || tries === 50) return left
    await wait(20)
  }
}

function namespaceOf(pid: string, kind: string): string {
  try {
    return readlinkSync(`/proc/${pid}/ns/${kind}`)
  } catch {
    // It has ended, or belongs to somebody else.
    return ''
  }
}

/** One request, by curl where the machine has it. */
async function request(
  report: TourReport | undefined,
  tools: TourTools,
  from: 'web' | 'visitor'
): Promise<CommandResult> {
  report?.command(`underpass lab exec -n shop deploy/${from} -- curl -s '${url}'`)
  const curl = await tools.exec(from, ['curl', '-sS', '--max-time', '5', url])
  return curl.code === 127 ? tools.exec(from, [tools.context.nodePath, '-e', fetchScript, url]) : curl
}

const fetchScript = `fetch(process.argv[1], { signal: AbortSignal.timeout(5000) }).then(r => r.text()).then(t => console.log(t),
  e => { console.error(e.cause?.message ?? e.message); process.exitCode = 56 })`

/** Resolves to how long it took until every pod of the shop is enrolled, in milliseconds. */
async function untilEnrolled(tools: TourTools, signal: AbortSignal): Promise<number> {
  const started = Date.now()
  for (;;) {
    const { items } = await tools.lab.client.list(labPods, { namespace: 'shop' })
    const late = items.filter(
      ({ metadata }) => metadata.annotations?.['ambient.istio.io/redirection'] !== 'enabled'
    )
    if (late.length === 0) return Date.now() - started
    if (Date.now() - started > enrolDeadlineMs || !(await wait(50, signal))) {
      throw new Error(`not enrolled in time: ${late.map(({ metadata }) => metadata.name).join(', ')}`)
    }
  }
}

/** The control plane tells everybody of the enrolment a moment later: new connections go by tunnel from then on. */
async function untilTunnelled(
  report: TourReport,
  tools: TourTools,
  signal: AbortSignal
): Promise<{
  answer: CommandResult
  packets: readonly WirePacket[]
  /** All that went by tunnel, also for requests before: later ones use the session that is there. */
  handshakes: readonly WirePacket[]
}> {
  const handshakes: WirePacket[] = []
  const deadline = Date.now() + enrolDeadlineMs
  for (let first = true; ; first = false) {
    const wire = await tools.listen(link)
    const answer = await request(first ? report : undefined, tools, 'web')
    await wire.close(packet => isHbone(packet) || carriesSecret(packet))
    // The steady client's old connection stays as it was: its packets carry no card number.
    const packets = wire
      .between(await tools.podIp('web'), await tools.podIp('cart'))
      .filter(packet => isHbone(packet) || carriesSecret(packet))
    handshakes.push(...packets.filter(isHbone))
    if ((packets.length > 0 && packets.every(isHbone)) || Date.now() > deadline) {
      // On a busy machine the session may have begun before anybody listened: another caller's begins now.
      if (!handshakes.some(choosesTls13)) handshakes.push(...(await packetsOfNewSession(tools)))
      return { answer, packets, handshakes }
    }
    await wait(100, signal)
  }
}

async function packetsOfNewSession(tools: TourTools): Promise<readonly WirePacket[]> {
  const wire = await tools.listen(link)
  await request(undefined, tools, 'visitor')
  await wire.close(choosesTls13)
  return wire.between(await tools.podIp('visitor'), await tools.podIp('cart')).filter(isHbone)
}

async function untilRefused(
  report: TourReport,
  tools: TourTools,
  signal: AbortSignal
): Promise<CommandResult> {
  const deadline = Date.now() + enrolDeadlineMs
  for (let first = true; ; first = false) {
    const answer = await request(first ? report : undefined, tools, 'visitor')
    if (answer.code !== 0 || Date.now() > deadline || !(await wait(100, signal))) return answer
  }
}

/** The newest line of a ztunnel's access log that fits; waits for it a little, as logs are written behind. */
async function accessLine(tools: TourTools, node: string, fits: (line: string) => boolean): Promise<string> {
  for (let tries = 0; tries < 30; tries += 1) {
    const found = (await tools.meshLog('ztunnel', node)).split('\n').findLast(fits)
    if (found !== undefined) return found
    await wait(100)
  }
  return ''
}

function fieldsOf(line: string, names: readonly string[]): string[] {
  return names.flatMap(name => {
    const [, value] = new RegExp(`${name.replace('.', String.raw`\.`)}=("[^"]*"|\\S+)`).exec(line) ?? []
    return value === undefined ? [] : [`  ${name}=${value}`]
  })
}

async function identities(tools: TourTools): Promise<string> {
  const { items } = await tools.lab.client.list(labPods, { namespace: 'shop' })
  return items
    .map(({ metadata, status }) => `${metadata.uid} ${status?.containerStatuses?.[0]?.restartCount}`)
    .toSorted()
    .join('\n')
}

function show(report: TourReport, packets: readonly WirePacket[], title: string): void {
  report.say(title, ...packets.slice(0, 3).map(packet => `  ${describe(packet)}`))
}

function describe({ from, to, payload }: WirePacket): string {
  const bytes = Buffer.from(payload, 'base64')
  const text = bytes.toString('latin1').split('\r\n')[0] ?? ''
  const readable = /^[\x20-\x7e]{4,}$/.test(text)
  return `${from} > ${to}  ${readable ? text.slice(0, 60) : `${bytes.subarray(0, 16).toString('hex')}…`}`
}

/** To or from the port of HBONE. */
function isHbone({ from, to }: WirePacket): boolean {
  return from.endsWith(':15008') || to.endsWith(':15008')
}

/** A ServerHello (record type 22, message type 2) whose extension supported_versions says 3.4 (RFC 8446, 4.2.1). */
function choosesTls13({ payload }: WirePacket): boolean {
  return /^160303.{4}02.*002b00020304/.test(Buffer.from(payload, 'base64').toString('hex'))
}

function carriesSecret({ payload }: WirePacket): boolean {
  return Buffer.from(payload, 'base64').includes(secret)
}

function servedBy({ stdout }: CommandResult): string {
  try {
    return (JSON.parse(stdout) as { container: string }).container
  } catch {
    // Whoever answered was not the shop.
    return ''
  }
}

function statusOf({ code }: CommandResult): string {
  return code === 0 ? '200' : 'none'
}
