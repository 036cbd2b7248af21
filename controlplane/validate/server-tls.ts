/** TLS of servers: of Gateways and of a Sidecar's ingress. Source: Istio's published definition of ServerTLSSettings. */
import type { Fields } from '../read/fields.ts'
import type { Findings } from './finding.ts'

const modes = [
  'PASSTHROUGH',
  'SIMPLE',
  'MUTUAL',
  'AUTO_PASSTHROUGH',
  'ISTIO_MUTUAL',
  'OPTIONAL_MUTUAL'
] as const
export type ServerTlsMode = (typeof modes)[number]

export function serverTlsMode(tls: Fields): ServerTlsMode {
  return tls.oneOf('mode', modes, 'PASSTHROUGH')
}

const ciphers = new Set(
  (
    'ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-RSA-AES128-GCM-SHA256 ECDHE-ECDSA-AES256-GCM-SHA384 ' +
    'ECDHE-RSA-AES256-GCM-SHA384 ECDHE-ECDSA-CHACHA20-POLY1305 ECDHE-RSA-CHACHA20-POLY1305 ' +
    'ECDHE-ECDSA-AES128-SHA ECDHE-RSA-AES128-SHA ECDHE-ECDSA-AES256-SHA ECDHE-RSA-AES256-SHA ' +
    'AES128-GCM-SHA256 AES256-GCM-SHA384 AES128-SHA AES256-SHA DES-CBC3-SHA'
  ).split(' ')
)

const texts = ['serverCertificate', 'privateKey', 'caCertificates', 'credentialName']

export function checkServerTls(tls: Fields, findings: Findings): void {
  const mode = serverTlsMode(tls)
  checkCiphers(tls, findings)
  const set = [
    ...texts.filter(name => tls.text(name) !== ''),
    ...(tls.texts('credentialNames').length > 0 ? ['credentialNames'] : []),
    ...(tls.list('tlsCertificates').length > 0 ? ['tlsCertificates'] : [])
  ]
  if (mode === 'ISTIO_MUTUAL') {
    for (const name of set) {
      findings.error(
        tls.pathOf(name),
        'is not for mode ISTIO_MUTUAL, which has certificates of its own',
        'leave it out'
      )
    }
    return
  }
  if (mode.endsWith('PASSTHROUGH') && (set.length > 0 || tls.text('caCrl') !== '')) {
    findings.warn(tls.path, `mode ${mode} uses no certificates`, 'leave them out')
  }
  const [pair, named, names, list] = [
    set.includes('serverCertificate') && set.includes('privateKey'),
    set.includes('credentialName'),
    set.includes('credentialNames'),
    set.includes('tlsCertificates')
  ]
  if ([pair, named, names, list].filter(Boolean).length > 1) {
    const ways = 'credentialName, credentialNames, serverCertificate with privateKey, tlsCertificates'
    findings.error(tls.path, `names certificates in more than one of ${ways}`, 'keep one of them')
  }
  if (mode.endsWith('PASSTHROUGH')) checkRevocation(tls, mode, findings)
  else if (!named && !names) {
    checkCertificates(tls, mode, findings)
    checkRevocation(tls, mode, findings)
  }
}

function checkCiphers(tls: Fields, findings: Findings): void {
  const field = tls.pathOf('cipherSuites')
  const suites = tls.texts('cipherSuites')
  if (['TLSV1_0', 'TLSV1_1'].includes(tls.text('minProtocolVersion')) && suites.length === 0) {
    findings.warn(field, 'versions below TLS 1.2 have no cipher by default', 'name ciphers that they know')
  }
  for (const [index, suite] of suites.entries()) {
    const known = suite === '' || suite === 'ALL' || /^[^\p{L}\p{N}]/u.test(suite) || ciphers.has(suite)
    if (!known)
      findings.warn(`${field}[${index}]`, `${suite} is not known and left out`, 'use a name of OpenSSL')
    else if (suites.indexOf(suite) < index) {
      findings.warn(`${field}[${index}]`, `${suite} is named twice`, 'name it once')
    }
  }
}

function checkCertificates(tls: Fields, mode: ServerTlsMode, findings: Findings): void {
  if (mode !== 'SIMPLE' && tls.text('caCertificates') === '') {
    findings.error(
      tls.pathOf('caCertificates'),
      'is missing',
      `mode ${mode} verifies clients: name their authority`
    )
  }
  const certificates = tls.list('tlsCertificates')
  if (certificates.length > 2) {
    findings.warn(
      tls.pathOf('tlsCertificates'),
      'there are more than two',
      'name one RSA and one ECDSA certificate'
    )
  }
  for (const certificate of certificates.length > 0 ? certificates : [tls]) {
    for (const name of ['serverCertificate', 'privateKey']) {
      if (certificate.text(name) === '') {
        findings.error(certificate.pathOf(name), 'is missing', `mode ${mode} takes one, or a credentialName`)
      }
    }
  }
}

function checkRevocation(tls: Fields, mode: ServerTlsMode, findings: Findings): void {
  if (tls.text('caCrl') === '') return
  if (tls.text('credentialName') !== '') {
    findings.error(tls.pathOf('caCrl'), 'stands beside credentialName', 'put the list into the credential')
  }
  if (mode === 'SIMPLE')
    findings.error(tls.pathOf('caCrl'), 'is for certificates of clients', 'use mode MUTUAL')
}
