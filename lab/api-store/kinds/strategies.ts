/** Which kind has rules of its own; all others are stored as they come. */
import type { Cidr } from '../../../shared/net/address.ts'
import { invalidValue, required, type Problem } from '../api-error.ts'
import { at, equal, has, isObject, listOf, objectOf, textOf, type MutableObject } from '../json.ts'
import { customResourceDefinitionStrategy } from './custom-resource-definition.ts'
import { coreEventStrategy, eventStrategy } from './event.ts'
import { checkPort, checkUnique } from './names.ts'
import { podStrategy } from './pod.ts'
import { setPodSpecDefaults } from './pod-defaults.ts'
import { checkChoice } from './pod-validation.ts'
import { checkFixed, checkFrozen, serviceStrategy } from './service.ts'
import { child, fill, items, type Strategy } from './strategy.ts'
import {
  cronJobStrategy,
  daemonSetStrategy,
  deploymentStrategy,
  jobStrategy,
  replicaSetStrategy,
  statefulSetStrategy
} from './workloads.ts'

/** By collection, `group/plural`. */
export function builtinStrategies(serviceCidr: Cidr): ReadonlyMap<string, Strategy> {
  return new Map<string, Strategy>([
    ['/pods', podStrategy],
    ['/services', serviceStrategy(serviceCidr)],
    ['/namespaces', namespaceStrategy],
    ['/secrets', secretStrategy],
    ['/configmaps', configMapStrategy],
    ['/endpoints', endpointsStrategy],
    ['/persistentvolumeclaims', claimStrategy],
    [
      '/podtemplates',
      { setDefaults: object => setPodSpecDefaults(child(child(object, 'template'), 'spec')) }
    ],
    ['/replicationcontrollers', { generation: true }],
    ['apps/deployments', deploymentStrategy],
    ['apps/replicasets', replicaSetStrategy],
    ['apps/statefulsets', statefulSetStrategy],
    ['apps/daemonsets', daemonSetStrategy],
    ['batch/jobs', jobStrategy],
    ['batch/cronjobs', cronJobStrategy],
    ['coordination.k8s.io/leases', { createOnUpdate: true }],
    ['discovery.k8s.io/endpointslices', endpointSliceStrategy],
    ['networking.k8s.io/networkpolicies', networkPolicyStrategy],
    ['networking.k8s.io/ingresses', ingressStrategy],
    ['/nodes', nodeStrategy],
    ['/events', coreEventStrategy],
    ['events.k8s.io/events', eventStrategy],
    ['scheduling.k8s.io/priorityclasses', priorityClassStrategy],
    ['networking.k8s.io/ingressclasses', { generation: true }],
    ['policy/poddisruptionbudgets', budgetStrategy],
    ['autoscaling/horizontalpodautoscalers', autoscalerStrategy],
    ['rbac.authorization.k8s.io/roles', { nameForm: 'path-segment' }],
    ['rbac.authorization.k8s.io/clusterroles', { nameForm: 'path-segment' }],
    ['rbac.authorization.k8s.io/rolebindings', bindingStrategy],
    ['rbac.authorization.k8s.io/clusterrolebindings', bindingStrategy],
    ['storage.k8s.io/storageclasses', storageClassStrategy],
    ['admissionregistration.k8s.io/validatingwebhookconfigurations', { generation: true }],
    ['admissionregistration.k8s.io/mutatingwebhookconfigurations', { generation: true }],
    ['admissionregistration.k8s.io/validatingadmissionpolicies', { generation: true }],
    ['admissionregistration.k8s.io/validatingadmissionpolicybindings', { generation: true }],
    ['apiextensions.k8s.io/customresourcedefinitions', customResourceDefinitionStrategy]
  ])
}

const namespaceStrategy: Strategy = {
  nameForm: 'label',
  setDefaults: namespace => {
    const name = at(namespace, 'metadata', 'name')
    if (textOf(name) !== '') {
      child(child(namespace, 'metadata'), 'labels')['kubernetes.io/metadata.name'] = name
    }
  },
  prepareCreate: namespace => {
    namespace['spec'] = { finalizers: ['kubernetes'] }
    namespace['status'] = { phase: 'Active' }
  },
  prepareUpdate: (namespace, old) => {
    namespace['spec'] = old['spec']
  }
}

const secretStrategy: Strategy = {
  setDefaults: secret => {
    fill(secret, { type: 'Opaque' })
    const plain = secret['stringData']
    delete secret['stringData']
    for (const [key, value] of Object.entries(objectOf(plain))) {
      child(secret, 'data')[key] = Buffer.from(textOf(value)).toString('base64')
    }
  },
  validate: secret => checkDataKeys('data', secret['data']),
  validateUpdate: (secret, old) => [
    ...checkFixed(secret, old, ['type']),
    ...checkFrozen(secret, old, ['data'])
  ]
}

const configMapStrategy: Strategy = {
  validate: map => {
    const both = Object.keys(objectOf(map['data'])).filter(key => has(objectOf(map['binaryData']), key))
    return [
      ...checkDataKeys('data', map['data']),
      ...checkDataKeys('binaryData', map['binaryData']),
      ...both.map(key => invalidValue(`data[${key}]`, key, 'duplicate of key present in binaryData'))
    ]
  },
  validateUpdate: (map, old) => checkFrozen(map, old, ['data', 'binaryData'])
}

