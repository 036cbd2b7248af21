/**
 * The name of what a pod belongs to, as telemetry shows it: a Deployment rather than its ReplicaSet, a
 * CronJob rather than its Job. Source: Istio's published rules for `workload_name`.
 */
import type { Labels } from '../cluster/objects.ts'
import type { Fields } from './fields.ts'

export function workloadName(metadata: Fields, labels: Labels): string {
  const name = metadata.text('name')
  // Only what a controller made from a template has a generated name; anything else is its own workload.
  if (metadata.text('generateName') === '') return name
  const label = labels['service.istio.io/workload-name']
  if (label !== undefined && label !== '') return label
  const owner = metadata.list('ownerReferences').find(reference => reference.flag('controller'))
  if (owner === undefined) return name
  const ownerName = owner.text('name')
  switch (owner.text('kind')) {
    case 'ReplicaSet': {
      const hash = labels['pod-template-hash'] ?? labels['rollouts-pod-template-hash'] ?? ''
      return hash !== '' && ownerName.endsWith(`-${hash}`) ? ownerName.slice(0, -hash.length - 1) : ownerName
    }
    case 'ReplicationController':
      return metadata.labels('annotations')['openshift.io/deployment-config.name'] ?? ownerName
    case 'Job':
      return ownerName.replace(/-\d{8,10}$/, '')
    default:
      return ownerName
  }
}
