/**
 * Certificates of a gateway's clients: by which authorities they are verified, and what is told of one that was.
 * Sources: Gateway API v1, FrontendTLSValidation; Envoy's published form of x-forwarded-client-cert, with the fields that
 * Istio's gateways set.
 */
import { X509Certificate } from 'node:crypto'
import type tls from 'node:tls'
import type { Fields } from '../../shared/mesh/yaml-fields.ts'
import { alternativeNames, splitPem } from '../../shared/identity/certificate.ts'
import { messageOf } from '../../shared/runtime/errors.ts'

export interface ClientValidation {
  /** `AllowInsecureFallback`: clients without a certificate that can be verified are let in as well. */
  readonly mode: 'AllowValidOnly' | 'AllowInsecureFallback'
  /** PEM, at least one. */
  readonly caCertificates: string
}

export function readClientValidation(fields: Fields): ClientValidation {
  const mode = fields.choice('mode', ['AllowValidOnly', 'AllowInsecureFallback'], 'AllowValidOnly')
  const caCertificates = fields.text('caCertificates')
  const path = `${fields.path}.caCertificates`
  const pems = splitPem(caCertificates)
  // Without any, TLS would trust those of the system.
  if (pems.length === 0) fields.problems.add(path, 'expected certificates as PEM')
  try {
    for (const pem of pems) void new X509Certificate(pem)
  } catch (error) {
    fields.problems.add(path, `a certificate cannot be read: ${messageOf(error)}`)
  }
  fields.end()
  return { mode, caCertificates }
}

export function isSameValidation(
  one: ClientValidation | undefined,
  other: ClientValidation | undefined
): boolean {
  return one?.mode === other?.mode && one?.caCertificates === other?.caCertificates
}

/** The value of x-forwarded-client-cert; undefined for a client without a certificate that was verified. */
export function forwardedCertificate(socket: tls.TLSSocket): string | undefined {
  const leaf = socket.authorized ? socket.getPeerX509Certificate() : undefined
  if (leaf === undefined) return undefined
  const { fingerprint256, subject, subjectAltName } = leaf
  return [
    `Hash=${fingerprint256.replaceAll(':', '').toLowerCase()}`,
    `Cert="${encodeURIComponent(leaf.toString())}"`,
    `Subject="${subjectText(subject)}"`,
    ...alternativeNames(subjectAltName, 'URI').map(name => `URI=${nameText(name)}`),
    ...alternativeNames(subjectAltName, 'DNS').map(name => `DNS=${nameText(name)}`)
  ].join(';')
}

/** One line, the most specific part first (RFC 4514); Node gives a line a part, with what is special escaped. */
function subjectText(subject: string | undefined): string {
  const parts = (subject ?? '').split('\n').filter(part => part !== '')
  return parts
    .toReversed()
    .join(',')
    .replace(/[^\x20-\x7e]/gu, character =>
      [...Buffer.from(character)]
        .map(byte => `\\${byte.toString(16).padStart(2, '0').toUpperCase()}`)
        .join('')
    )
}

/** Nothing in a name may end it: with `;` another field begins, with `,` another certificate. */
function nameText(name: string): string {
  return name.replace(/[^\x21-\x7e]|[;,"\\]/gu, encodeURIComponent)
}
