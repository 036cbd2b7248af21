/** The Gateway that a proxy runs for, and certificates that it names, as the control plane sends them. */
import tls from 'node:tls'
import { Fields, Problems } from '../../shared/mesh/yaml-fields.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { ConfigResource } from '../../shared/xds/config-resource.ts'
import { readClientValidation, type ClientValidation } from './client-certificate.ts'
import { hostnameIn } from './hostname.ts'
import type { ListenerName } from './listener-tables.ts'

export interface Listener {
  readonly id: ListenerName
  readonly port: number
  readonly protocol: 'HTTP' | 'HTTPS' | 'TLS' | 'TCP'
  /** `a.b`, `*.b`, or '' for any host; in lower case. */
  readonly hostname: string
  /** `namespace/name` of the Secrets with its certificates; none: TLS is not ended here. */
  readonly certificates: readonly string[]
  /** Who its clients have to prove to be; undefined: nobody is asked. */
  readonly validation: ClientValidation | undefined
}

/** One certificate with its key, ready to be used; the key is nowhere else. */
export interface ServerCertificate {
  readonly cert: string
  readonly key: string
}

/** Throws an Error that names every field that is wrong. */
export function readGateway({ namespace, name, spec }: ConfigResource): readonly Listener[] {
  const problems = new Problems()
  const fields = new Fields(spec, 'spec', problems)
  const listeners = fields.list('listeners', (value, path) =>
    listener(new Fields(value, path, problems), { namespace, gateway: name })
  )
  fields.inner('backendCertificateRef') // read on its own
  fields.end()
  const names = new Set(listeners.map(({ id }) => id.listener))
  if (names.size < listeners.length) problems.add('spec.listeners', 'two of them have the same name')
  if (problems.found.length > 0) throw new Error(problems.found.join('; '))
  return listeners
}

/** `namespace/name` of the Secret with the certificate for backends; undefined: none. Throws as {@link readGateway}. */
export function readBackendCertificate({ spec }: ConfigResource): string | undefined {
  const problems = new Problems()
  const reference = new Fields(spec, 'spec', problems).inner('backendCertificateRef')
  const name = reference && secretName(reference)
  if (problems.found.length > 0) throw new Error(problems.found.join('; '))
  return name
}

function listener(fields: Fields, gateway: Omit<ListenerName, 'listener'>): Listener {
  const { problems, path } = fields
  const id = { ...gateway, listener: fields.text('name') }
  const port = fields.integer('port', 0, 65_535)
  if (port === 0) problems.add(`${path}.port`, 'expected a port from 1 to 65535')
  const protocol = fields.choice('protocol', ['HTTP', 'HTTPS', 'TLS', 'TCP'])
  const hostname = hostnameIn(fields, fields.text('hostname', ''), `${path}.hostname`)
  const tlsFields = fields.inner('tls')
  const mode = tlsFields?.choice('mode', ['Terminate', 'Passthrough'], 'Terminate')
  const certificates =
    tlsFields?.list('certificateRefs', (value, refPath) =>
      secretName(new Fields(value, refPath, problems))
    ) ?? []
  const frontend = tlsFields?.inner('frontend')
  const validation = frontend && readClientValidation(frontend)
  tlsFields?.end()
  fields.end()
  const secure = protocol === 'HTTPS' || protocol === 'TLS'
  if (secure === (mode === undefined)) {
    problems.add(`${path}.tls`, secure ? `is required for ${protocol}` : `${protocol} has no TLS`)
  }
  if (mode === 'Terminate' && certificates.length === 0)
    problems.add(`${path}.tls.certificateRefs`, 'a certificate is required where TLS ends')
  if (mode === 'Passthrough' && protocol === 'HTTPS')
    problems.add(`${path}.tls.mode`, 'HTTPS ends at the gateway: write protocol TLS, or mode Terminate')
  if (mode === 'Passthrough' && validation !== undefined)
    problems.add(`${path}.tls.frontend`, 'clients can be asked for certificates only where TLS ends')
  const shown = mode === 'Passthrough' ? [] : certificates
  return { id, port, protocol, hostname, certificates: shown, validation }
}

function secretName(fields: Fields): string {
  const name = `${fields.text('namespace')}/${fields.text('name')}`
  fields.end()
  return name
}

/** Throws an Error that says what is wrong; it tells nothing of the key. */
export function readServerCertificate({ spec }: ConfigResource): ServerCertificate {
  const problems = new Problems()
  const { 'tls.crt': cert, 'tls.key': key, ...more } = spec
  if (typeof cert !== 'string' || cert === '') problems.add('tls.crt', 'expected a certificate chain as PEM')
  if (typeof key !== 'string' || key === '') problems.add('tls.key', 'expected a private key as PEM')
  for (const name of Object.keys(more)) problems.add(name, 'unknown field; known are tls.crt, tls.key')
  if (problems.found.length > 0) throw new Error(problems.found.join('; '))
  try {
    const made = { cert: String(cert), key: String(key) }
    tls.createSecureContext(made)
    return made
  } catch (error) {
    throw new Error(`tls.crt and tls.key cannot be used together: ${messageOf(error)}`, { cause: error })
  }
}
