/** `tls` of a traffic policy. Source: Istio's published ClientTLSSettings. */
import type { Fields } from '../../shared/mesh/yaml-fields.ts'
import { serverNameOf, type BackendTls } from '../traffic-policy.ts'
import { readText, type Unsupported } from './read-part.ts'

const modes = ['DISABLE', 'SIMPLE', 'MUTUAL', 'ISTIO_MUTUAL'] as const

/** Files, which waypoints do not have, and Secrets, which they are not sent. */
const credentials = ['clientCertificate', 'privateKey', 'caCertificates', 'caCrl', 'credentialName'] as const

/** DISABLE and ISTIO_MUTUAL are the same: nothing but the mesh's own tunnel. */
export function readTls(fields: Fields, unsupported: Unsupported): { readonly tls: BackendTls | undefined } {
  const mode = fields.choice('mode', modes, 'DISABLE')
  const named = credentials.map(name => [name, fields.text(name, '')] as const)
  const serverName = fields.text('sni', '')
  const names = fields.list('subjectAltNames', (value, path) => readText(value, path, fields.problems))
  const skipsVerification = fields.flag('insecureSkipVerify', false)
  if (mode !== 'SIMPLE' && mode !== 'MUTUAL') return { tls: undefined }
  if (mode === 'MUTUAL') {
    const remedy = 'use SIMPLE with servers that ask for none'
    unsupported.add(`${fields.path}.mode`, `MUTUAL: waypoints show no certificates of their own; ${remedy}`)
  } else {
    for (const [name, value] of named) {
      // `system`: what is meant without it, too.
      if (value === '' || (name === 'caCertificates' && value === 'system')) continue
      const remedy = 'name the CA certificates in a BackendTLSPolicy'
      unsupported.add(`${fields.path}.${name}`, `is not carried out by waypoints; ${remedy}`)
    }
  }
  return {
    tls: { serverName, roots: undefined, names: names.map(serverNameOf), verified: !skipsVerification }
  }
}
