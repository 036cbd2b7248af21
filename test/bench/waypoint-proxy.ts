/** One waypoint process, ours or Envoy, in a namespace of its own, with certificates of the CA that all here trust. */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { FakeCa } from '../../shared/identity/fake-ca.ts'
import { spiffeId } from '../../shared/identity/spiffe-id.ts'
import { envoyBootstrap } from './envoy-waypoint.ts'
import { interrupted } from './interrupt.ts'
import { run } from './load.ts'
import { httpRoutes, type RouteSet } from './waypoint-routes.ts'
import { end, lastWords } from './ztunnel-hop.ts'

/** `program`: the command up to its arguments. */
export interface WaypointProgram {
  readonly kind: 'underpass' | 'envoy'
  readonly program: readonly string[]
  readonly routes: RouteSet
}

export interface WaypointPlace {
  readonly netns: string
  readonly folder: string
  /** The service that it is for; its own service, Gateway and account are `<service>-waypoint`, all in `bench`. */
  readonly service: string
  /** The mesh as a local configuration, which the ztunnels have too. */
  readonly mesh: string
  readonly application: { readonly ip: string; readonly port: number }
}

export interface WaypointProcess {
  readonly pid: number
  start(): Promise<void>
  stop(): Promise<void>
}

/** Starts it and waits until it takes connections. */
export async function startWaypoint(
  { kind, program, routes }: WaypointProgram,
  place: WaypointPlace
): Promise<WaypointProcess> {
  const { netns, folder, service } = place
  mkdirSync(folder, { recursive: true })
  const { command, env } =
    kind === 'underpass' ? prepareOurs(program, routes, place) : await prepareEnvoy(program, routes, place)
  const file = path.join(folder, 'waypoint.log')
  let child: ChildProcess | undefined
  const start = async (): Promise<void> => {
    const log = openSync(file, 'w')
    child = spawn('nsenter', [`--net=/run/netns/${netns}`, ...command], {
      stdio: ['ignore', log, log],
      detached: true,
      cwd: folder,
      env: { PATH: process.env['PATH'], ...env }
    })
    closeSync(log)
    try {
      await listening(child, netns)
    } catch (cause) {
      await end(child)
      throw new Error(`the waypoint of ${service} did not start: ${lastWords(file)}`, { cause })
    }
  }
  await start()
  return {
    get pid() {
      return child?.pid ?? 0
    },
    start,
    stop: async () => {
      if (child !== undefined) await end(child)
    }
  }
}

interface Prepared {
  readonly command: readonly string[]
  readonly env: Readonly<Record<string, string>>
}

function prepareOurs(
  program: readonly string[],
  routes: RouteSet,
  { folder, service, mesh }: WaypointPlace
): Prepared {
  const file = path.join(folder, 'routes.yaml')
  writeFileSync(file, httpRoutes(service, routes))
  return {
    command: program,
    env: {
      XDS_ADDRESS: '',
      CA_ADDRESS: '',
      FAKE_CA: 'true',
      LOCAL_XDS_PATH: mesh,
      UNDERPASS_LOCAL_CONFIG: file,
      POD_NAMESPACE: 'bench',
      POD_NAME: `${service}-waypoint-0`,
      SERVICE_ACCOUNT: `${service}-waypoint`,
      UNDERPASS_ACCESS_LOG: 'off',
      RUST_LOG: 'warn'
    }
  }
}

async function prepareEnvoy(
  program: readonly string[],
  routes: RouteSet,
  { folder, service, application: { ip, port } }: WaypointPlace
): Promise<Prepared> {
  const identity = spiffeId({
    trustDomain: 'cluster.local',
    namespace: 'bench',
    serviceAccount: `${service}-waypoint`
  })
  const { chainPem, keyPem, rootsPem } = await new FakeCa().fetch(identity, interrupted)
  const write = (name: string, text: string): string => {
    const file = path.join(folder, name)
    writeFileSync(file, text, { mode: 0o600 })
    return file
  }
  const files = {
    chain: write('chain.pem', chainPem.join('\n')),
    key: write('key.pem', keyPem),
    roots: write('roots.pem', rootsPem.join('\n'))
  }
  const bootstrap = envoyBootstrap({
    application: `${ip}:${port}`,
    tunnel: { ip, port: 15_008 },
    files,
    routes
  })
  const config = write('envoy.json', JSON.stringify(bootstrap))
  const options = ['--concurrency', '1', '--disable-hot-restart', '--log-level', 'warn']
  return { command: [...program, '-c', config, ...options], env: {} }
}

async function listening(child: ChildProcess, netns: string): Promise<void> {
  for (let attempt = 0; attempt < 400; attempt += 1) {
    interrupted.throwIfAborted()
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}`)
    if ((await run('ss', ['-N', netns, '-Hltn', 'sport = :15008'])) !== '') return
    await delay(25)
  }
  throw new Error('it did not listen within 10 s')
}
