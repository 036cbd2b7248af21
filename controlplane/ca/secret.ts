/**
 * The control plane's own root, kept in Secret `istio-ca-secret` of the system namespace in the layout that
 * istiod reads and writes, so that either can take over from the other with the same root.
 */
import { X509Certificate } from 'node:crypto'
import { createRoot, issuerOf, type Issuer, type SigningPair } from '../../shared/identity/issue.ts'
import type { KubeClient } from '../../shared/kube/client.ts'
import { isConflict } from '../../shared/kube/errors.ts'
import { secrets, type Secret } from '../../shared/kube/core-api.ts'

export const caSecretName = 'istio-ca-secret'

const lifetimeMs = 10 * 365 * 24 * 3_600_000
/** A root is made anew, with the same key, when less than this share of its life is left. */
const graceShare = 0.2
const skewMs = 2 * 60_000

export interface CaSecretOptions {
  readonly client: Pick<KubeClient, 'find' | 'create' | 'replace'>
  readonly namespace: string
  /** `O` of the root's subject. */
  readonly trustDomain: string
  readonly now: number
  readonly signal?: AbortSignal
}

/**
 * Reads the root, making it where there is none; whoever comes second reads what the first made. Near its
 * end the root is renewed with its key kept, so that chains verify with the old certificate and the new one.
 */
export async function caFromSecret(options: CaSecretOptions): Promise<Issuer> {
  const { client, namespace, now, signal } = options
  const found = await client.find(secrets, { namespace, name: caSecretName }, signal)
  const secret = found ?? (await createSecret(options))
  const pair = pairOf(secret, namespace)
  if (!nearItsEnd(pair.certificatePem, now)) return issuerFrom(pair, textOf(secret, 'root-cert.pem'))
  const renewed = createRoot({
    organization: options.trustDomain,
    notBefore: now - skewMs,
    notAfter: now + lifetimeMs,
    keyPem: pair.keyPem
  })
  // The old certificate stays in the bundle: until everybody has the new one, it is what they know.
  const rootsPem = renewed.certificatePem + pair.certificatePem
  try {
    const body = { ...secret, data: dataOf(renewed, rootsPem) }
    await client.replace(secrets, body, signal === undefined ? {} : { signal })
  } catch (error) {
    if (!isConflict(error)) throw error
    return caFromSecret(options) // another replica renewed it
  }
  return issuerFrom(renewed, rootsPem)
}

async function createSecret(options: CaSecretOptions): Promise<Secret> {
  const { client, namespace, now, signal } = options
  const pair = createRoot({
    organization: options.trustDomain,
    notBefore: now - skewMs,
    notAfter: now + lifetimeMs
  })
  const secret: Secret = {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { namespace, name: caSecretName },
    type: 'istio.io/ca-root',
    data: dataOf(pair, pair.certificatePem)
  }
  try {
    return await client.create(secrets, secret, signal === undefined ? {} : { signal })
  } catch (error) {
    if (!isConflict(error)) throw error
    const found = await client.find(secrets, { namespace, name: caSecretName }, signal)
    if (found === undefined) throw error
    return found
  }
}

function dataOf(pair: SigningPair, rootsPem: string): Record<string, string> {
  const base64 = (text: string): string => Buffer.from(text).toString('base64')
  return {
    'ca-cert.pem': base64(pair.certificatePem),
    'ca-key.pem': base64(pair.keyPem),
    'cert-chain.pem': '',
    'key.pem': '',
    'root-cert.pem': base64(rootsPem)
  }
}

function textOf(secret: Secret, key: string): string {
  return Buffer.from(secret.data?.[key] ?? '', 'base64').toString()
}

function pairOf(secret: Secret, namespace: string): SigningPair {
  const pair = { certificatePem: textOf(secret, 'ca-cert.pem'), keyPem: textOf(secret, 'ca-key.pem') }
  if (pair.certificatePem === '' || pair.keyPem === '') {
    throw new Error(
      `Secret ${namespace}/${caSecretName} lacks ca-cert.pem or ca-key.pem; delete it to get a new root`
    )
  }
  return pair
}

function issuerFrom(pair: SigningPair, rootsPem: string): Issuer {
  return issuerOf({ ...pair, rootsPem: rootsPem === '' ? pair.certificatePem : rootsPem })
}

function nearItsEnd(pem: string, now: number): boolean {
  const certificate = new X509Certificate(pem)
  const [from, to] = [Date.parse(certificate.validFrom), Date.parse(certificate.validTo)]
  return to - now < (to - from) * graceShare
}
