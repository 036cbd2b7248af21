/** What `kubectl get` shows of the builtin kinds. Source: the tables of Kubernetes 1.36. */
import { at, listOf, numberOf, objectOf, scalarText, textOf, type JsonObject } from '../json.ts'
import type { ApiObject } from '../object.ts'
import { formatLabelSelector } from '../selectors.ts'
import {
  accessModes,
  endpointsSummary,
  externalAddress,
  involvedObject,
  jobDuration,
  jobStatus,
  joined,
  loadBalancerAddresses,
  nodeAddress,
  nodeRoles,
  nodeStatus,
  none,
  readinessGates,
  servicePorts,
  shortened
} from './cells.ts'
import { age } from './duration.ts'
import { podReady, podRestarts, podStatus } from './pod-summary.ts'

export interface Column {
  readonly name: string
  readonly type: 'string' | 'integer' | 'boolean' | 'date'
  readonly format: '' | 'name'
  /** 0 = always shown, 1 = with `-o wide`. */
  readonly priority: number
  readonly cell: (object: ApiObject, now: number) => unknown
}

type Cell = Column['cell']

function text(name: string, cell: Cell): Column {
  return { name, type: 'string', format: '', priority: 0, cell }
}

function wide(name: string, cell: Cell): Column {
  return { ...text(name, cell), priority: 1 }
}

function whole(name: string, cell: Cell): Column {
  return { ...text(name, cell), type: 'integer' }
}

function truth(name: string, cell: Cell): Column {
  return { ...text(name, cell), type: 'boolean' }
}

const nameColumn: Column = { ...text('Name', object => object.metadata.name), format: 'name' }
const ageColumn = text('Age', (object, now) => age(object.metadata.creationTimestamp, now))
const createdAt: Column = { ...text('Created At', object => object.metadata.creationTimestamp), type: 'date' }

/** For kinds without columns of their own. */
export const defaultColumns: readonly Column[] = [nameColumn, createdAt]

const count = (value: unknown): number =>
  Array.isArray(value) ? value.length : Object.keys(objectOf(value)).length
const number = (object: JsonObject, ...path: string[]): number => numberOf(at(object, ...path)) ?? 0
const labels = (value: unknown): string => formatLabelSelector(objectOf(value)) || none

function templateColumns(...path: string[]): Column[] {
  const containers = (object: ApiObject): readonly JsonObject[] =>
    listOf(at(object, ...path, 'spec', 'containers')).map(objectOf)
  return [
    wide('Containers', object => joined(containers(object).map(({ name }) => name))),
    wide('Images', object => joined(containers(object).map(({ image }) => image)))
  ]
}

const workloadTemplate = templateColumns('spec', 'template')
const selectorColumn = wide('Selector', object => labels(at(object, 'spec', 'selector')))
const replicaColumns = [
  whole('Desired', object => number(object, 'spec', 'replicas')),
  whole('Current', object => number(object, 'status', 'replicas')),
  whole('Ready', object => number(object, 'status', 'readyReplicas'))
]
const webhooks = whole('Webhooks', object => count(object['webhooks']))
const subjects =
  (kind: string): Cell =>
  object =>
    listOf(object['subjects'])
      .map(objectOf)
      .filter(subject => subject['kind'] === kind)
      .map(({ namespace, name }) =>
        kind === 'ServiceAccount' ? `${textOf(namespace)}/${textOf(name)}` : textOf(name)
      )
      .join(', ')
const bindingColumns = [
  nameColumn,
  text('Role', ({ roleRef }) => `${textOf(at(roleRef, 'kind'))}/${textOf(at(roleRef, 'name'))}`),
  ageColumn,
  wide('Users', subjects('User')),
  wide('Groups', subjects('Group')),
  wide('ServiceAccounts', subjects('ServiceAccount'))
]

