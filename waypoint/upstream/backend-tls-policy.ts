/**
 * BackendTLSPolicies as the control plane sends them: services instead of references, certificates instead of names.
 * Source: Gateway API v1, BackendTLSPolicy.
 */
import { X509Certificate } from 'node:crypto'
import { splitPem } from '../../shared/identity/certificate.ts'
import { Fields, Problems } from '../../shared/mesh/yaml-fields.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { ConfigResource } from '../../shared/xds/config-resource.ts'
import type { BackendTls, ServerName } from '../traffic-policy.ts'

export interface BackendTlsPolicy {
  readonly createdMs: number
  /** `namespace/name`. */
  readonly name: string
  readonly targets: readonly BackendTarget[]
  /** What it asks for, or why nobody can do that: then requests fail rather than go in the clear. */
  readonly asks: BackendTls | { readonly unresolved: string }
}

export interface BackendTarget {
  readonly namespace: string
  readonly hostname: string
  /** Undefined: all ports without a policy of their own. */
  readonly port: number | undefined
}

/** Throws an Error that names every field that is wrong. */
export function readBackendTlsPolicy({ namespace, name, createdMs, spec }: ConfigResource): BackendTlsPolicy {
  const problems = new Problems()
  const fields = new Fields(spec, 'spec', problems)
  const targets = readTargets(fields)
  if (targets.length === 0) problems.add('spec.targetRefs', 'expected at least one')
  const unresolved = fields.text('unresolved', '')
  const validation = fields.inner('validation')
  fields.end()
  if (unresolved === '' && validation === undefined) problems.add('spec.validation', 'is required')
  const asks = unresolved === '' && validation !== undefined ? readValidation(validation) : { unresolved }
  if (problems.found.length > 0) throw new Error(problems.found.join('; '))
  return { createdMs, name: `${namespace}/${name}`, targets, asks }
}

/** In place of one that cannot be read and is not known from before. Undefined where nobody can tell its services. */
export function unreadableBackendTlsPolicy({
  namespace,
  name,
  createdMs,
  spec
}: ConfigResource): BackendTlsPolicy | undefined {
  const targets = readTargets(new Fields(spec, 'spec', new Problems())) // they are told already
  if (targets.length === 0) return undefined
  const unresolved = 'it was not understood; the log of the waypoint says why'
  return { createdMs, name: `${namespace}/${name}`, targets, asks: { unresolved } }
}

function readTargets(spec: Fields): readonly BackendTarget[] {
  return spec.list('targetRefs', (value, path) => {
    const fields = new Fields(value, path, spec.problems)
    const port = fields.integer('port', 0, 65_535)
    const target = {
      namespace: fields.text('namespace'),
      hostname: fields.text('hostname'),
      port: port === 0 ? undefined : port
    }
    fields.end()
    return target
  })
}

function readValidation(fields: Fields): BackendTls {
  const { problems, path } = fields
  const serverName = fields.text('hostname')
  if (serverName === '') problems.add(`${path}.hostname`, 'must not be empty')
  const names = fields.list('subjectAltNames', (value, at) => readName(new Fields(value, at, problems)))
  const roots = fields.text('caCertificates')
  fields.end()
  const problem = roots === '' ? undefined : problemOfCertificates(roots)
  if (problem !== undefined) problems.add(`${path}.caCertificates`, problem)
  return { serverName, names, roots: roots === '' ? undefined : roots, verified: true }
}

function problemOfCertificates(pem: string): string | undefined {
  try {
    const found = splitPem(pem).map(each => new X509Certificate(each))
    return found.length > 0 ? undefined : 'expected certificates as PEM'
  } catch (error) {
    return `expected certificates as PEM (${messageOf(error)})`
  }
}

function readName(fields: Fields): ServerName {
  const type = fields.choice('type', ['Hostname', 'URI'])
  const value = fields.text(type === 'URI' ? 'uri' : 'hostname')
  fields.end()
  if (value === '') fields.problems.add(fields.path, `an empty ${type} is no name`)
  return { kind: type === 'URI' ? 'uri' : 'hostname', value }
}
