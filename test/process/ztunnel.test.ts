/** The whole ztunnel as a process that anybody may run: ports, admin interface, configuration errors, shutdown. */
import t from 'tap'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import net from 'node:net'
import path from 'node:path'
import zlib from 'node:zlib'
import { samples } from '../support/access-lines.ts'

t.setTimeout(120_000)
const root = path.dirname(path.dirname(import.meta.dirname))

const mesh = JSON.stringify({
  workloads: [
    {
      uid: 'Kubernetes//Pod/shop/web',
      name: 'web',
      namespace: 'shop',
      serviceAccount: 'web',
      trustDomain: 'cluster.local',
      workloadIps: ['127.0.0.1'],
      protocol: 'HBONE',
      node: 'n',
      network: '',
      services: {}
    }
  ],
  services: [
    {
      name: 'cart',
      namespace: 'shop',
      hostname: 'cart.shop.svc.cluster.local',
      vips: ['/10.96.0.1'],
      ports: { 80: 8080 }
    }
  ],
  policies: [
    {
      name: 'deny',
      namespace: 'shop',
      scope: 'Namespace',
      action: 'Deny',
      rules: [[[{ destinationPorts: [9999] }]]],
      dryRun: false
    }
  ]
})

const local = {
  PROXY_MODE: 'dedicated',
  PROXY_WORKLOAD_INFO: 'shop/web/web',
  FAKE_CA: 'true',
  XDS_ADDRESS: '',
  CA_ADDRESS: '',
  LOCAL_XDS: mesh,
  ENABLE_ORIG_SRC: 'false',
  ZTUNNEL_WORKER_THREADS: '2',
  UNDERPASS_ADMIN_PORT: '0',
  UNDERPASS_STATS_PORT: '0',
  UNDERPASS_READY_PORT: '0',
  UNDERPASS_OUTBOUND_PORT: '0',
  UNDERPASS_INBOUND_PORT: '0',
  UNDERPASS_PASSTHROUGH_PORT: '0'
}

