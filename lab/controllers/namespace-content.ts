/** What every namespace has from the start: the account `default` and the cluster's root certificate. */
import { configMaps, namespaces, serviceAccounts } from '../../shared/kube/core-api.ts'
import type { ObjectAccess } from '../api-store/object-access.ts'
import type { Controller } from './reconciler.ts'

export const rootCertificateName = 'kube-root-ca.crt'

export function namespaceContentController(caPem: string): Controller {
  return {
    name: 'namespace-content',
    watches: [
      { type: namespaces, keysOf: ({ metadata }) => [metadata.name] },
      // Both come back when somebody deletes them.
      {
        type: serviceAccounts,
        keysOf: ({ metadata }) => (metadata.name === 'default' ? [metadata.namespace ?? ''] : [])
      },
      {
        type: configMaps,
        keysOf: ({ metadata }) => (metadata.name === rootCertificateName ? [metadata.namespace ?? ''] : [])
      }
    ],
    reconcile: (objects, namespace) => reconcile(objects, namespace, caPem)
  }
}

function reconcile(objects: ObjectAccess, namespace: string, caPem: string): void {
  const found = objects.get(namespaces, { name: namespace })
  if (found === undefined || found.metadata.deletionTimestamp !== undefined) return
  if (objects.get(serviceAccounts, { namespace, name: 'default' }) === undefined) {
    objects.create(serviceAccounts, {
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { namespace, name: 'default' }
    })
  }
  const content = { 'ca.crt': caPem }
  const map = objects.get(configMaps, { namespace, name: rootCertificateName })
  if (map === undefined) {
    objects.create(configMaps, {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { namespace, name: rootCertificateName },
      data: content
    })
  } else if (map.data?.['ca.crt'] !== caPem) {
    objects.update(configMaps, { ...map, data: content })
  }
}
