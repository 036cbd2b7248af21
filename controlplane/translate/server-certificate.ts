/** Whether a Gateway may show a certificate, and whether it can. Source: Gateway API v1, `certificateRefs` of a listener. */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { splitPem } from '../../shared/identity/certificate.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { ClusterView } from '../cluster/cluster.ts'
import { keyOf, type CertificateReference, type SecretObject } from '../cluster/objects.ts'
import { isGranted } from './reference-grant.ts'

export type CertificateResolution =
  | { readonly kind: 'resolved'; readonly secret: SecretObject }
  | {
      readonly kind: 'unresolved'
      readonly reason: 'RefNotPermitted' | 'InvalidCertificateRef'
      /** With the field. */
      readonly message: string
    }

/** `namespace` is that of the Gateway. */
export function resolveCertificate(
  view: ClusterView,
  namespace: string,
  reference: CertificateReference
): CertificateResolution {
  const { field, group, kind } = reference
  if (group !== '' || kind !== 'Secret') {
    const shown = group === '' ? kind : `${group}/${kind}`
    return unresolved('InvalidCertificateRef', `${field}: kind ${shown} is not supported; use Secret`)
  }
  const key = keyOf(reference)
  // Without leave not even its existence is told.
  if (!isGranted(view, { kind: 'Gateway', namespace }, reference)) {
    const message = `${field}: Secret ${key} is of another namespace, where no ReferenceGrant admits Gateways of ${namespace}`
    return unresolved('RefNotPermitted', message)
  }
  const secret = view.get('Secret', key)
  if (secret === undefined) {
    return unresolved(
      'InvalidCertificateRef',
      `${field}: there is no Secret ${key} of type kubernetes.io/tls`
    )
  }
  const problem = knownProblem(secret)
  return problem === undefined
    ? { kind: 'resolved', secret }
    : unresolved('InvalidCertificateRef', `${field}: ${problem} of Secret ${key}`)
}

/** A Secret never changes, it is replaced; a listener is looked at whenever one of its routes changes. */
const problems = new WeakMap<SecretObject, { readonly problem: string | undefined }>()

function knownProblem(secret: SecretObject): string | undefined {
  let known = problems.get(secret)
  if (known === undefined) problems.set(secret, (known = { problem: certificateProblem(secret) }))
  return known.problem
}

/** Never with a part of what the Secret holds. */
function certificateProblem({ certificate, key }: SecretObject): string | undefined {
  let leaf: X509Certificate | undefined
  try {
    ;[leaf] = splitPem(certificate).map(pem => new X509Certificate(pem))
  } catch (error) {
    return `a certificate cannot be read (${messageOf(error)}) in tls.crt`
  }
  if (leaf === undefined) return 'there is no PEM certificate in tls.crt'
  try {
    return leaf.checkPrivateKey(createPrivateKey(key))
      ? undefined
      : 'the certificate of tls.crt does not belong to the key of tls.key'
  } catch {
    return 'there is no usable PEM private key in tls.key'
  }
}

function unresolved(
  reason: Extract<CertificateResolution, { kind: 'unresolved' }>['reason'],
  message: string
): CertificateResolution {
  return { kind: 'unresolved', reason, message }
}
