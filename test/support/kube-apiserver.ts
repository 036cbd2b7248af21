/**
 * A real kube-apiserver with its etcd, for tests that hold our Kubernetes clients and the lab's API store to
 * what the real one does. No controller manager, scheduler or kubelet runs: objects stay as they are written.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import https from 'node:https'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

export interface KubeApiserver {
  /** `https://127.0.0.1:PORT`. */
  readonly server: string
  /** Bearer token of a cluster administrator (group system:masters). */
  readonly token: string
  /** Certificate authority of the server, PEM. */
  readonly caPem: string
  /** Path of a kubeconfig with the two above. */
  readonly kubeconfig: string
  /** Path of the peers' kubectl. */
  readonly kubectl: string
  /** Ends both programs and removes their folder. Idempotent. */
  stop(): Promise<void>
}

export interface KubeApiserverOptions {
  /** Further flags of kube-apiserver. */
  readonly flags?: readonly string[]
}

/** Longest wait for the API server to answer `/readyz`; it takes about 5 s on an idle machine. */
const readyTimeoutMs = 90_000

/** Why a test that needs a real kube-apiserver is skipped here, or false when it can run. */
export function needsKubeApiserver(): string | false {
  const peers = process.env['UNDERPASS_PEERS']
  if (peers === undefined) return 'needs the folder of peer programs in UNDERPASS_PEERS'
  for (const program of ['kube-apiserver', 'kubectl']) {
    if (!existsSync(path.join(peers, program))) return `needs ${program} in UNDERPASS_PEERS`
  }
  if (spawnSync('etcd', ['--version']).error !== undefined) return 'needs etcd (apt-get install etcd-server)'
  return false
}

/** Starts etcd and kube-apiserver on free loopback ports; they end with the test. */
export async function startKubeApiserver(
  t: { teardown(fn: () => Promise<void>): unknown },
  options: KubeApiserverOptions = {}
): Promise<KubeApiserver> {
  const peers = process.env['UNDERPASS_PEERS'] ?? ''
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-apiserver-'))
  const children: ChildProcess[] = []
  let stopped = false
  const stop = async (): Promise<void> => {
    if (stopped) return
    stopped = true
    for (const child of children.toReversed()) await end(child)
    rmSync(folder, { recursive: true, force: true })
  }
  t.teardown(stop)

  const [etcdPort, peerPort, port] = await freePorts(3)
  const token = 'admin-token'
  const keys = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const file = (name: string, content: string): string => {
    writeFileSync(path.join(folder, name), content, { mode: 0o600 })
    return path.join(folder, name)
  }
  const start = (name: string, program: string, args: readonly string[]): ChildProcess => {
    const log = openSync(path.join(folder, `${name}.log`), 'w')
    const child = spawn(program, args, { stdio: ['ignore', log, log], cwd: folder })
    closeSync(log)
    children.push(child)
    return child
  }

  const etcd = `http://127.0.0.1:${etcdPort}`
  start('etcd', 'etcd', [
    `--data-dir=${folder}/etcd`,
    `--listen-client-urls=${etcd}`,
    `--advertise-client-urls=${etcd}`,
    `--listen-peer-urls=http://127.0.0.1:${peerPort}`,
    '--unsafe-no-fsync'
  ])
  const apiserver = start('kube-apiserver', path.join(peers, 'kube-apiserver'), [
    `--etcd-servers=${etcd}`,
    `--cert-dir=${folder}/certificates`,
    '--bind-address=127.0.0.1',
    '--advertise-address=192.0.2.1', // otherwise looked up from the default route, which a sandbox may lack
    `--secure-port=${port}`,
    '--endpoint-reconciler-type=none',
    '--service-cluster-ip-range=10.96.0.0/16',
    `--token-auth-file=${file('tokens.csv', `${token},admin,admin,"system:masters"\n`)}`,
    '--service-account-issuer=https://kubernetes.default.svc',
    `--service-account-key-file=${file('sa.pub', keys.publicKey.export({ type: 'spki', format: 'pem' }).toString())}`,
    `--service-account-signing-key-file=${file('sa.key', keys.privateKey.export({ type: 'pkcs1', format: 'pem' }).toString())}`,
    '--authorization-mode=Node,RBAC',
    '--allow-privileged=true',
    ...(options.flags ?? [])
  ])
  const server = `https://127.0.0.1:${port}`
  await ready(server, token, apiserver, folder)
  const caPem = readFileSync(path.join(folder, 'certificates', 'apiserver.crt'), 'utf8')
  const kubeconfig = file(
    'kubeconfig',
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [
        {
          name: 'test',
          cluster: { server, 'certificate-authority-data': Buffer.from(caPem).toString('base64') }
        }
      ],
      users: [{ name: 'admin', user: { token } }],
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'admin' } }],
      'current-context': 'test'
    })
  )
  return { server, token, caPem, kubeconfig, kubectl: path.join(peers, 'kubectl'), stop }
}

async function ready(server: string, token: string, apiserver: ChildProcess, folder: string): Promise<void> {
  const deadline = Date.now() + readyTimeoutMs
  while (Date.now() < deadline && apiserver.exitCode === null) {
    if ((await statusOf(`${server}/readyz`, token)) === 200) return
    await delay(100)
  }
  const log = readFileSync(path.join(folder, 'kube-apiserver.log'), 'utf8').slice(-2000)
  throw new Error(`kube-apiserver did not become ready:\n${log}`)
}

async function statusOf(url: string, token: string): Promise<number | undefined> {
  return new Promise(resolve => {
    const request = https.get(
      url,
      // The certificate is made by the server while it starts, so it is not known yet.
      { rejectUnauthorized: false, agent: false, headers: { authorization: `Bearer ${token}` } },
      response => {
        response.resume()
        resolve(response.statusCode)
      }
    )
    request.on('error', () => resolve(undefined)) // not listening yet
    request.setTimeout(2000, () => request.destroy())
  })
}

async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  const gone = new Promise<void>(resolve => child.once('exit', () => resolve()))
  child.kill('SIGKILL') // nothing of theirs is kept, so there is nothing to finish
  await gone
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = net.createServer()
      await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
      return server
    })
  )
  const ports = servers.map(server => (server.address() as net.AddressInfo).port)
  await Promise.all(servers.map(async server => new Promise(resolve => server.close(resolve))))
  return ports
}