function checkDataKeys(field: string, data: unknown): Problem[] {
  return Object.keys(objectOf(data)).flatMap(key => {
    if (key.length <= 253 && /^[-._a-zA-Z0-9]+$/.test(key) && key !== '.' && !key.startsWith('..')) return []
    const detail = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
    return [invalidValue(`${field}[${key}]`, key, detail)]
  })
}

function setPortProtocols(object: MutableObject, list: string): void {
  for (const port of items(object, list)) fill(port, { protocol: 'TCP' })
}

const endpointsStrategy: Strategy = {
  createOnUpdate: true,
  setDefaults: endpoints => {
    for (const subset of items(endpoints, 'subsets')) setPortProtocols(subset, 'ports')
  }
}

const endpointSliceStrategy: Strategy = {
  generation: true,
  setDefaults: slice => {
    for (const port of items(slice, 'ports')) fill(port, { name: '', protocol: 'TCP' })
    fill(slice, { endpoints: [] })
  },
  validate: slice => [
    ...(slice['addressType'] === undefined
      ? [required('addressType')]
      : checkChoice('addressType', slice['addressType'], ['FQDN', 'IPv4', 'IPv6'])),
    ...listOf(slice['endpoints']).flatMap((item, index) =>
      listOf(objectOf(item)['addresses']).length === 0
        ? [required(`endpoints[${index}].addresses`, 'must contain at least 1 address')]
        : []
    ),
    ...listOf(slice['ports']).flatMap((item, index) => {
      const { port } = objectOf(item)
      return port === undefined ? [] : checkPort(`ports[${index}].port`, port)
    }),
    ...checkUnique(
      listOf(slice['ports']).map((item, index) => ({
        field: `ports[${index}].name`,
        value: textOf(objectOf(item)['name'])
      }))
    )
  ],
  validateUpdate: (slice, old) => checkFixed(slice, old, ['addressType'])
}

const networkPolicyStrategy: Strategy = {
  generation: true,
  setDefaults: policy => {
    const spec = child(policy, 'spec')
    const egress = listOf(spec['egress']).length > 0
    fill(spec, { podSelector: {}, policyTypes: egress ? ['Ingress', 'Egress'] : ['Ingress'] })
    for (const rule of [...items(spec, 'ingress'), ...items(spec, 'egress')]) setPortProtocols(rule, 'ports')
  }
}

/** A controller that has not looked yet reports zeros. */
function zeroStatus(...fields: readonly string[]): (object: MutableObject) => void {
  return object => {
    object['status'] = Object.fromEntries(fields.map(field => [field, 0]))
  }
}

const budgetStrategy: Strategy = {
  generation: true,
  prepareCreate: zeroStatus('currentHealthy', 'desiredHealthy', 'disruptionsAllowed', 'expectedPods')
}

const ingressStrategy: Strategy = {
  generation: true,
  prepareCreate: ingress => {
    ingress['status'] = { loadBalancer: {} }
  }
}

const nodeStrategy: Strategy = {
  setDefaults: node => {
    const spec = child(node, 'spec')
    if (textOf(spec['podCIDR']) !== '') fill(spec, { podCIDRs: [spec['podCIDR']] })
  }
}

const priorityClassStrategy: Strategy = {
  generation: true,
  setDefaults: priority => fill(priority, { preemptionPolicy: 'PreemptLowerPriority' })
}

const autoscalerStrategy: Strategy = {
  prepareCreate: autoscaler => {
    autoscaler['status'] = { currentMetrics: null, desiredReplicas: 0 }
  },
  setDefaults: autoscaler => fill(child(autoscaler, 'spec'), { minReplicas: 1 }),
  validate: autoscaler =>
    typeof at(autoscaler, 'spec', 'maxReplicas') === 'number' ? [] : [required('spec.maxReplicas')]
}

const claimStrategy: Strategy = {
  setDefaults: claim => fill(child(claim, 'spec'), { volumeMode: 'Filesystem' }),
  prepareCreate: claim => {
    claim['status'] = { phase: 'Pending' }
  }
}

const storageClassStrategy: Strategy = {
  setDefaults: storage => fill(storage, { reclaimPolicy: 'Delete', volumeBindingMode: 'Immediate' })
}

const roleGroup = 'rbac.authorization.k8s.io'

const bindingStrategy: Strategy = {
  nameForm: 'path-segment',
  setDefaults: binding => {
    if (isObject(binding['roleRef'])) fill(child(binding, 'roleRef'), { apiGroup: roleGroup })
    for (const subject of items(binding, 'subjects')) {
      if (subject['kind'] !== 'ServiceAccount') fill(subject, { apiGroup: roleGroup })
    }
  },
  validate: binding => [
    ...(isObject(binding['roleRef']) ? [] : [required('roleRef')]),
    ...listOf(binding['subjects']).flatMap((item, index) =>
      textOf(objectOf(item)['name']) === '' ? [required(`subjects[${index}].name`)] : []
    )
  ],
  validateUpdate: (binding, old) =>
    equal(binding['roleRef'], old['roleRef'])
      ? []
      : [invalidValue('roleRef', binding['roleRef'], 'cannot change roleRef')]
}
