/** The command line against a whole mesh: real agents behind a real port-forward, real traffic, a real policy. */
import t from 'tap'
import { execFile, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { requirements } from '../../lab/check.ts'
import type { ConnectionEvent } from '../../shared/telemetry/connection-events.ts'
import { cells, run, type Ran } from '../cli/run-cli.ts'
import { eventually } from '../support/eventually.ts'

t.setTimeout(400_000)
const execute = promisify(execFile)
const launcher = path.resolve(import.meta.dirname, '../../cli/bin/underpass')
const istioctl = path.join(process.env['UNDERPASS_PEERS'] ?? '/nowhere', 'istioctl')

const account = (name: string): string => `
apiVersion: v1
kind: ServiceAccount
metadata: {name: ${name}, namespace: shop}
---`
const deployment = (name: string, replicas: number): string => `
apiVersion: apps/v1
kind: Deployment
metadata: {name: ${name}, namespace: shop}
spec:
  replicas: ${replicas}
  selector: {matchLabels: {app: ${name}}}
  template:
    metadata: {labels: {app: ${name}}}
    spec:
      serviceAccountName: ${name}
      containers: [{name: ${name}, image: example.com/${name}:1, ports: [{containerPort: 8080}]}]
---`
const shop = `
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}
---${account('web')}${account('cart')}${deployment('web', 1)}${deployment('cart', 2)}
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{name: http, port: 80, targetPort: 8080}]}
`
const denyWeb = `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-web, namespace: shop}
spec:
  selector: {matchLabels: {app: cart}}
  action: DENY
  rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/web]}}]}]
`

const missing = (await requirements({ isRoot: process.getuid?.() === 0, environment: process.env })).find(
  ({ ok }) => !ok
)
const skip = missing === undefined ? false : `${missing.name}: ${missing.detail}`

t.test('every command against a mesh that runs', { skip }, async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-cli-'))
  const env = {
    ...process.env,
    UNDERPASS_LAB_DIR: path.join(folder, 'lab'),
    UNDERPASS_LAB_KUBECTL: 'builtin'
  }
  const lab = async (...words: string[]): Promise<string> =>
    (await execute(launcher, ['lab', ...words], { env, timeout: 180_000 })).stdout
  t.teardown(async () => {
    await lab('down').catch(() => undefined) // it may not have come up
    rmSync(folder, { recursive: true, force: true })
  })
  writeFileSync(path.join(folder, 'shop.yaml'), shop)
  await lab('up', '--detach', '-f', path.join(folder, 'shop.yaml'))
  const kubeconfig = path.join(folder, 'lab', 'kubeconfig')
  const underpass = async (...words: string[]): Promise<Ran> =>
    run(words, { env: { KUBECONFIG: kubeconfig }, now: Date.now })
  const call = async (): Promise<string> =>
    lab(
      'exec',
      '-n',
      'shop',
      'deploy/web',
      '--',
      'curl',
      '-s',
      '-o',
      '/dev/null',
      '-m',
      '5',
      '-w',
      '%{http_code}',
      'http://cart/'
    ).catch((error: { stdout?: string }) => error.stdout ?? 'failed')
  const apply = async (manifest: string): Promise<void> => {
    const file = path.join(folder, 'policy.yaml')
    writeFileSync(file, manifest)
    await lab('kubectl', 'apply', '-f', file)
  }

  await eventually('all pods are in the mesh', async () => {
    const { out } = await underpass('pods', '-n', 'shop', '-o', 'json')
    const { items } = JSON.parse(out) as {
      items: { enrolment: { state: string }; rules: string; proxy: string }[]
    }
    return (
      items.length === 3 &&
      items.every(pod => pod.enrolment.state === 'enabled' && pod.rules === 'ok' && pod.proxy === 'ok')
    )
  })

  await t.test('status finds no problem', async t => {
    await eventually('no problems', async () =>
      (await underpass('status')).out.includes('No problems found.')
    )
    const { code, out, err } = await underpass('status')
    t.equal(code, 0)
    t.equal(err, '')
    for (const line of [
      /control plane +1\/1 ready/,
      /node agent +2\/2 ready/,
      /ztunnel +2\/2 ready/,
      /pods +3 enabled/
    ])
      t.match(out, line)
  })

  await t.test('config shows what both agents hold alike', async t => {
    const { code, out, err } = await underpass('config', 'workloads', '-n', 'shop', '-o', 'wide')
    t.equal(code, 0)
    t.equal(err, '')
    const rows = cells(out).slice(1)
    t.equal(rows.length, 3)
    for (const row of rows) t.match([row[5], row.at(-1)], ['HBONE', '2/2'])
    t.match(cells((await underpass('config', 'services', '-n', 'shop')).out)[1], [
      'shop',
      'cart',
      /^10\./,
      'None',
      '2/2'
    ])
    t.match((await underpass('config', 'certificates')).out, /ns\/shop\/sa\/web +Leaf +Available +true/)
    t.equal((await underpass('config', 'connections')).code, 0)
    t.match(await underpass('config', 'diff'), {
      code: 0,
      err: '2 agents hold the same, and all that is desired\n'
    })
  })

  await t.test('proxy-status, log, version and node rules get their answers', async t => {
    const status = cells((await underpass('proxy-status')).out).slice(1)
    t.equal(status.length, 4, 'two agents, two types')
    for (const row of status) t.equal(row[3], 'SYNCED', row.join(' '))
    t.match((await underpass('log', '--level', 'debug')).out, /debug/)
    t.match((await underpass('log', '--reset')).out, /info/)
    t.match((await underpass('version')).out, /ztunnel +node2/)
    const { out } = await underpass('pods', '-n', 'shop', '-o', 'json')
    const [pod] = (JSON.parse(out) as { items: { name: string; node: string }[] }).items
    t.match(await underpass('node', pod?.node ?? '', 'rules', '--pod', pod?.name ?? '', '-n', 'shop'), {
      code: 0,
      out: /tproxy.*The rules are as they should be\./s
    })
  })

  await t.test('explain says allowed, and the call goes through; tap sees it with identities', async t => {
    const explained = await underpass(
      'explain',
      '--from',
      'deploy/web',
      '--to',
      'svc/cart:80',
      '-n',
      'shop',
      '--expect',
      'allowed'
    )
    t.equal(explained.code, 0)
    t.equal(explained.err, '')
    t.match(explained.out, /HBONE to .*result: allowed\nagents: node\d.* hold.* the same\n$/s)
    const events = await tapDuring('closed', async () => t.equal(await call(), '200'))
    t.match(events[0], {
      kind: 'closed',
      mutualTls: true,
      source: { namespace: 'shop', identity: 'spiffe://cluster.local/ns/shop/sa/web' },
      destination: { identity: 'spiffe://cluster.local/ns/shop/sa/cart' }
    })
    t.ok((events[0]?.bytesToClient ?? 0) > 0)
  })

  await t.test('with a policy explain says refused and by what, and so it happens', async t => {
    await apply(denyWeb)
    const words = [
      'explain',
      '--from',
      'deploy/web',
      '--to',
      'svc/cart:80',
      '-n',
      'shop',
      '--expect',
      'refused'
    ]
    await eventually('desired state and agents refuse', async () => (await underpass(...words)).code === 0)
    t.match(
      (await underpass(...words)).out,
      /DENY +shop\/no-web: rule 1 matches: principals .*REFUSED: explicitly denied by: shop\/no-web/s
    )
    const events = await tapDuring('refused', async () => t.not(await call(), '200'))
    t.match(events[0]?.error, /shop\/no-web/)
    t.match((await underpass('config', 'policies')).out, /shop +no-web +Deny +WorkloadSelector/)
  })

  await t.test(
    'istioctl works against these agents',
    { skip: existsSync(istioctl) ? false : 'needs istioctl in UNDERPASS_PEERS' },
    async t => {
      const theirs = async (...words: string[]): Promise<string> =>
        (
          await execute(istioctl, ['--kubeconfig', kubeconfig, 'ztunnel-config', ...words], {
            timeout: 60_000
          })
        ).stdout
      for (const [words, ours] of [
        [
          ['workload', '--node', 'node1'],
          ['config', 'workloads', '--node', 'node1']
        ],
        [
          ['service', '--node', 'node1'],
          ['config', 'services', '--node', 'node1']
        ],
        [
          ['policy', '--node', 'node1'],
          ['config', 'policies', '--node', 'node1']
        ],
        [
          ['certificate', '--node', 'node1'],
          ['config', 'certificates', '--node', 'node1']
        ]
      ] as const) {
        t.strictSame(cells(await theirs(...words)), cells((await underpass(...ours)).out), words.join(' '))
      }
      t.match(await theirs('log', '--level', 'info'), /current log level is .*info/)
    }
  )

  /** Events of one kind, seen at the server's side while something happens. */
  async function tapDuring(
    kind: ConnectionEvent['kind'],
    happen: () => Promise<unknown>
  ): Promise<ConnectionEvent[]> {
    const tap = spawn(
      launcher,
      [
        'tap',
        '-n',
        'shop',
        '--kind',
        kind,
        '--direction',
        'inbound',
        '-o',
        'jsonl',
        '--for',
        '60s',
        '--count',
        '1'
      ],
      {
        env: { ...env, KUBECONFIG: kubeconfig },
        stdio: ['ignore', 'pipe', 'inherit']
      }
    )
    let text = ''
    tap.stdout.setEncoding('utf8').on('data', (piece: string) => (text += piece))
    const ended = new Promise<void>(resolve => tap.once('close', () => resolve()))
    t.teardown(() => tap.kill())
    await eventually(`an event ${kind}`, async () => {
      if (text === '') await happen() // until the taps are open
      return text.includes('\n')
    })
    await ended
    return text
      .trim()
      .split('\n')
      .map(line => (JSON.parse(line) as { event: ConnectionEvent }).event)
  }
})
