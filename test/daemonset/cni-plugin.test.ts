/** The CNI plug-in as container runtimes start it: environment and standard input in, a result or an error out. */
import t, { type Test } from 'tap'
import { execFile, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { serveCni, type CniAdd } from '../../daemonset/cni-server.ts'
import { compileCniPlugin } from '../../scripts/image/cni-plugin.ts'
import { silent } from '../../shared/telemetry/logger.ts'

t.setTimeout(180_000)

const architecture = process.arch === 'arm64' ? 'arm64' : 'amd64'
const folder = mkdtempSync(path.join(tmpdir(), 'cni-plugin-'))
t.teardown(() => rmSync(folder, { recursive: true }))
const plugin = path.join(folder, 'released/istio-cni')
const passThrough = path.join(folder, 'released/istio-cni-pass-through')
const checkedPlugin = path.join(folder, 'checked/istio-cni')
await compileCniPlugin(architecture, path.dirname(plugin))
await compileCniPlugin(architecture, path.dirname(checkedPlugin), { check: true })

const podArgs = 'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1;K8S_POD_INFRA_CONTAINER_ID=abc'
const environment = { CNI_COMMAND: 'ADD', CNI_NETNS: '/var/run/netns/cni-1', CNI_ARGS: podArgs }
const prevResult = {
  cniVersion: '1.0.0',
  interfaces: [{ name: 'eth0', sandbox: '/var/run/netns/cni-1' }],
  ips: [
    { interface: 0, address: '10.244.1.7/24', gateway: '10.244.1.1' },
    { interface: 0, address: 'fd00::7/64' }
  ],
  dns: {}
}

/** `runDir` without an agent unless a test starts one there. */
function configuration(runDir: string, more: object = {}): object {
  return {
    cniVersion: '1.0.0',
    name: 'podnet',
    type: 'istio-cni',
    cni_agent_run_dir: runDir,
    exclude_namespaces: ['kube-system', 'quiet'],
    pod_namespace: 'istio-system',
    prevResult,
    ...more
  }
}

interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
}

async function run(
  program: string,
  env: Readonly<Record<string, string>>,
  input: string | Buffer
): Promise<Ended> {
  const child = spawn(program, { env, stdio: ['pipe', 'pipe', 'inherit'] })
  child.stdin.on('error', () => undefined) // it need not read all of it
  child.stdin.end(input)
  let stdout = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>(resolve =>
    child.once('close', (code, signal) => resolve([code, signal]))
  )
  return { code, signal, stdout }
}

function makeRunDir(t: Test): string {
  const runDir = mkdtempSync(path.join(folder, 'run-'))
  t.teardown(() => rmSync(runDir, { recursive: true, force: true }))
  return runDir
}

/** The agent's own server, with an answer of the test's. */
async function startAgent(t: Test, onAdd: (add: CniAdd) => Promise<void>): Promise<string> {
  const runDir = makeRunDir(t)
  const server = await serveCni({
    path: path.join(runDir, 'pluginevent.sock'),
    onAdd,
    onAnswer: () => undefined,
    log: silent
  })
  t.teardown(() => server.close())
  return runDir
}

t.test('the source has at most 300 lines', async t => {
  const source = readFileSync(
    path.resolve(import.meta.dirname, '../../daemonset/cni-plugin/istio-cni.c'),
    'utf8'
  )
  t.ok(source.split('\n').length <= 301)
})

t.test('ADD tells the agent of the pod and passes the result on, unchanged', async t => {
  const seen: CniAdd[] = []
  const runDir = await startAgent(t, async add => void seen.push(add))
  const { code, stdout } = await run(plugin, environment, JSON.stringify(configuration(runDir)))
  t.equal(code, 0)
  t.equal(stdout, `${JSON.stringify(prevResult)}\n`)
  t.strictSame(seen, [
    {
      netns: '/var/run/netns/cni-1',
      namespace: 'shop',
      name: 'web-1',
      addresses: ['10.244.1.7', 'fd00::7']
    }
  ])
})

