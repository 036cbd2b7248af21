/** On a real two-node Kubernetes: ztunnel and the node agent are rolled out anew while pods open connections. */
import t from 'tap'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { clusterMissing, type Cluster } from '../support/cluster.ts'
import { eventually } from '../support/eventually.ts'
import { imageReference } from '../support/image.ts'
import { installMesh, startClusterWithImage } from '../support/mesh-cluster.ts'
import { rolledOut } from '../support/rollout.ts'

const rate = 100

/** Answers whoever says something, and closes. */
const server = `
require('node:net').createServer(socket => {
  socket.on('error', () => undefined)
  socket.on('data', data => socket.end(data))
}).listen(9000, '::')`

/** Opens connections to ADDRESS until its input ends; then says what became of them. */
const client = `
const net = require('node:net')
const [address, rate] = [process.argv[1], Number(process.argv[2])]
const outcome = { begun: 0, answered: 0, longestMs: 0, failures: [] }
const started = performance.now()
const open = new Set()
const once = () => new Promise(resolve => {
  outcome.begun += 1
  const begun = performance.now()
  const end = failure => {
    clearTimeout(timer)
    socket.destroy()
    const ms = Math.round(performance.now() - begun)
    if (failure === undefined) { outcome.answered += 1; outcome.longestMs = Math.max(outcome.longestMs, ms) }
    else outcome.failures.push(Math.round(begun - started) + ' ms, after ' + ms + ' ms: ' + failure)
    resolve()
  }
  const timer = setTimeout(() => end('no answer'), 20000)
  const socket = net.connect(9000, address, () => socket.write('hello'))
  socket.on('error', error => end(String(error)))
  socket.once('data', () => end())
  socket.on('end', () => end('ended without an answer'))
})
const timer = setInterval(() => {
  const due = (performance.now() - started) * rate / 1000
  for (let more = Math.min(20, due - outcome.begun); more >= 1; more--) {
    const one = once()
    open.add(one)
    one.then(() => open.delete(one))
  }
}, 10)
process.stdin.resume().on('end', async () => {
  clearInterval(timer)
  await Promise.all(open)
  console.log(JSON.stringify(outcome))
})
console.log('begun')`

interface Outcome {
  readonly begun: number
  readonly answered: number
  readonly longestMs: number
  readonly failures: readonly string[]
}

function pod(name: string, node: string): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'shop' },
    spec: {
      nodeName: node,
      terminationGracePeriodSeconds: 0,
      containers: [
        {
          name: 'app',
          image: imageReference,
          imagePullPolicy: 'Never',
          args: ['-e', server]
        }
      ]
    }
  }
}

t.test('programs are rolled out anew, and no connection is dropped', { skip: clusterMissing() }, async t => {
  const cluster = await startClusterWithImage(t, 2)
  const { kubectl } = cluster
  await installMesh(cluster)
  await kubectl(['create', 'namespace', 'shop'])
  await kubectl(['label', 'namespace', 'shop', 'istio.io/dataplane-mode=ambient'])
  const items = [pod('one', 'node1'), pod('two', 'node2')]
  await kubectl(['apply', '-f', '-'], JSON.stringify({ apiVersion: 'v1', kind: 'List', items }))
  await kubectl(['-n', 'shop', 'wait', '--for=condition=Ready', 'pod', '--all', '--timeout=90s'])
  const addressOf = (name: string): Promise<string> =>
    kubectl(['-n', 'shop', 'get', 'pod', name, '-o', 'jsonpath={.status.podIP}'])

  const [toOne, toTwo] = [await addressOf('one'), await addressOf('two')]
  const loads = [await startLoad(cluster, 'one', toTwo), await startLoad(cluster, 'two', toOne)]
  t.teardown(() => loads.forEach(({ child }) => child.kill()))

  for (const program of ['ztunnel', 'istio-cni-node']) {
    const before = performance.now()
    await kubectl(['-n', 'istio-system', 'rollout', 'restart', `daemonset/${program}`])
    await rolledOut(cluster, 'istio-system', { workloads: [`daemonset/${program}`] })
    t.comment(`${program}: ${((performance.now() - before) / 1000).toFixed(1)} s`)
  }
  await eventually('the old ones are gone', async () => {
    const text = await kubectl(['-n', 'istio-system', 'get', 'pods', '-l', 'app=ztunnel', '-o', 'name'])
    return text.trim().split('\n').length === 2
  })

  for (const load of loads) {
    const { begun, answered, longestMs, failures } = await load.stop()
    t.comment(`${begun} connections, the slowest was answered after ${longestMs} ms`)
    t.strictSame(failures.slice(0, 5), [], 'none failed')
    t.equal(answered, begun, 'all were answered')
    t.ok(begun > 10 * rate, 'there was load')
  }
  const logs = await kubectl(['-n', 'istio-system', 'logs', '-l', 'app=ztunnel', '--tail=-1'])
  t.match(logs, /dst\.hbone_addr=/, 'the connections went through tunnels')
})

interface Load {
  readonly child: ChildProcess
  stop(): Promise<Outcome>
}

/** Runs the client in a pod; resolves when it has begun. */
async function startLoad({ kubeconfig }: Cluster, from: string, to: string): Promise<Load> {
  const kubectl = path.join(process.env['UNDERPASS_PEERS'] ?? '', 'kubectl')
  const words = [
    '-n',
    'shop',
    'exec',
    '-i',
    from,
    '--',
    '/usr/local/bin/node',
    '-e',
    client,
    to,
    String(rate)
  ]
  const child = spawn(kubectl, ['--kubeconfig', kubeconfig, ...words], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, NODE_OPTIONS: '' }
  })
  const over = once(child, 'close')
  let said = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text))
  await Promise.race([once(child.stdout, 'data'), over])
  return {
    child,
    async stop() {
      child.stdin.end()
      await over
      const last = said.trim().split('\n').at(-1) ?? ''
      if (!last.startsWith('{')) throw new Error(`the client in pod ${from} said: ${said}`)
      return JSON.parse(last) as Outcome
    }
  }
}
