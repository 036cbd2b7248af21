/**
 * The certificate with which the xDS and CA port proves itself: that of a folder, if somebody else issues
 * it, else one of our own authority; renewed in time.
 */
import { X509Certificate, createPrivateKey } from 'node:crypto'
import { issueServerCertificate } from '../../shared/identity/issue.ts'
import { sleep, type Clock } from '../../shared/runtime/clock.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { Logger } from '../../shared/telemetry/logger.ts'
import { textOf } from '../ca/files.ts'
import type { CertificateAuthority } from '../ca/authority.ts'
import type { Config } from '../config.ts'
import type { ServingCertificate } from './grpc-server.ts'

export interface ServingOptions {
  readonly config: Pick<Config, 'mesh' | 'servingNames' | 'servingFolder'>
  readonly authority: CertificateAuthority
  readonly clock: Clock
  readonly log: Logger
  readonly signal: AbortSignal
  readonly onRenewed: (certificate: ServingCertificate) => void
}

const lifetimeMs = 365 * 24 * 3_600_000
const skewMs = 2 * 60_000
/** Renewed far more often than needed, so that its expiry is never what fails; files are read again as often. */
const renewMs = 5 * 60_000

/** The first one; later ones, also after a change of the authority, go to `onRenewed`. */
export async function servingCertificate(options: ServingOptions): Promise<ServingCertificate> {
  const { authority, onRenewed, log } = options
  const first = await current(options)
  let last = first
  const renew = async (): Promise<void> => {
    try {
      const next = await current(options)
      if (next.certificatePem !== last.certificatePem || next.clientRootsPem !== last.clientRootsPem)
        onRenewed(next)
      last = next
    } catch (error) {
      log.error('the new serving certificate is not used', { error: messageOf(error) })
    }
  }
  authority.onChange(() => void renew())
  void renewals(renew, options.signal)
  return first
}

async function renewals(renew: () => Promise<void>, signal: AbortSignal): Promise<void> {
  while (await sleep(renewMs, signal)) await renew()
}

async function current(options: ServingOptions): Promise<ServingCertificate> {
  const { servingFolder } = options.config
  const certificatePem = await textOf(servingFolder, 'tls.crt')
  if (certificatePem === undefined) return issue(options)
  const keyPem = await textOf(servingFolder, 'tls.key')
  if (keyPem === undefined) throw new Error(`${servingFolder} holds tls.crt but not tls.key`)
  if (!new X509Certificate(certificatePem).checkPrivateKey(createPrivateKey(keyPem))) {
    throw new Error(`${servingFolder}: tls.key belongs to another certificate than tls.crt`)
  }
  // Whoever issues it says whom to trust, or the roots are ours.
  const rootsPem = await textOf(servingFolder, 'ca.crt')
  return { certificatePem, keyPem, clientRootsPem: rootsPem ?? options.authority.bundlePem }
}

function issue({ config, authority, clock }: ServingOptions): ServingCertificate {
  const { systemNamespace, revision } = config.mesh
  const services = [
    'istiod',
    ...(revision === 'default' ? [] : [`istiod-${revision}`]),
    'istio-pilot',
    'istiod-remote'
  ]
  const names = [
    ...services.flatMap(service => [`${service}.${systemNamespace}.svc`, `${service}.${systemNamespace}`]),
    'localhost',
    ...config.servingNames
  ]
  const now = clock.now()
  const pair = issueServerCertificate({
    names: [...new Set(names)],
    issuer: authority.issuer,
    notBefore: now - skewMs,
    notAfter: now + lifetimeMs
  })
  return { ...pair, clientRootsPem: authority.bundlePem }
}