t.test("ADD fails with the agent's words when it refuses", async t => {
  const runDir = await startAgent(t, async () => {
    throw new Error('no ztunnel is "connected"\n\tis its pod ready?')
  })
  const { code, stdout } = await run(plugin, environment, JSON.stringify(configuration(runDir)))
  t.equal(code, 1)
  t.match(JSON.parse(stdout), {
    cniVersion: '1.0.0',
    code: 11,
    msg: 'the node agent did not enrol the pod; it is tried again',
    details: /^shop\/web-1 cannot be enrolled: no ztunnel is "connected"/
  })
})

t.test('ADD fails closed without an agent, and says where it looked', async t => {
  const runDir = makeRunDir(t)
  const { code, stdout } = await run(plugin, environment, JSON.stringify(configuration(runDir)))
  t.equal(code, 1)
  t.match(JSON.parse(stdout), {
    code: 11,
    msg: /does not answer; is the DaemonSet istio-cni-node running on this node\?/,
    details: new RegExp(`${runDir}/pluginevent\\.sock: No such file`)
  })
})

t.test('ADD fails closed when the agent ends before it has answered', async t => {
  for (const words of ['', 'HTTP/1.1 2', 'HTTP/1.1 nonsense\r\n\r\n', 'no protocol at all', '\0\0\0']) {
    const runDir = makeRunDir(t)
    const server = net.createServer(socket => {
      socket.once('data', () => socket.end(words))
      socket.on('error', () => undefined)
    })
    await new Promise<void>(resolve => server.listen(path.join(runDir, 'pluginevent.sock'), resolve))
    const { code, stdout } = await run(plugin, environment, JSON.stringify(configuration(runDir)))
    await new Promise(resolve => server.close(resolve))
    t.equal(code, 1, JSON.stringify(words))
    t.match(JSON.parse(stdout), { code: 11 })
  }
})

t.test('every other status than 200 fails', async t => {
  for (const status of [201, 204, 302, 400, 404, 500, 503]) {
    const runDir = makeRunDir(t)
    const server = http.createServer((_request, response) => {
      response.writeHead(status)
      response.end()
    })
    await new Promise<void>(resolve => server.listen(path.join(runDir, 'pluginevent.sock'), resolve))
    const { code } = await run(plugin, environment, JSON.stringify(configuration(runDir)))
    await new Promise(resolve => server.close(resolve))
    t.equal(code, 1, String(status))
  }
})

