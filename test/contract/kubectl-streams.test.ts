/** A real kubectl reaches containers through the API store: logs, exec, cp's tar, port-forward in both of its forms. */
import t from 'tap'
import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { startRuntime } from '../lab/api-store-runtime.ts'
import { startStore } from '../lab/api-store-start.ts'
import { pod } from './context.ts'
import { kubectlOf } from './kubectl.ts'

const program = path.join(process.env['UNDERPASS_PEERS'] ?? '', 'kubectl')
const skip =
  process.env['UNDERPASS_PEERS'] !== undefined && existsSync(program)
    ? false
    : 'needs kubectl in UNDERPASS_PEERS'

t.test('kubectl', { skip }, async t => {
  const { runtime, connections } = await startRuntime(t)
  const { api, access, store } = await startStore(t, { pods: runtime })
  await api.post('/api/v1/namespaces/default/pods', pod('p', {}, { nodeName: 'n1' }))
  await api.patch('/api/v1/namespaces/default/pods/p/status', 'merge', { status: { phase: 'Running' } })
  const home = t.testdir({})
  const kubeconfig = path.join(home, 'kubeconfig')
  writeFileSync(kubeconfig, store.kubeconfig(access.server), { mode: 0o600 })
  const kubectl = kubectlOf(program, { api, access: { ...access, kubeconfig }, namespace: 'default' }, home)

  await t.test('logs prints the log', async t => {
    t.equal((await kubectl(['logs', 'p'])).stdout, 'first of c\nsecond\n')
    t.match((await kubectl(['logs', 'p', '-c', 'none'])).stderr, /container none is not valid for pod p/)
  })

  await t.test('exec prints both outputs and ends with the exit code', async t => {
    const outcome = await kubectl(['exec', 'p', '--', 'sh', '-c', 'echo out; echo err >&2; exit 5'])
    t.match(outcome, { code: 5, stdout: 'out\n', stderr: /^err\n/ })
    t.equal((await kubectl(['exec', '-i', 'p', '--', 'cat'], 'from stdin')).stdout, 'from stdin')
    const large = 'x'.repeat(8_000_000)
    t.equal((await kubectl(['exec', '-i', 'p', '--', 'cat'], large)).stdout.length, large.length)
    t.match((await kubectl(['exec', 'p', '--', 'refused'])).stderr, /the container does not run/)
  })

  for (const webSockets of ['true', 'false']) {
    await t.test(`port-forward ${webSockets === 'true' ? 'in a WebSocket' : 'by SPDY'}`, async t => {
      const child = spawn(program, ['--kubeconfig', kubeconfig, 'port-forward', 'pod/p', ':80'], {
        env: { HOME: home, KUBECTL_PORT_FORWARD_WEBSOCKETS: webSockets },
        stdio: ['ignore', 'pipe', 'pipe']
      })
      t.teardown(() => child.kill('SIGKILL'))
      const port = await forwardedPort(child)
      const data = randomBytes(4_000_000)
      t.ok((await echo(port, data)).equals(data), '4 MB there and back')
      const many = await Promise.all(
        Array.from({ length: 20 }, async (_, index) => echo(port, Buffer.from(`connection ${index}`)))
      )
      t.strictSame(
        many.map(String),
        Array.from({ length: 20 }, (_, index) => `connection ${index}`)
      )
      child.kill('SIGTERM')
      await once(child, 'close')
      for (let attempt = 0; attempt < 400 && connections() > 0; attempt += 1)
        await new Promise(resolve => setTimeout(resolve, 20))
      t.equal(connections(), 0, 'nothing stays open')
    })
  }
})

/** Reads on after the answer: kubectl reports every connection, and ends when nobody listens. */
async function forwardedPort(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    let said = ''
    child.stdout?.on('data', (chunk: Buffer) => {
      said += chunk.toString()
      const port = /127\.0\.0\.1:(\d+) -> 80/.exec(said)?.[1]
      if (port !== undefined) resolve(Number(port))
    })
    child.once('close', () => reject(new Error(`kubectl port-forward said ${said}`)))
  })
}

async function echo(port: number, data: Buffer): Promise<Buffer> {
  const socket = net.connect(port, '127.0.0.1')
  const chunks: Buffer[] = []
  let received = 0
  socket.write(data)
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    chunks.push(chunk)
    received += chunk.length
    if (received >= data.length) break
  }
  return Buffer.concat(chunks)
}