t.test('the admin interface answers what istioctl and operators ask', async t => {
  const { ports, ended, child } = await started(t, local)
  const admin = (path: string, init?: RequestInit): Promise<Response> =>
    fetch(`http://127.0.0.1:${ports['admin']}${path}`, init)

  await t.test('config_dump', async t => {
    const response = await admin('/config_dump')
    t.equal(response.headers.get('content-type'), 'application/json')
    t.match(await response.json(), {
      workloads: [
        {
          uid: 'Kubernetes//Pod/shop/web',
          name: 'web',
          namespace: 'shop',
          workloadIps: ['127.0.0.1'],
          protocol: 'HBONE',
          trustDomain: 'cluster.local',
          status: 'Healthy',
          capacity: 1
        }
      ],
      services: [
        {
          name: 'cart',
          hostname: 'cart.shop.svc.cluster.local',
          vips: ['/10.96.0.1'],
          ports: { 80: 8080 },
          endpoints: {}
        }
      ],
      policies: [
        { name: 'deny', scope: 'Namespace', action: 'Deny', rules: [[[{ destinationPorts: [9999] }]]] }
      ],
      stagedServices: {},
      staticConfig: {
        workloads: [{ name: 'web' }],
        services: [{ name: 'cart' }],
        policies: [{ name: 'deny' }]
      },
      config: { proxyMode: 'Dedicated', authToken: null },
      version: { version: String },
      workloadState: {
        dedicated: {
          state: 'Up',
          info: { name: 'web', namespace: 'shop', serviceAccount: 'web' },
          connections: { inbound: [], outbound: [] }
        }
      }
    })
  })

  await t.test('log levels', async t => {
    t.equal(await (await admin('/logging', { method: 'POST' })).text(), 'current log level is info\n')
    t.equal(
      await (await admin('/logging?level=access=debug,zds:warn', { method: 'POST' })).text(),
      'current log level is access=debug,zds=warn,info\n'
    )
    t.equal(
      await (await admin('/logging?level=error', { method: 'POST' })).text(),
      'current log level is access=debug,zds=warn,error\n'
    )
    t.equal(await (await admin('/logging?reset', { method: 'POST' })).text(), 'current log level is info\n')
    t.equal(
      await (await admin('/logging?level=debug&reset', { method: 'POST' })).text(),
      'current log level is debug\n'
    )
    t.equal((await admin('/logging?level=loud', { method: 'POST' })).status, 400)
    t.equal((await admin('/logging')).status, 405)
  })

  await t.test('readiness and versions', async t => {
    const ready = await fetch(`http://127.0.0.1:${ports['readiness']}/healthz/ready`)
    t.same([ready.status, await ready.text()], [200, 'ready\n'])
    t.equal(
      (await fetch(`http://127.0.0.1:${ports['readiness']}/healthz/ready`, { method: 'POST' })).status,
      405
    )
    t.equal((await fetch(`http://127.0.0.1:${ports['readiness']}/`)).status, 404)
    t.match(await (await admin('/v1/healthz')).json(), { ready: true, pending: [] })
    t.match(await (await admin('/v1/version')).json(), {
      version: String,
      nodeVersion: process.versions.node
    })
    t.match(await (await admin('/v1/pods')).json(), [{ uid: 'dedicated', state: 'Up' }])
    t.match(await (await admin('/v1/xds')).json(), { state: 'off' })
    t.match(await (await admin('/')).text(), /config_dump/)
    t.equal((await admin('/nothing')).status, 404)
    t.equal((await admin('/quitquitquit')).status, 405)
  })

  await t.test('metrics, in the encoding that is asked for', async t => {
    const stats = `http://127.0.0.1:${ports['stats']}`
    const plain = await fetch(`${stats}/metrics`)
    t.equal(plain.headers.get('content-type'), 'text/plain; charset=utf-8')
    const text = await plain.text()
    t.match(text, /# EOF\n$/)
    t.match(samples(text, 'underpass_workers'), [{ value: 2 }])
    t.match(samples(text, 'workload_manager_active_proxy_count'), [{ value: 1 }])
    t.ok((samples(text, 'process_open_fds')[0]?.value ?? 0) > 5)
    const open = await fetch(`${stats}/stats/prometheus`, {
      headers: { accept: 'application/openmetrics-text' }
    })
    t.equal(open.headers.get('content-type'), 'application/openmetrics-text;charset=utf-8;version=1.0.0')
    t.equal((await fetch(`${stats}/other`)).status, 404)
    await open.body?.cancel()
  })

  await t.test('profiles', async t => {
    const cpu = await admin('/debug/pprof/profile?seconds=1&frequency=200')
    t.equal(cpu.status, 200)
    t.ok(zlib.gunzipSync(Buffer.from(await cpu.arrayBuffer())).includes('nanoseconds'))
    t.match(await (await admin('/debug/pprof/profile?seconds=1&format=cpuprofile')).json(), [
      { thread: 'main', profile: { nodes: Array } },
      { thread: 'worker 0' },
      { thread: 'worker 1' }
    ])
    t.equal((await admin('/debug/pprof/profile?seconds=301')).status, 400)
    t.equal((await admin('/debug/pprof/profile?frequency=0')).status, 400)
    t.match(await (await admin('/debug/pprof/heap')).json(), [
      { thread: 'main', profile: { head: Object } },
      { thread: 'worker 0' },
      { thread: 'worker 1' }
    ])
  })

  await t.test('explanations', async t => {
    const answer = await admin('/v1/explain', {
      method: 'POST',
      body: JSON.stringify({ from: 'web', to: 'svc/cart:80', namespace: 'shop' })
    })
    t.equal(answer.status, 200)
    t.match(await answer.json(), { result: { kind: 'explanation', outcome: 'refused' } })
    t.equal((await admin('/v1/explain', { method: 'POST', body: '{}' })).status, 400)
  })

  await t.test('tap', async t => {
    const gone = new AbortController()
    const response = await admin('/v1/tap', {
      method: 'POST',
      body: JSON.stringify({ kinds: ['refused'] }),
      signal: gone.signal
    })
    t.equal(response.headers.get('content-type'), 'application/x-ndjson')
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader()
    // Nobody redirected this one: the proxy sees a call to itself and refuses it.
    const socket = net.connect(ports['outbound'] ?? 0, '127.0.0.1')
    socket.on('error', () => undefined)
    const { value = '' } = (await reader?.read()) ?? {}
    t.match(JSON.parse(value.split('\n')[0] ?? ''), {
      kind: 'refused',
      direction: 'outbound',
      destination: { workload: 'web', namespace: 'shop' }
    })
    gone.abort()
    await reader?.cancel().catch(() => undefined)
    t.equal((await admin('/v1/tap', { method: 'POST', body: '{"colour":1}' })).status, 400)
  })

  const stopped = await admin('/quitquitquit', { method: 'POST' })
  t.equal(await stopped.text(), 'shutdown now\n')
  t.equal(await ended, 0)
  t.equal(child.signalCode, null)
})

t.test('SIGTERM ends an idle ztunnel at once and with success', async t => {
  const { child, ended, log } = await started(t, local)
  const before = performance.now()
  child.kill('SIGTERM')
  t.equal(await ended, 0)
  t.ok(performance.now() - before < 4000, 'well before the deadline')
  t.match(log.join('\n'), /all connections ended in time/)
})

t.test('a second SIGINT does not wait', async t => {
  const { child, ended, ports } = await started(t, { ...local, CONNECTION_TERMINATION_DEADLINE: '60s' })
  const socket = net.connect(ports['inbound'] ?? 0, '127.0.0.1') // never speaks TLS, so it is work in hand
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  child.kill('SIGINT')
  await new Promise(resolve => setTimeout(resolve, 200))
  child.kill('SIGINT')
  t.equal(await ended, 0)
})

t.test('every mistake in the configuration is named at once, and nothing starts', async t => {
  const { ended, log } = run(t, { PROXY_MODE: 'dedicated', RUST_LOG: 'loud', XDS_ADDRESS: 'http://x' })
  t.equal(await ended, 78)
  const text = log.join('\n')
  for (const name of ['PROXY_WORKLOAD_INFO', 'RUST_LOG', 'XDS_ADDRESS']) t.match(text, name)
})

t.test('a mistake in the local configuration names the field', async t => {
  const { ended, log } = run(t, {
    ...local,
    LOCAL_XDS: 'workloads: [{uid: x, namespace: y, workloadIps: [not-an-ip], services: {}}]'
  })
  t.not(await ended, 0)
  t.match(log.join('\n'), /not-an-ip/)
})

t.test('a port that is taken ends the start, with the port in the error', async t => {
  const taken = net.createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => taken.close())
  const { port } = taken.address() as net.AddressInfo
  const { ended, log } = run(t, { ...local, UNDERPASS_ADMIN_PORT: String(port) })
  t.equal(await ended, 1)
  t.match(log.join('\n'), new RegExp(`cannot listen on 127.0.0.1:${port}`))
})

