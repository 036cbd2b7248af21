/** A served snapshot of a few objects, and clients of it. */
import type { Test } from 'tap'
import { DesiredState } from '../../../controlplane/desired/desired-state.ts'
import { GrpcServer } from '../../../controlplane/serve/grpc-server.ts'
import { metricFamilies } from '../../../controlplane/metrics.ts'
import type { Caller } from '../../../controlplane/access/token.ts'
import { waypointScope } from '../../../controlplane/xds/waypoint-scope.ts'
import { XdsServer } from '../../../controlplane/xds/server.ts'
import { ip } from '../../../shared/net/address.ts'
import { LogOutput } from '../../../shared/telemetry/logger.ts'
import { Metrics } from '../../../shared/telemetry/metrics.ts'
import { DeltaClient, type DeltaClientOptions, type Response } from './delta-client.ts'
import { objects, settings } from '../world.ts'

/** How a waypoint's pod of `world.ts` calls itself. */
export const waypointNode = { id: 'waypoint~10.0.1.1~wp-1.shop~shop.svc.cluster.local' }

export class ServedWorld {
  readonly desired = new DesiredState(settings)
  readonly metrics = new Metrics(metricFamilies)
  readonly lines: string[] = []
  readonly #t: Test
  readonly #xds: XdsServer
  readonly #server: GrpcServer
  target = ''
  caller: Caller | undefined

  constructor(t: Test, orderMs?: number) {
    this.#t = t
    const logs = new LogOutput({
      filter: { fallback: 'info', targets: new Map() },
      format: 'plain',
      sink: { write: line => void this.lines.push(line) }
    })
    this.#xds = new XdsServer({
      snapshot: this.desired.snapshot,
      scopeOf: (...client) => waypointScope(this.desired.view, ...client),
      clusterId: () => 'Kubernetes',
      log: logs.logger('xds'),
      metrics: this.metrics,
      ...(orderMs === undefined ? {} : { orderMs })
    })
    this.#server = new GrpcServer({
      maxConnectionAgeMs: 3_600_000,
      services: {
        deltaStream: async stream =>
          this.#xds.connect({
            remote: stream.info.remote,
            caller: this.caller,
            send: response => stream.send(response),
            close: (status, reason) => stream.close(status, reason)
          })
      }
    })
    t.teardown(async () => this.#server.close(0))
  }

  get xds(): XdsServer {
    return this.#xds
  }

  async start(yaml: string): Promise<this> {
    this.apply(yaml)
    const { port } = await this.#server.listenPlain({ ip: ip('127.0.0.1'), port: 0 })
    this.target = `127.0.0.1:${port}`
    return this
  }

  apply(yaml: string): void {
    for (const object of objects(yaml)) this.desired.put(object)
    this.push()
  }

  push(): void {
    this.#xds.push(this.desired.refresh())
  }

  client(options: Partial<DeltaClientOptions> = {}): DeltaClient {
    const client = new DeltaClient({ target: this.target, nodeName: '', ...options })
    this.#t.teardown(() => client.close())
    return client
  }
}

/** The next response in a form that compares, acknowledged unless told otherwise. */
export async function next(client: DeltaClient, { ack = true } = {}): Promise<unknown> {
  const heard = await client.next()
  if (heard === undefined) return client.end
  if (ack) client.ack(heard)
  return seen(heard)
}

function seen({ typeUrl, resources, removedResources }: Response): unknown {
  return {
    type: typeUrl.replace(/^.*[./]/, ''),
    names: resources.map(({ name }) => name).toSorted(),
    removed: [...removedResources].toSorted()
  }
}
