/** The program as the kernel and Kubernetes see it: arguments, exit codes, signals. */
import t from 'tap'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import net from 'node:net'
import path from 'node:path'

const program = path.join(path.dirname(path.dirname(import.meta.dirname)), 'ztunnel/main.ts')

/** One proxy on ports of its own that needs no privileges, no control plane and no CA. */
const alone = {
  PROXY_MODE: 'dedicated',
  PROXY_WORKLOAD_INFO: 'shop/web/web',
  XDS_ADDRESS: '',
  LOCAL_XDS:
    '{workloads: [{uid: web, name: web, namespace: shop, serviceAccount: web, workloadIps: ["127.0.0.1"], services: {}}]}',
  FAKE_CA: 'true',
  ENABLE_ORIG_SRC: 'false',
  ZTUNNEL_WORKER_THREADS: '1',
  CONNECTION_TERMINATION_DEADLINE: '60s',
  ...Object.fromEntries(
    ['ADMIN', 'STATS', 'READY', 'INBOUND', 'OUTBOUND', 'PASSTHROUGH'].map(name => [
      `UNDERPASS_${name}_PORT`,
      '0'
    ])
  )
}

t.test('help and version are said; another command is refused', async t => {
  t.match(await run(t, ['help']), { code: 0, text: /^usage: ztunnel/ })
  t.match(await run(t, ['version']), { code: 0, text: /"version":"\d/ })
  t.match(await run(t, ['fly', '--high']), { code: 1, text: /^unknown command: fly --high\nusage/ })
})

t.test('a configuration that is not valid ends it before a port is bound, with all problems', async t => {
  const { code, text } = await run(t, [], { ...alone, PROXY_MODE: 'both', KEEPALIVE_TIME: 'long' })
  t.equal(code, 78)
  t.match(text, /PROXY_MODE="both": expected shared \| dedicated/)
  t.match(text, /KEEPALIVE_TIME="long"/)
})

t.test('SIGTERM, however often, waits for what is open and ends with 0', async t => {
  const { child, over, port, said } = await started(t)
  const held = await hold(t, port('inbound'))
  child.kill('SIGTERM')
  await said(/shutdown started, draining connections\tdeadline="60000ms"/)
  child.kill('SIGTERM')
  await refused(port('inbound'))
  t.equal(child.exitCode, null, 'it waits')
  held.destroy()
  t.equal(await over, 0)
  await said(/all connections ended in time/)
})

t.test('a second SIGINT does not wait', async t => {
  const { child, over, port, said } = await started(t)
  await hold(t, port('inbound'))
  child.kill('SIGINT')
  await said(/shutdown started/)
  child.kill('SIGINT')
  t.equal(await over, 0)
})

t.test('quitquitquit is answered at once and ends it', async t => {
  const { over, port } = await started(t)
  const answer = await fetch(`http://127.0.0.1:${port('admin')}/quitquitquit`, { method: 'POST' })
  t.equal(await answer.text(), 'shutdown now\n')
  t.equal(await over, 0)
})

interface Teardown {
  teardown(fn: () => unknown): unknown
}

interface Running {
  readonly child: ChildProcess
  /** Exit code. */
  readonly over: Promise<number | null>
  readonly said: (pattern: RegExp) => Promise<string>
  readonly port: (name: string) => number
}

async function started(t: Teardown): Promise<Running> {
  const running = start(t, ['proxy', 'ztunnel'], alone)
  const line = await running.said(
    /listening [^]*inbound=\S+[^]*admin=\S+|listening [^]*admin=\S+[^]*inbound=\S+/
  )
  const port = (name: string): number => Number(new RegExp(`listening ${name}=\\S*:(\\d+)`).exec(line)?.[1])
  return { ...running, port }
}

async function run(
  t: Teardown,
  words: readonly string[],
  env: Record<string, string> = {}
): Promise<{ code: number | null; text: string }> {
  const { over, text } = start(t, words, env)
  const code = await over
  return { code, text: text() }
}

function start(
  t: Teardown,
  words: readonly string[],
  env: Record<string, string>
): Omit<Running, 'port'> & { text: () => string } {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', program, ...words], {
    env: { PATH: process.env['PATH'] ?? '', ...env },
    stdio: ['ignore', 'pipe', 'pipe']
  })
  t.teardown(() => child.kill('SIGKILL'))
  let text = ''
  const looks = new Set<() => void>()
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (more: string) => {
      text += more
      for (const look of looks) look()
    })
  }
  const over = once(child, 'close').then(([code]) => code as number | null)
  const said = (pattern: RegExp): Promise<string> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        if (!pattern.test(text)) return
        looks.delete(look)
        resolve(text)
      }
      looks.add(look)
      look()
      void over.then(() => reject(new Error(`it ended without saying ${pattern}:\n${text}`)))
    })
  return { child, over, said, text: () => text }
}

/** A connection that has not said anything yet: it is open until its handshake times out. */
async function hold(t: Teardown, port: number): Promise<net.Socket> {
  const socket = net.connect(port, '127.0.0.1')
  t.teardown(() => socket.destroy())
  socket.on('error', () => undefined) // it is cut at the end
  await once(socket, 'connect')
  return socket
}

async function refused(port: number): Promise<void> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const socket = net.connect(port, '127.0.0.1')
    const outcome = await new Promise<string>(resolve => {
      socket.once('connect', () => resolve('taken'))
      socket.once('error', () => resolve('refused'))
    })
    socket.destroy()
    if (outcome === 'refused') return
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  throw new Error('it still takes connections')
}