for (const { args, code, says } of [
  { args: ['version'], code: 0, says: /"version":"\d/ },
  { args: ['help'], code: 0, says: /usage: ztunnel/ },
  { args: ['prox'], code: 1, says: /unknown command: prox/ }
]) {
  t.test(`ztunnel ${args.join(' ')}`, async t => {
    const { ended, log } = run(t, local, args)
    t.equal(await ended, code)
    t.match(log.join('\n'), says)
  })
}

interface Running {
  readonly child: ChildProcess
  readonly ended: Promise<number | null>
  readonly log: string[]
}

async function started(
  t: { teardown(fn: () => unknown): unknown },
  env: Record<string, string>
): Promise<Running & { ports: Record<string, number> }> {
  const running = run(t, env)
  const ports: Record<string, number> = {}
  const wanted = ['admin', 'stats', 'readiness', 'inbound', 'passthrough', 'outbound']
  for (let look = 0; look < 400; look++) {
    for (const line of running.log) {
      const [, name, port] = /listening (\w+)=.*:(\d+)$/.exec(line) ?? []
      if (name !== undefined) ports[name] = Number(port)
    }
    if (wanted.every(name => ports[name] !== undefined)) return { ...running, ports }
    if (running.child.exitCode !== null) break
    await new Promise(resolve => setTimeout(resolve, 25))
  }
  throw new Error(`ztunnel did not start:\n${running.log.join('\n')}`)
}

function run(
  t: { teardown(fn: () => unknown): unknown },
  env: Record<string, string>,
  args: readonly string[] = ['proxy', 'ztunnel']
): Running {
  const child = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', path.join(root, 'ztunnel/main.ts'), ...args],
    {
      env: { PATH: process.env['PATH'] ?? '', ...env },
      stdio: ['ignore', 'pipe', 'pipe']
    }
  )
  const log: string[] = []
  for (const stream of [child.stdout, child.stderr]) {
    let rest = ''
    stream.setEncoding('utf8').on('data', (text: string) => {
      const parts = (rest + text).split('\n')
      rest = parts.pop() ?? ''
      log.push(...parts)
    })
  }
  const ended = new Promise<number | null>(resolve => child.once('close', code => resolve(code)))
  t.teardown(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
    await ended
  })
  return { child, ended, log }
}
