/** The certificate with which the xDS and CA port proves itself, issued by our own authority and renewed in time. */
import { issueServerCertificate } from '../shared/identity/issue.ts'
import type { Clock } from '../shared/runtime/clock.ts'
import { sleep } from '../shared/runtime/clock.ts'
import type { CertificateAuthority } from './ca.ts'
import type { Config } from './config.ts'
import type { ServingCertificate } from './grpc-server.ts'

export interface ServingOptions {
  readonly config: Pick<Config, 'mesh' | 'servingNames'>
  readonly authority: CertificateAuthority
  readonly clock: Clock
  readonly signal: AbortSignal
  readonly onRenewed: (certificate: ServingCertificate) => void
}

const lifetimeMs = 365 * 24 * 3_600_000
const skewMs = 2 * 60_000
/** Renewed far more often than needed, so that its expiry is never what fails. */
const renewMs = 24 * 3_600_000

/** The first one; later ones, also after a change of the authority, go to `onRenewed`. */
export function servingCertificate(options: ServingOptions): ServingCertificate {
  const { authority, signal, onRenewed } = options
  authority.onChange(() => onRenewed(issue(options)))
  void renewals(options, signal)
  return issue(options)
}

async function renewals(options: ServingOptions, signal: AbortSignal): Promise<void> {
  while (await sleep(renewMs, signal)) options.onRenewed(issue(options))
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
