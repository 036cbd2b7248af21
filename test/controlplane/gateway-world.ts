/** Gateways with certificates, for tests: the YAML of a few objects. */
import { testAuthority } from '../support/certificates.ts'

const authority = testAuthority()

/** A pair of PEM texts that belong together; each call makes another one. */
export function keyPair(): { readonly certificate: string; readonly key: string } {
  const { certPem, keyPem } = authority.issue()
  return { certificate: certPem, key: keyPem }
}

export function secret(name: string, { certificate, key } = keyPair(), namespace = 'shop'): string {
  const base64 = (text: string): string => Buffer.from(text).toString('base64')
  return `kind: Secret
metadata: {name: ${name}, namespace: ${namespace}}
type: kubernetes.io/tls
data: {tls.crt: "${base64(certificate)}", tls.key: "${base64(key)}"}
---
`
}

/** `more`: further fields of its spec, in flow style. */
export function gateway(
  name: string,
  listeners: readonly string[],
  { className = 'underpass', more = '', metadata = '', status = '' } = {}
): string {
  return `kind: Gateway
metadata: {name: ${name}, uid: uid-${name}, generation: 1, ${metadata}}
spec: {gatewayClassName: ${className}, ${more}${more === '' ? '' : ', '}listeners: [${listeners.join(', ')}]}
status: {${status}}
---
`
}
