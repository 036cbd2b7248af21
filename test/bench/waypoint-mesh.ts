/**
 * client → ztunnel → waypoint → ztunnel → nginx, with mutual TLS and CONNECT on both links. One client, one server and
 * their ztunnels serve all waypoints: each of these has a service of its own, at an address of its own.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fakeIssuer } from '../../shared/identity/fake-ca.ts'
import { ip as parseIp } from '../../shared/net/address.ts'
import { closeNetns, openNetns } from '../../shared/net/netns.ts'
import { startControlPlane } from '../support/test-control-plane.ts'
import { run, type RunClient } from './load.ts'
import { asCaptured, ip, redirect, switchNamespaces } from './network.ts'
import { startHttpServer } from './nginx-hop.ts'
import type { Setup } from './setup.ts'
import { startWaypoint, type WaypointProcess, type WaypointProgram } from './waypoint-proxy.ts'
import { end, startZtunnel } from './ztunnel-hop.ts'

/** The way through one waypoint. */
export interface WaypointPath {
  readonly client: RunClient
  readonly clientNamespace: string
  /** The service that the waypoint is for. */
  readonly http: { readonly ip: string; readonly port: number }
  readonly waypoint: WaypointProcess
}

const SERVICE_PORT = 80
const APPLICATION_PORT = 8080
/** What `GET /megabyte` answers, in bytes. */
export const MEGABYTE = 1_000_000

/** All stand until they are disposed of, one path a program, by the same names. */
export async function startWaypointPaths(
  setup: Setup,
  programs: Readonly<Record<string, WaypointProgram>>
): Promise<{ readonly paths: ReadonlyMap<string, WaypointPath> } & AsyncDisposable> {
  await using made = new AsyncDisposableStack()
  const names = Object.keys(programs)
  const prefix = `upb${process.pid % 100000}`
  const folder = path.join(setup.folder, 'waypoint')
  mkdirSync(folder)
  const client = { netns: `${prefix}c`, ip: '10.97.99.1' }
  const server = { netns: `${prefix}s`, ip: '10.97.99.2' }
  const waypoints = names.map((name, number) => ({
    name,
    netns: `${prefix}w${number}`,
    ip: `10.97.99.${11 + number}`,
    vip: `10.96.99.${11 + number}`
  }))
  for (const { netns } of [server, client, ...waypoints]) {
    ip('netns', 'add', netns)
    made.defer(() => void execFileSync('ip', ['netns', 'del', netns]))
  }
  switchNamespaces(
    [server.netns, server.ip],
    [client, ...waypoints].map(({ netns, ip }) => [netns, ip])
  )
  // Services have no route of their own; the capture takes what goes there.
  ip('-n', client.netns, 'route', 'add', 'default', 'via', server.ip)
  redirect(client.netns, SERVICE_PORT, 15_001)

  const addresses = { client: client.ip, server: server.ip, waypoints }
  const write = (name: string, text: string): string => {
    const file = path.join(folder, name)
    writeFileSync(file, text)
    return file
  }
  const mesh = write('mesh.yaml', yamlOf(meshOf(addresses, {})))
  // What ports speak is said to waypoints only: the Rust ztunnel does not know the field.
  const speaking = { appProtocols: { [SERVICE_PORT]: 'HTTP11' } }
  const waypointMesh = write('waypoint-mesh.yaml', yamlOf(meshOf(addresses, speaking)))
  const nginx = await startHttpServer(
    server.netns,
    path.join(folder, 'http'),
    `${server.ip}:${APPLICATION_PORT}`,
    MEGABYTE
  )
  made.defer(() => nginx.stop())
  await startZtunnels(setup, { mesh, folder, client: client.netns, server: server.netns }, made)

  const [first, ...rest] = asCaptured(client.netns)
  const paths = new Map<string, WaypointPath>()
  for (const { name, netns, vip } of waypoints) {
    const program = programs[name]
    if (program === undefined) continue
    const waypoint = await startWaypoint(program, {
      netns,
      folder: path.join(folder, name),
      service: name,
      mesh: waypointMesh,
      application: { ip: server.ip, port: APPLICATION_PORT }
    })
    made.defer(() => waypoint.stop())
    paths.set(name, {
      client: async (command, ...args) => run(first, [...rest, command, ...args]),
      clientNamespace: client.netns,
      http: { ip: vip, port: SERVICE_PORT },
      waypoint
    })
  }
  const owned = made.move()
  return { paths, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

interface Ends {
  readonly mesh: string
  readonly folder: string
  /** Namespaces. */
  readonly client: string
  readonly server: string
}

/** The ztunnels of both ends: the Rust one where it is, so that only the waypoints differ and are ours or not. */
async function startZtunnels(
  { ours, rust }: Setup,
  { mesh, folder, ...ends }: Ends,
  made: AsyncDisposableStack
): Promise<void> {
  for (const [role, netns] of Object.entries(ends)) {
    const netnsFd = openNetns(`/run/netns/${netns}`)
    made.defer(() => closeNetns(netnsFd))
    const undo: (() => unknown)[] = []
    made.defer(async () => {
      for (const one of undo.toReversed()) await one()
    })
    // The waypoints trust the root that every test program knows; the Rust ztunnel must be given certificates of it.
    const plane = await startControlPlane(
      { teardown: one => void undo.push(one) },
      [{ name: 'a', netns, netnsFd, v4: parseIp('127.0.0.1'), v6: parseIp('::1') }],
      {},
      { issuer: fakeIssuer() }
    )
    const env = { LOCAL_XDS_PATH: mesh, ...plane.caEnv }
    const ztunnel = await startZtunnel({ program: rust ?? ours, netns, role, folder, env })
    made.defer(() => end(ztunnel))
  }
}

/** JSON is YAML, but for ports as keys, which the Rust ztunnel takes as numbers only. */
function yamlOf(value: object): string {
  return JSON.stringify(value).replaceAll(/"(\d+)":/g, '$1: ')
}

interface Addresses {
  readonly client: string
  readonly server: string
  readonly waypoints: readonly { readonly name: string; readonly ip: string; readonly vip: string }[]
}

/** `more`: fields of every service that has a waypoint. */
function meshOf({ client, server, waypoints }: Addresses, more: object): object {
  const hostname = (service: string): string => `${service}.bench.svc.cluster.local`
  const own = (name: string): string => `${name}-waypoint`
  const workload = (name: string, ip: string, services: object): object => ({
    uid: `c//Pod/bench/${name}`,
    name,
    namespace: 'bench',
    serviceAccount: name,
    trustDomain: 'cluster.local',
    workloadIps: [ip],
    protocol: 'HBONE',
    node: name,
    services
  })
  const service = (name: string, vip: string, more: object): object => ({
    name,
    namespace: 'bench',
    hostname: hostname(name),
    vips: [`/${vip}`],
    ...more
  })
  const ports = { [SERVICE_PORT]: APPLICATION_PORT }
  const behind = Object.fromEntries(waypoints.map(({ name }) => [`bench/${hostname(name)}`, ports]))
  return {
    workloads: [
      workload('client', client, {}),
      workload('server', server, behind),
      ...waypoints.map(({ name, ip }) =>
        workload(own(name), ip, { [`bench/${hostname(own(name))}`]: { 15008: 15_008 } })
      )
    ],
    services: waypoints.flatMap(({ name, vip }, number) => [
      service(name, vip, {
        ports,
        waypoint: { destination: `bench/${hostname(own(name))}`, hboneMtlsPort: 15_008 },
        ...more
      }),
      service(own(name), `10.96.99.${111 + number}`, { ports: { 15008: 15_008 } })
    ])
  }
}
