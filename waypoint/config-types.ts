/**
 * The kinds of configuration that a waypoint takes: how an object of each is put in force, and what stands in for one that
 * cannot be read and is not known from before. Without it requests would pass that the object may have kept back.
 */
import type { ConfigResource } from '../shared/xds/config-resource.ts'
import type { PolicyStore } from './authorization/policy-store.ts'
import { readAuthorizationPolicy, unreadablePolicy, type PolicyMesh } from './authorization/read-policy.ts'
import type { Config } from './config.ts'
import type { DestinationRuleStore } from './destination-rules/destination-rule-store.ts'
import { readDestinationRule, unreadableRule } from './destination-rules/read-destination-rule.ts'
import type { JwtPolicyStore } from './jwt/policy-store.ts'
import { readRequestAuthentication } from './jwt/read-request-authentication.ts'
import type { CurrentSettings } from './mesh-settings.ts'
import { readRateLimitPolicy } from './rate-limit/read-rate-limit-policy.ts'
import type { RateLimitStore } from './rate-limit/rate-limit-store.ts'
import { readGrpcRoute } from './routes/grpc-route.ts'
import { readHttpRoute } from './routes/http-route.ts'
import { standIn } from './routes/route-parts.ts'
import type { RouteStore } from './routes/route-store.ts'
import { readTelemetry } from './telemetry/rules/read-telemetry.ts'
import type { TelemetryStore } from './telemetry/rules/telemetry-store.ts'
import type { BackendTlsPolicies } from './upstream/backend-tls-policies.ts'
import { readBackendTlsPolicy, unreadableBackendTlsPolicy } from './upstream/backend-tls-policy.ts'
import { readVirtualService, unreadableVirtualService } from './virtual-services/read-virtual-service.ts'
import type { VirtualServiceStore } from './virtual-services/virtual-service-store.ts'

export interface ConfigType {
  has(name: string): boolean
  /** Throws an Error that names what is wrong; nothing has changed then. */
  put(name: string, resource: ConfigResource): void
  putStandIn(name: string, resource: ConfigResource, reason: string): void
  remove(name: string): void
}

export interface ConfigStores {
  readonly settings: CurrentSettings
  readonly routes: RouteStore
  readonly virtualServices: VirtualServiceStore
  readonly policies: PolicyStore
  readonly telemetries: TelemetryStore
  readonly jwtPolicies: JwtPolicyStore
  readonly rateLimits: RateLimitStore
  readonly destinationRules: DestinationRuleStore
  readonly backendTls: BackendTlsPolicies
  /** The rules for tokens have changed. */
  readonly onJwtRules: () => void
}

type MeshNames = Pick<Config, 'clusterDomain' | 'rootNamespace' | 'role' | 'environment'>

/** By type URL, in the order in which they are asked for: what refuses first. */
export function configTypes(
  {
    settings,
    routes,
    virtualServices,
    policies,
    telemetries,
    jwtPolicies,
    rateLimits,
    destinationRules,
    backendTls,
    onJwtRules
  }: ConfigStores,
  { clusterDomain, rootNamespace, role, environment }: MeshNames
): ReadonlyMap<string, ConfigType> {
  const mesh = (): PolicyMesh => ({ trustDomains: settings.current.trustDomains, rootNamespace })
  /** What policies were read from: names of trust domains are compiled into them. */
  const written = new Map<string, ConfigResource>()
  const readAgain = (): void => {
    for (const [name, resource] of written) policies.put(name, readAuthorizationPolicy(resource, mesh()))
  }
  const routeType = (kind: string, read: typeof readHttpRoute): ConfigType => ({
    has: name => routes.has(`${kind} ${name}`),
    put: (name, resource) => routes.put(`${kind} ${name}`, read(resource, clusterDomain)),
    putStandIn: (name, resource) => routes.put(`${kind} ${name}`, standIn(resource, clusterDomain)),
    remove: name => routes.remove(`${kind} ${name}`)
  })
  return new Map<string, ConfigType>([
    [
      'mesh.istio.io/v1alpha1/MeshConfig',
      {
        has: () => true, // what the environment says is in force until then
        put: (_name, resource) => {
          settings.put(resource)
          readAgain()
        },
        putStandIn: () => undefined,
        remove: () => {
          settings.reset()
          readAgain()
        }
      }
    ],
    [
      'security.istio.io/v1/AuthorizationPolicy',
      {
        has: name => policies.has(name),
        put: (name, resource) => {
          policies.put(name, readAuthorizationPolicy(resource, mesh()))
          written.set(name, resource)
        },
        putStandIn: (name, resource, reason) =>
          policies.put(name, unreadablePolicy(resource, mesh(), reason)),
        remove: name => {
          policies.remove(name)
          written.delete(name)
        }
      }
    ],
    [
      'security.istio.io/v1/RequestAuthentication',
      {
        // Without it requests have no identity: policies that ask for one refuse them.
        has: () => true,
        put: (name, resource) => {
          jwtPolicies.put(name, readRequestAuthentication(resource, rootNamespace))
          onJwtRules()
        },
        putStandIn: () => undefined,
        remove: name => {
          jwtPolicies.remove(name)
          onJwtRules()
        }
      }
    ],
    [
      'telemetry.istio.io/v1/Telemetry',
      {
        // Without it less is told, and nothing is let through.
        has: () => true,
        put: (name, resource) => {
          const mode = role === 'gateway' ? 'CLIENT' : 'SERVER'
          telemetries.put(name, readTelemetry(resource, { rootNamespace, mode, environment }))
        },
        putStandIn: () => undefined,
        remove: name => telemetries.remove(name)
      }
    ],
    [
      'ratelimits.underpass.dev/v1alpha1/RateLimitPolicy',
      {
        // Without it more requests pass, none that may not be asked.
        has: () => true,
        put: (name, resource) => rateLimits.replace(name, readRateLimitPolicy(resource, rootNamespace)),
        putStandIn: () => undefined,
        remove: name => rateLimits.remove(name)
      }
    ],
    [
      'networking.istio.io/v1/DestinationRule',
      {
        has: name => destinationRules.has(name),
        put: (name, resource) => destinationRules.put(name, readDestinationRule(resource, clusterDomain)),
        putStandIn: (name, resource) => {
          const rule = unreadableRule(resource, clusterDomain)
          if (rule !== undefined) destinationRules.put(name, rule)
        },
        remove: name => destinationRules.remove(name)
      }
    ],
    [
      'gateway.networking.k8s.io/v1/BackendTLSPolicy',
      {
        has: name => backendTls.has(name),
        put: (name, resource) => backendTls.put(name, readBackendTlsPolicy(resource)),
        putStandIn: (name, resource) => {
          const policy = unreadableBackendTlsPolicy(resource)
          if (policy !== undefined) backendTls.put(name, policy)
        },
        remove: name => backendTls.remove(name)
      }
    ],
    [
      'networking.istio.io/v1/VirtualService',
      {
        has: name => virtualServices.has(name),
        put: (name, resource) => virtualServices.put(name, readVirtualService(resource, clusterDomain)),
        putStandIn: (name, resource) => {
          const standIn = unreadableVirtualService(resource, clusterDomain)
          if (standIn !== undefined) virtualServices.put(name, standIn)
        },
        remove: name => virtualServices.remove(name)
      }
    ],
    ['gateway.networking.k8s.io/v1/HTTPRoute', routeType('HTTPRoute', readHttpRoute)],
    ['gateway.networking.k8s.io/v1/GRPCRoute', routeType('GRPCRoute', readGrpcRoute)]
  ])
}
