/**
 * Whether Istio's objects and ours make sense, one function a kind. What the API server knows by itself (unknown
 * fields, types, enumerations) it has checked before by the kind's own definition.
 */
import { FieldError, Fields } from '../read/fields.ts'
import { validateAuthorizationPolicy } from './authorization-policy.ts'
import { validateDestinationRule } from './destination-rule.ts'
import { validateEnvoyFilter } from './envoy-filter.ts'
import { Findings, type Finding } from './finding.ts'
import { validateGateway } from './gateway.ts'
import { validatePeerAuthentication } from './peer-authentication.ts'
import { validateProxyConfig } from './proxy-config.ts'
import { validateRateLimitPolicy } from './rate-limit-policy.ts'
import { validateRequestAuthentication } from './request-authentication.ts'
import { validateServiceEntry } from './service-entry.ts'
import { validateSidecar } from './sidecar.ts'
import { validateTelemetry } from './telemetry.ts'
import { validateVirtualService } from './virtual-service.ts'
import { validateTrafficExtension, validateWasmPlugin } from './wasm-plugin.ts'
import { validateWorkloadEntry } from './workload-entry.ts'
import { validateWorkloadGroup } from './workload-group.ts'

type Validate = (object: Fields, findings: Findings) => void

/** By `group/kind`; a version says nothing about meaning. */
const kinds: ReadonlyMap<string, Validate> = new Map<string, Validate>([
  ['security.istio.io/AuthorizationPolicy', validateAuthorizationPolicy],
  ['security.istio.io/PeerAuthentication', validatePeerAuthentication],
  ['security.istio.io/RequestAuthentication', validateRequestAuthentication],
  ['networking.istio.io/ServiceEntry', validateServiceEntry],
  ['networking.istio.io/WorkloadEntry', validateWorkloadEntry],
  ['networking.istio.io/WorkloadGroup', validateWorkloadGroup],
  ['networking.istio.io/VirtualService', validateVirtualService],
  ['networking.istio.io/DestinationRule', validateDestinationRule],
  ['networking.istio.io/Gateway', validateGateway],
  ['networking.istio.io/Sidecar', validateSidecar],
  ['networking.istio.io/EnvoyFilter', validateEnvoyFilter],
  ['networking.istio.io/ProxyConfig', validateProxyConfig],
  ['telemetry.istio.io/Telemetry', validateTelemetry],
  ['extensions.istio.io/WasmPlugin', validateWasmPlugin],
  ['extensions.istio.io/TrafficExtension', validateTrafficExtension],
  ['ratelimits.underpass.dev/RateLimitPolicy', validateRateLimitPolicy]
])

/** `group/Kind` of every kind that is validated. */
export const validatedKinds: readonly string[] = [...kinds.keys()]

/** What is wrong with an object as the API server sends it; undefined for a kind that is not validated. */
export function validateObject(raw: unknown): readonly Finding[] | undefined {
  const findings = new Findings()
  try {
    const object = new Fields(raw, '')
    const [group = ''] = object.text('apiVersion').split('/')
    const validate = kinds.get(`${group}/${object.text('kind')}`)
    if (validate === undefined) return undefined
    checkAnnotations(object, findings)
    if (findings.all.length === 0) validate(object, findings)
  } catch (error) {
    if (!(error instanceof FieldError)) throw error
    findings.error(error.field, error.problem, "see the kind's definition")
  }
  return findings.all
}

const dryRun = 'istio.io/dry-run'
/** What Istio's own controllers write; a user who wrote them would gain rights. */
const internal = [
  'internal.istio.io/parent-namespace',
  'internal.istio.io/parents',
  'internal.istio.io/webhook-always-reject'
]

function checkAnnotations(object: Fields, findings: Findings): void {
  const annotations = object.at('metadata').labels('annotations')
  for (const name of internal) {
    if (annotations[name] === undefined) continue
    findings.error(`metadata.annotations.${name}`, 'is not for users', 'leave it out')
  }
  const value = annotations[dryRun]
  if (value === undefined) return
  const field = `metadata.annotations.${dryRun}`
  if (object.text('kind') !== 'AuthorizationPolicy') {
    findings.error(field, 'is for AuthorizationPolicy only', 'leave it out')
  } else if (!['ALLOW', 'DENY'].includes(object.at('spec').text('action', 'ALLOW'))) {
    findings.error(field, 'is for actions ALLOW and DENY only', 'leave it out')
  } else if (!/^(?:1|0|t|f|T|F|true|false|TRUE|FALSE|True|False)$/.test(value)) {
    findings.error(field, `${JSON.stringify(value)} is neither true nor false`, 'write "true" or "false"')
  }
}
