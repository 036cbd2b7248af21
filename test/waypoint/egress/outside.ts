/** Entries for what is outside of the mesh, and servers that play it on loopback. */
import type { Test } from 'tap'
import { once } from 'node:events'
import http from 'node:http'
import type net from 'node:net'
import type { Pod, ServiceOptions } from '../world.ts'

export interface Entry {
  readonly name: string
  readonly host: string
  readonly vip: string
  readonly resolution?: 'DNS' | 'DNS_ROUND_ROBIN' | 'DYNAMIC_DNS'
  readonly racing?: true
  readonly port?: number
  readonly target: number
  readonly speaks?: string
  readonly record?: Readonly<Record<string, unknown>>
}

/** As the control plane tells of a ServiceEntry. */
export function entryService({
  name,
  host,
  vip,
  port = 80,
  target,
  speaks,
  ...entry
}: Entry): ServiceOptions {
  const { resolution, racing = false } = entry
  const traffic = resolution === undefined ? {} : { traffic: { resolution, racing } }
  const record = { hostname: host, ports: { [port]: target }, ...traffic, ...entry.record }
  return { name, vip, port, record, ...(speaks === undefined ? {} : { speaks }) }
}

/** An endpoint of an entry that is a name. */
export function namedEndpoint(
  { name, host, port = 80, target }: Entry,
  hostname = host,
  record: Readonly<Record<string, unknown>> = {}
): Pod {
  const uid = `Kubernetes/networking.istio.io/ServiceEntry/shop/${name}/${hostname}`
  const services = { [`shop/${host}`]: { [port]: target } }
  return {
    ...{ name, address: '', port: target, services: [], protocol: 'TCP' },
    record: { uid, hostname, workloadIps: [], services, serviceAccount: '', ...record }
  }
}

export interface Server {
  readonly port: number
  /** Requests that came, as `address host path`. */
  readonly heard: string[]
}

/** HTTP servers at one port of several loopback addresses; each says where it is. */
export async function startServers(t: Test, addresses: readonly string[]): Promise<Server> {
  const heard: string[] = []
  let port = 0
  for (const address of addresses) {
    const server = http.createServer(({ headers, url }, response) => {
      heard.push(`${address} ${headers.host} ${url}`)
      response.end(address)
    })
    server.listen(port, address)
    await once(server, 'listening')
    ;({ port } = server.address() as net.AddressInfo)
    t.teardown(() => {
      server.close()
      server.closeAllConnections()
    })
  }
  return { port, heard }
}
