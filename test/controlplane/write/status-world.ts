/** A status writer over a map of objects. */
import { DesiredState } from '../../../controlplane/desired/desired-state.ts'
import { StatusWriter } from '../../../controlplane/write/status.ts'
import { services } from '../../../shared/kube/core-api.ts'
import { backendTlsPolicies, grpcRoutes, httpRoutes } from '../../../shared/kube/gateway-api.ts'
import { authorizationPolicies, serviceEntries } from '../../../shared/kube/istio-api.ts'
import { rateLimitPolicies } from '../../../shared/kube/underpass-api.ts'
import type { Condition, KubeObject } from '../../../shared/kube/object.ts'
import { Logger } from '../../../shared/telemetry/logger.ts'
import { parseAllYaml } from '../../../shared/kube/yaml.ts'
import { FakeKube } from '../fake-kube.ts'
import { object, settings } from '../world.ts'

const types = {
  AuthorizationPolicy: authorizationPolicies,
  RateLimitPolicy: rateLimitPolicies,
  Service: services,
  ServiceEntry: serviceEntries,
  HTTPRoute: httpRoutes,
  GRPCRoute: grpcRoutes,
  BackendTLSPolicy: backendTlsPolicies
}

export class StatusWorld {
  readonly kube = new FakeKube()
  readonly desired = new DesiredState(settings)
  readonly lines: string[] = []
  readonly writer: StatusWriter
  now = Date.parse('2026-01-01T00:00:00Z')

  constructor(t: { teardown(fn: () => void): unknown }) {
    const ending = new AbortController()
    t.teardown(() => ending.abort())
    const clock = { now: (): number => this.now }
    this.writer = new StatusWriter({
      client: this.kube,
      desired: this.desired,
      istioClasses: 'auto',
      log: new Logger('status', 'info', (level, _target, text, fields) => {
        this.lines.push(`${level} ${text} ${JSON.stringify(fields)}`)
      }),
      clock,
      signal: ending.signal
    })
  }

  /** What the watch does with objects; they are in the API server too. */
  apply(yaml: string): void {
    for (const { value } of parseAllYaml(yaml)) {
      const raw = value as KubeObject
      const type = types[raw.kind as keyof typeof types]
      if (type !== undefined) this.kube.put(type, raw)
      this.seen(raw)
    }
    this.refresh()
  }

  seen(raw: KubeObject): void {
    const read = object(raw)
    this.desired.put(read)
    this.writer.readable(read)
    this.writer.changed(read)
  }

  refresh(): void {
    this.desired.refresh(unit => this.writer.translated(unit))
  }

  /** Conditions of an object, once what waits is written. */
  async conditions(key: string): Promise<readonly Condition[]> {
    for (let turn = 0; turn < 20; turn += 1) await new Promise(resolve => setImmediate(resolve))
    const found = this.kube.objects.get(key) as { status?: { conditions?: readonly Condition[] } } | undefined
    return found?.status?.conditions ?? []
  }
}
