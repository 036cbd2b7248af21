/** BackendTLSPolicies and what they name, for tests: the YAML of a few objects. */
import { testAuthority } from '../support/certificates.ts'

/** PEM of a certificate authority. */
export const authority = testAuthority('Backend Root').pem

export function configMap(name: string, data: Readonly<Record<string, string>> = { 'ca.crt': authority }) {
  return `kind: ConfigMap
apiVersion: v1
metadata: {name: ${name}, namespace: shop}
data: ${JSON.stringify(data)}
---
`
}

const usual = 'caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}]'

/** `targets` and `trust` in flow style. */
export function policy(
  name: string,
  targets: string,
  { trust = usual, more = '', year = 2020, generation = 1, status = '' } = {}
): string {
  return `apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: ${name}, namespace: shop, generation: ${generation}, creationTimestamp: "${year}-01-01T00:00:00Z"}
spec: {targetRefs: [${targets}], validation: {hostname: web.example, ${more}${trust}}}
${status}
---
`
}

export const web = '{group: "", kind: Service, name: web}'

/** A service behind the gateway `edge`, by the route `r`. */
export const edge = `apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIPs: [10.96.0.1], ports: [{name: a, port: 443}, {name: b, port: 444}]}
---
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {gatewayClassName: underpass, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: web, port: 443}, {name: gone, port: 443}]}]}
---
`
