/** Where a proxy finds its control plane, and what it says of itself there. */
import type { EnvReader } from '../runtime/env.ts'
import { messageOf } from '../runtime/errors.ts'
import type { ControlPlaneTarget } from './grpc-client.ts'

const defaultRootCa = './var/run/secrets/istio/root-cert.pem'

/** An istiod-like server. */
export interface ControlPlaneAddress {
  /** `https://host:port`; undefined switches it off. */
  readonly address: string | undefined
  /** A path, `SYSTEM`, or PEM. */
  readonly rootCa: string
  readonly altHostname: string | undefined
  readonly headers: readonly (readonly [string, string])[]
}

/** How a proxy proves itself there. */
export interface ProxyCredentials {
  /** Path of the bearer token, or the token itself; undefined asks without one. */
  readonly authToken: string | undefined
  readonly clusterId: string
}

export function controlPlaneTarget(
  { rootCa, altHostname, headers }: ControlPlaneAddress,
  address: string,
  { authToken, clusterId }: ProxyCredentials
): ControlPlaneTarget {
  return { address, roots: rootCa, altHostname, token: authToken, clusterId, headers }
}

export function readControlPlane(
  env: EnvReader,
  kind: 'XDS' | 'CA',
  discoveryAddress?: string
): ControlPlaneAddress {
  const inCluster = env.optional('KUBERNETES_SERVICE_HOST', 'Set by Kubernetes in every pod') !== undefined
  const fallback =
    discoveryAddress ?? (inCluster ? 'https://istiod.istio-system.svc:15012' : 'https://localhost:15012')
  const text = env.text(
    `${kind}_ADDRESS`,
    fallback,
    kind === 'XDS'
      ? 'The control plane; empty switches it off'
      : 'The certificate authority; empty switches it off'
  )
  return {
    address: text === '' ? undefined : httpsAddress(env, `${kind}_ADDRESS`, text),
    rootCa: env.text(
      `${kind}_ROOT_CA`,
      defaultRootCa,
      'Root certificates of that server: a path, SYSTEM, or PEM'
    ),
    altHostname: env.optional(`ALT_${kind}_HOSTNAME`, "Name to expect in that server's certificate"),
    headers: [...env.withPrefix(`${kind}_HEADER_`)]
  }
}

function httpsAddress(env: EnvReader, name: string, text: string): string | undefined {
  const url = URL.parse(text.includes('://') ? text : `https://${text}`)
  if (url === null || url.host === '')
    env.problem(`${name}=${JSON.stringify(text)}: expected host:port or https://host:port`)
  else if (url.protocol !== 'https:')
    env.problem(`${name}=${JSON.stringify(text)}: TLS is required, write https://${url.host}`)
  else return `https://${url.hostname}:${url.port === '' ? 443 : url.port}`
  return undefined
}

/** Names and values that istiod sees of this proxy: ISTIO_META_*, then ISTIO_METAJSON_*, over what is given. */
export function readNodeMetadata(
  env: EnvReader,
  given: Readonly<Record<string, unknown>> = {}
): Record<string, unknown> {
  const metadata: Record<string, unknown> = { ...given }
  for (const [name, value] of env.withPrefix('ISTIO_META_')) metadata[name] = value
  for (const [name, value] of env.withPrefix('ISTIO_METAJSON_')) {
    try {
      metadata[name] = JSON.parse(value)
    } catch (error) {
      env.problem(`ISTIO_METAJSON_${name}: expected JSON: ${messageOf(error)}`)
    }
  }
  return metadata
}