/** All without an agent: what passes here passes while the agent is down. */
const situations: readonly {
  name: string
  env?: Readonly<Record<string, string | undefined>>
  config?: (runDir: string) => object | string
  expect: 'passes' | { readonly code: number; readonly msg: RegExp }
}[] = [
  {
    name: "the agent's own pod",
    env: { CNI_ARGS: 'K8S_POD_NAMESPACE=istio-system;K8S_POD_NAME=istio-cni-node-x7k2p' },
    expect: 'passes'
  },
  {
    name: 'a pod that only calls itself so',
    env: { CNI_ARGS: 'K8S_POD_NAMESPACE=shop;K8S_POD_NAME=istio-cni-node-x7k2p' },
    expect: { code: 11, msg: /does not answer/ }
  },
  {
    name: 'another pod of the system namespace',
    env: { CNI_ARGS: 'K8S_POD_NAMESPACE=istio-system;K8S_POD_NAME=istio-cni-nod' },
    expect: { code: 11, msg: /does not answer/ }
  },
  {
    name: 'a pod of an excluded namespace',
    env: { CNI_ARGS: 'K8S_POD_NAMESPACE=kube-system;K8S_POD_NAME=coredns-1' },
    expect: 'passes'
  },
  {
    name: 'a pod of the last excluded namespace',
    env: { CNI_ARGS: 'K8S_POD_NAME=a;K8S_POD_NAMESPACE=quiet' },
    expect: 'passes'
  },
  {
    name: 'a namespace whose name begins like an excluded one',
    env: { CNI_ARGS: 'K8S_POD_NAME=a;K8S_POD_NAMESPACE=kube-system-2' },
    expect: { code: 11, msg: /does not answer/ }
  },
  { name: 'a sandbox that is no pod of Kubernetes', env: { CNI_ARGS: 'IgnoreUnknown=1' }, expect: 'passes' },
  { name: 'no CNI_ARGS at all', env: { CNI_ARGS: undefined }, expect: 'passes' },
  {
    name: 'a pod without a name',
    env: { CNI_ARGS: 'K8S_POD_NAMESPACE=shop' },
    expect: { code: 4, msg: /names no pod/ }
  },
  {
    name: 'a name that could not be one',
    env: { CNI_ARGS: 'K8S_POD_NAMESPACE=shop;K8S_POD_NAME=a"b' },
    expect: { code: 4, msg: /names no pod/ }
  },
  {
    name: 'a namespace longer than any',
    env: { CNI_ARGS: `K8S_POD_NAME=a;K8S_POD_NAMESPACE=${'x'.repeat(300)}` },
    expect: { code: 4, msg: /names no pod/ }
  },
  { name: 'no CNI_NETNS', env: { CNI_NETNS: undefined }, expect: { code: 4, msg: /CNI_NETNS/ } },
  { name: 'a CNI_NETNS with a quote', env: { CNI_NETNS: '/a"b' }, expect: { code: 4, msg: /CNI_NETNS/ } },
  { name: 'no CNI_COMMAND', env: { CNI_COMMAND: undefined }, expect: { code: 4, msg: /CNI_COMMAND/ } },
  { name: 'no configuration', config: () => '', expect: { code: 7, msg: /no network configuration/ } },
  { name: 'half a configuration', config: () => '{"prevResult":{"ips"', expect: { code: 7, msg: /JSON/ } },
  { name: 'a list', config: () => '[]', expect: { code: 7, msg: /no network configuration/ } },
  {
    name: 'a configuration deeper than any',
    config: () => '['.repeat(100_000),
    expect: { code: 7, msg: /JSON/ }
  },
  {
    name: 'a configuration larger than any',
    config: runDir => configuration(runDir, { padding: 'x'.repeat(2 << 20) }),
    expect: { code: 7, msg: /JSON/ }
  },
  {
    name: 'nobody before us',
    config: runDir => configuration(runDir, { prevResult: undefined }),
    expect: { code: 7, msg: /must be chained/ }
  },
  {
    name: 'a run directory that no socket fits in',
    config: () => configuration(`/${'x'.repeat(110)}`),
    expect: { code: 7, msg: /cni_agent_run_dir/ }
  },
  {
    name: 'a run directory that is no text',
    config: runDir => configuration(runDir, { cni_agent_run_dir: 7 }),
    expect: { code: 7, msg: /cni_agent_run_dir/ }
  },
  {
    name: 'a list of namespaces that is none',
    config: runDir => configuration(runDir, { exclude_namespaces: 'kube-system' }),
    env: { CNI_ARGS: 'K8S_POD_NAME=a;K8S_POD_NAMESPACE=kube-system' },
    expect: { code: 11, msg: /does not answer/ }
  }
]

for (const { name, env = {}, config = configuration, expect } of situations) {
  t.test(`${name}: ${expect === 'passes' ? 'passes' : `refused with ${expect.code}`}`, async t => {
    const wanted = config(makeRunDir(t))
    const merged: Record<string, string | undefined> = { ...environment, ...env }
    const present = Object.entries(merged).flatMap(([key, value]) =>
      value === undefined ? [] : [[key, value]]
    )
    const input = typeof wanted === 'string' ? wanted : JSON.stringify(wanted)
    const { code, stdout } = await run(plugin, Object.fromEntries(present) as Record<string, string>, input)
    if (expect === 'passes') {
      t.equal(code, 0)
      t.equal(stdout, `${JSON.stringify(prevResult)}\n`)
    } else {
      t.equal(code, 1)
      t.match(JSON.parse(stdout), expect)
    }
  })
}