/** By collection, `group/plural`. */
export const builtinColumns: Readonly<Record<string, readonly Column[]>> = {
  '/pods': [
    nameColumn,
    text('Ready', podReady),
    text('Status', podStatus),
    text('Restarts', podRestarts),
    ageColumn,
    wide('IP', object => textOf(at(object, 'status', 'podIP')) || none),
    wide('Node', object => textOf(at(object, 'spec', 'nodeName')) || none),
    wide('Nominated Node', object => textOf(at(object, 'status', 'nominatedNodeName')) || none),
    wide('Readiness Gates', object =>
      count(at(object, 'spec', 'readinessGates')) === 0 ? none : readinessGates(object)
    )
  ],
  '/services': [
    nameColumn,
    text('Type', object => at(object, 'spec', 'type')),
    text('Cluster-IP', object => textOf(at(object, 'spec', 'clusterIP')) || none),
    text('External-IP', externalAddress),
    text('Port(s)', servicePorts),
    ageColumn,
    wide('Selector', object => labels(at(object, 'spec', 'selector')))
  ],
  '/nodes': [
    nameColumn,
    text('Status', nodeStatus),
    text('Roles', nodeRoles),
    ageColumn,
    text('Version', object => textOf(at(object, 'status', 'nodeInfo', 'kubeletVersion'))),
    wide('Internal-IP', object => nodeAddress(object, 'InternalIP')),
    wide('External-IP', object => nodeAddress(object, 'ExternalIP')),
    wide('OS-Image', object => textOf(at(object, 'status', 'nodeInfo', 'osImage')) || '<unknown>'),
    wide(
      'Kernel-Version',
      object => textOf(at(object, 'status', 'nodeInfo', 'kernelVersion')) || '<unknown>'
    ),
    wide(
      'Container-Runtime',
      object => textOf(at(object, 'status', 'nodeInfo', 'containerRuntimeVersion')) || '<unknown>'
    )
  ],
  '/namespaces': [nameColumn, text('Status', object => at(object, 'status', 'phase')), ageColumn],
  '/configmaps': [
    nameColumn,
    text('Data', object => count(object['data']) + count(object['binaryData'])),
    ageColumn
  ],
  '/secrets': [
    nameColumn,
    text('Type', ({ type }) => type),
    text('Data', object => count(object['data'])),
    ageColumn
  ],
  '/serviceaccounts': [nameColumn, ageColumn],
  '/endpoints': [nameColumn, text('Endpoints', endpointsSummary), ageColumn],
  '/events': [
    text('Last Seen', (object, now) =>
      age(object['lastTimestamp'] ?? object['eventTime'] ?? object.metadata.creationTimestamp, now)
    ),
    text('Type', ({ type }) => type),
    text('Reason', ({ reason }) => reason),
    text('Object', involvedObject),
    wide('Subobject', object => textOf(at(object, 'involvedObject', 'fieldPath'))),
    wide('Source', object =>
      [at(object, 'source', 'component'), at(object, 'source', 'host')].filter(Boolean).join(', ')
    ),
    text('Message', ({ message }) => textOf(message).trim()),
    wide('First Seen', (object, now) =>
      age(object['firstTimestamp'] ?? object['eventTime'] ?? object.metadata.creationTimestamp, now)
    ),
    wide('Count', object => String(numberOf(object['count']) ?? 1)),
    { ...nameColumn, priority: 1 }
  ],
  '/persistentvolumeclaims': [
    nameColumn,
    text('Status', object => at(object, 'status', 'phase')),
    text('Volume', object => textOf(at(object, 'spec', 'volumeName'))),
    text('Capacity', object => textOf(at(object, 'status', 'capacity', 'storage'))),
    text('Access Modes', object => accessModes(at(object, 'status', 'accessModes'))),
    text('StorageClass', object => textOf(at(object, 'spec', 'storageClassName'))),
    text(
      'VolumeAttributesClass',
      object => textOf(at(object, 'spec', 'volumeAttributesClassName')) || '<unset>'
    ),
    ageColumn,
    wide('VolumeMode', object => textOf(at(object, 'spec', 'volumeMode')) || '<unset>')
  ],
  '/replicationcontrollers': [nameColumn, ...replicaColumns, ageColumn, ...workloadTemplate, selectorColumn],
  'apps/replicasets': [nameColumn, ...replicaColumns, ageColumn, ...workloadTemplate, selectorColumn],
  'apps/deployments': [
    nameColumn,
    text(
      'Ready',
      object => `${number(object, 'status', 'readyReplicas')}/${number(object, 'spec', 'replicas')}`
    ),
    text('Up-to-date', object => number(object, 'status', 'updatedReplicas')),
    text('Available', object => number(object, 'status', 'availableReplicas')),
    ageColumn,
    ...workloadTemplate,
    selectorColumn
  ],
  'apps/statefulsets': [
    nameColumn,
    text(
      'Ready',
      object => `${number(object, 'status', 'readyReplicas')}/${number(object, 'spec', 'replicas')}`
    ),
    ageColumn,
    ...workloadTemplate
  ],
  'apps/daemonsets': [
    nameColumn,
    whole('Desired', object => number(object, 'status', 'desiredNumberScheduled')),
    whole('Current', object => number(object, 'status', 'currentNumberScheduled')),
    whole('Ready', object => number(object, 'status', 'numberReady')),
    whole('Up-to-date', object => number(object, 'status', 'updatedNumberScheduled')),
    whole('Available', object => number(object, 'status', 'numberAvailable')),
    text('Node Selector', object => labels(at(object, 'spec', 'template', 'spec', 'nodeSelector'))),
    ageColumn,
    ...workloadTemplate,
    selectorColumn
  ],
  'apps/controllerrevisions': [
    nameColumn,
    text('Controller', object => {
      const owner = object.metadata.ownerReferences?.find(({ controller }) => controller === true)
      return owner === undefined ? none : `${owner.kind.toLowerCase()}/${owner.name}`
    }),
    text('Revision', ({ revision }) => String(numberOf(revision) ?? 0)),
    ageColumn
  ],
  'batch/jobs': [
    nameColumn,
    text('Status', jobStatus),
    text(
      'Completions',
      object => `${number(object, 'status', 'succeeded')}/${numberOf(at(object, 'spec', 'completions')) ?? 1}`
    ),
    text('Duration', jobDuration),
    ageColumn,
    ...workloadTemplate,
    selectorColumn
  ],
  'batch/cronjobs': [
    nameColumn,
    text('Schedule', object => at(object, 'spec', 'schedule')),
    text('Timezone', object => textOf(at(object, 'spec', 'timeZone')) || none),
    truth('Suspend', object => (at(object, 'spec', 'suspend') === true ? 'True' : 'False')),
    whole('Active', object => count(at(object, 'status', 'active'))),
    text('Last Schedule', (object, now) => {
      const last = at(object, 'status', 'lastScheduleTime')
      return last === undefined ? none : age(last, now)
    }),
    ageColumn,
    ...templateColumns('spec', 'jobTemplate', 'spec', 'template'),
    wide('Selector', object => labels(at(object, 'spec', 'jobTemplate', 'spec', 'selector')))
  ],
  'autoscaling/horizontalpodautoscalers': [
    nameColumn,
    text(
      'Reference',
      object =>
        `${textOf(at(object, 'spec', 'scaleTargetRef', 'kind'))}/${textOf(at(object, 'spec', 'scaleTargetRef', 'name'))}`
    ),
    text('Targets', () => '<unknown>'),
    text('MinPods', object => scalarText(at(object, 'spec', 'minReplicas')) || '<unset>'),
    text('MaxPods', object => at(object, 'spec', 'maxReplicas')),
    text('Replicas', object => number(object, 'status', 'currentReplicas')),
    ageColumn
  ],
  'policy/poddisruptionbudgets': [
    nameColumn,
    text('Min Available', object => scalarText(at(object, 'spec', 'minAvailable')) || 'N/A'),
    text('Max Unavailable', object => scalarText(at(object, 'spec', 'maxUnavailable')) || 'N/A'),
    whole('Allowed Disruptions', object => number(object, 'status', 'disruptionsAllowed')),
    ageColumn
  ],
  'discovery.k8s.io/endpointslices': [
    nameColumn,
    text('AddressType', ({ addressType }) => addressType),
    text('Ports', object =>
      joined(listOf(object['ports']).map(port => objectOf(port)['port'] ?? '*')).replace(none, '<unset>')
    ),
    text('Endpoints', object =>
      shortened(
        listOf(object['endpoints']).flatMap(endpoint => listOf(objectOf(endpoint)['addresses'])),
        '<unset>'
      )
    ),
    ageColumn
  ],
  'coordination.k8s.io/leases': [
    nameColumn,
    text('Holder', object => textOf(at(object, 'spec', 'holderIdentity'))),
    ageColumn
  ],
  'networking.k8s.io/networkpolicies': [
    nameColumn,
    text('Pod-Selector', object => labels(at(object, 'spec', 'podSelector'))),
    ageColumn
  ],
  'networking.k8s.io/ingresses': [
    nameColumn,
    text('Class', object => textOf(at(object, 'spec', 'ingressClassName')) || none),
    text('Hosts', object =>
      joined(listOf(at(object, 'spec', 'rules')).map(rule => textOf(objectOf(rule)['host']) || '*')).replace(
        none,
        '*'
      )
    ),
    text('Address', object => loadBalancerAddresses(object).join(',')),
    text('Ports', object => (at(object, 'spec', 'tls') === undefined ? '80' : '80, 443')),
    ageColumn
  ],
  'networking.k8s.io/ingressclasses': [
    nameColumn,
    text('Controller', object => at(object, 'spec', 'controller')),
    text('Parameters', object => {
      const parameters = objectOf(at(object, 'spec', 'parameters'))
      return textOf(parameters['kind']) === ''
        ? none
        : `${[parameters['kind'], parameters['apiGroup']].filter(Boolean).join('.')}/${textOf(parameters['name'])}`
    }),
    ageColumn
  ],
  'rbac.authorization.k8s.io/rolebindings': bindingColumns,
  'rbac.authorization.k8s.io/clusterrolebindings': bindingColumns,
  'storage.k8s.io/storageclasses': [
    {
      ...nameColumn,
      cell: object =>
        object.metadata.name +
        (object.metadata.annotations?.['storageclass.kubernetes.io/is-default-class'] === 'true'
          ? ' (default)'
          : '')
    },
    text('Provisioner', ({ provisioner }) => provisioner),
    text('ReclaimPolicy', ({ reclaimPolicy }) => reclaimPolicy),
    text('VolumeBindingMode', ({ volumeBindingMode }) => volumeBindingMode),
    text('AllowVolumeExpansion', ({ allowVolumeExpansion }) => allowVolumeExpansion === true),
    ageColumn
  ],
  'scheduling.k8s.io/priorityclasses': [
    nameColumn,
    whole('Value', ({ value }) => value),
    truth('Global-Default', ({ globalDefault }) => globalDefault === true),
    ageColumn,
    text('PreemptionPolicy', ({ preemptionPolicy }) => preemptionPolicy)
  ],
  'admissionregistration.k8s.io/mutatingwebhookconfigurations': [nameColumn, webhooks, ageColumn],
  'admissionregistration.k8s.io/validatingwebhookconfigurations': [nameColumn, webhooks, ageColumn]
}

/** Columns that a definition asks for, or name and age. */
export function customColumns(columns: readonly Column[] | undefined): readonly Column[] {
  return [
    nameColumn,
    ...(columns ?? [
      { ...ageColumn, type: 'date' as const, cell: object => object.metadata.creationTimestamp }
    ])
  ]
}
