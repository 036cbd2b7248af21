/** Reads BackendTLSPolicies, and the ConfigMaps that they name. Source: Gateway API v1. */
import type { BackendTlsPolicyObject, ConfigMapObject } from '../cluster/objects.ts'
import { ancestorsText, ownAncestors } from '../translate/backend-tls-status.ts'
import type { Fields } from './fields.ts'
import { readMeta } from './meta.ts'

export function readBackendTlsPolicy(object: Fields): BackendTlsPolicyObject {
  const spec = object.at('spec')
  const validation = spec.at('validation')
  return {
    kind: 'BackendTLSPolicy',
    meta: readMeta(object),
    targets: spec.list('targetRefs').map(target => ({
      field: target.path,
      group: target.text('group'),
      kind: target.text('kind'),
      name: target.text('name'),
      sectionName: target.text('sectionName')
    })),
    hostname: validation.text('hostname'),
    subjectAltNames: validation.list('subjectAltNames').map(name => name.json()),
    authorities: validation.list('caCertificateRefs').map(reference => ({
      field: reference.path,
      group: reference.text('group'),
      kind: reference.text('kind'),
      name: reference.text('name')
    })),
    wellKnown: validation.text('wellKnownCACertificates'),
    reported: ancestorsText(ownAncestors(object.at('status').raw('ancestors')))
  }
}

export function readConfigMap(object: Fields): ConfigMapObject {
  const data = object.at('data')
  return {
    kind: 'ConfigMap',
    meta: readMeta(object),
    authorities: data.has('ca.crt') ? data.text('ca.crt') : undefined
  }
}