t.test('VERSION lists what it speaks; all other commands do nothing, whatever they are given', async t => {
  const { code, stdout } = await run(plugin, { CNI_COMMAND: 'VERSION' }, '')
  t.equal(code, 0)
  const { supportedVersions } = JSON.parse(stdout) as { supportedVersions: string[] }
  t.strictSame(supportedVersions, ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'])
  for (const command of ['DEL', 'CHECK', 'GC', 'STATUS']) {
    for (const input of ['', JSON.stringify(configuration('/nowhere'))]) {
      t.match(await run(plugin, { ...environment, CNI_COMMAND: command }, input), { code: 0, stdout: '' })
    }
  }
})

t.test('what an uninstall leaves behind passes everything on', async t => {
  const input = JSON.stringify(configuration('/nowhere'))
  t.match(await run(passThrough, environment, input), { code: 0, stdout: `${JSON.stringify(prevResult)}\n` })
  t.match(await run(passThrough, { ...environment, CNI_COMMAND: 'DEL' }, input), { code: 0, stdout: '' })
  t.match(await run(passThrough, environment, '{'), { code: 1 })
})

t.test('no input makes it crash, or answer anything but JSON', async t => {
  const runDir = makeRunDir(t)
  const seeds = [
    JSON.stringify(configuration(runDir)),
    JSON.stringify(
      configuration(runDir, { runtimeConfig: { a: [null, true, -1.5e9, 'é\\"', {}] } }),
      null,
      2
    ),
    '{"prevResult":{},"cniVersion":"1.1.0"}'
  ]
  const random = seededRandom(7)
  const pick = (limit: number): number => Math.floor(random() * limit)
  const deadline = Date.now() + 4000
  let problem: string | undefined
  let tried = 0
  for (; tried < 2000 && problem === undefined && Date.now() < deadline; tried++) {
    const bytes = [...Buffer.from(seeds[pick(seeds.length)] ?? '')]
    for (let count = 1 + pick(6); count > 0; count--) {
      const at = pick(bytes.length)
      const kind = pick(4)
      if (kind === 0) bytes.splice(at, 1 + pick(20))
      else if (kind === 1) bytes.splice(at, 0, ...Buffer.from('{}[]",:\\\0'.charAt(pick(9))))
      else if (kind === 2) bytes[at] = pick(256)
      else bytes.length = Math.max(1, at)
    }
    const input = Buffer.from(bytes)
    const { status, signal, stdout } = spawnSync(checkedPlugin, { env: environment, input, timeout: 20_000 })
    problem = judge(input, status, signal, stdout)
    if (problem !== undefined) t.comment(input.toString('base64'))
  }
  t.equal(problem, undefined)
  t.ok(tried > 50, `${tried} inputs`)
})

/** Nothing may come out but the result that went in, or an error of the specification's form. */
function judge(
  input: Buffer,
  status: number | null,
  signal: NodeJS.Signals | null,
  stdout: Buffer
): string | undefined {
  if (signal !== null) return `ended by ${signal}`
  if (status === 0)
    return input.includes(stdout.subarray(0, -1)) ? undefined : 'passed on what it was not given'
  try {
    const { code } = JSON.parse(stdout.toString('latin1')) as { code: number }
    return [4, 7, 11].includes(code) ? undefined : `code ${code}`
  } catch {
    return `answered ${stdout.toString('latin1')}`
  }
}

t.test('an ADD costs a few milliseconds', async t => {
  const runDir = await startAgent(t, async () => undefined)
  const file = path.join(folder, 'input.json')
  writeFileSync(file, JSON.stringify(configuration(runDir)))
  const count = 100
  const loop = `i=0; while [ $i -lt ${count} ]; do "$PLUGIN" < "$INPUT" > /dev/null || exit 1; i=$((i+1)); done`
  const started = performance.now()
  await promisify(execFile)('sh', ['-c', loop], { env: { ...environment, PLUGIN: plugin, INPUT: file } })
  const each = (performance.now() - started) / count
  t.comment(`${each.toFixed(2)} ms for each ADD, with the start of the process and the agent's answer`)
  t.ok(each < 1000)
})

/** Mulberry32: the same inputs in every run. */
function seededRandom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}
