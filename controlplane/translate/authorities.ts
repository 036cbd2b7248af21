/** The certificates of a ConfigMap that names authorities. Source: Gateway API v1, `caCertificateRefs`. */
import { X509Certificate } from 'node:crypto'
import { splitPem } from '../../shared/identity/certificate.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { ConfigMapObject } from '../cluster/objects.ts'

/** PEM texts, or what is wrong, as the beginning of a sentence. */
export function authoritiesIn(configMap: ConfigMapObject | undefined): readonly string[] | string {
  const text = configMap?.authorities
  if (text === undefined) return 'there is no ca.crt in a'
  const pems = splitPem(text)
  if (pems.length === 0) return 'there is no PEM certificate in ca.crt of'
  try {
    for (const pem of pems) void new X509Certificate(pem)
    return pems
  } catch (error) {
    return `a certificate cannot be read (${messageOf(error)}) in ca.crt of`
  }
}
