/** What Kubernetes fills in where a pod's spec is silent. Source: Kubernetes API reference, PodSpec. */
import { isObject, textOf, type MutableObject } from '../json.ts'
import { child, fill, items } from './strategy.ts'

/** Read by everyone, written by nobody but root: 0644. */
const fileMode = 420

export function setPodSpecDefaults(spec: MutableObject): void {
  fill(spec, {
    restartPolicy: 'Always',
    terminationGracePeriodSeconds: 30,
    dnsPolicy: 'ClusterFirst',
    securityContext: {},
    schedulerName: 'default-scheduler'
  })
  const account = textOf(spec['serviceAccountName']) || textOf(spec['serviceAccount'])
  if (account !== '') Object.assign(spec, { serviceAccountName: account, serviceAccount: account })
  for (const container of items(spec, 'initContainers')) setContainerDefaults(container, spec)
  for (const container of items(spec, 'containers')) setContainerDefaults(container, spec)
  for (const container of items(spec, 'ephemeralContainers')) setContainerDefaults(container, spec)
  for (const volume of items(spec, 'volumes')) setVolumeDefaults(volume)
}

function setContainerDefaults(container: MutableObject, spec: MutableObject): void {
  fill(container, {
    resources: {},
    terminationMessagePath: '/dev/termination-log',
    terminationMessagePolicy: 'File',
    imagePullPolicy: pullPolicy(textOf(container['image']))
  })
  for (const port of items(container, 'ports')) {
    fill(port, { protocol: 'TCP' })
    if (spec['hostNetwork'] === true) fill(port, { hostPort: port['containerPort'] })
  }
  for (const variable of items(container, 'env')) {
    if (isObject(variable['valueFrom'])) setFieldRefDefaults(variable['valueFrom'])
  }
  for (const name of ['livenessProbe', 'readinessProbe', 'startupProbe']) {
    if (!isObject(container[name])) continue
    const probe = container[name]
    fill(probe, { timeoutSeconds: 1, periodSeconds: 10, successThreshold: 1, failureThreshold: 3 })
    setHandlerDefaults(probe)
  }
  if (isObject(container['lifecycle'])) {
    for (const handler of Object.values(container['lifecycle'])) {
      if (isObject(handler)) setHandlerDefaults(handler)
    }
  }
}

function pullPolicy(image: string): string {
  const tag = /:([^/:@]+)$/.exec(image)?.[1]
  return image !== '' && !image.includes('@') && (tag === undefined || tag === 'latest')
    ? 'Always'
    : 'IfNotPresent'
}

function setHandlerDefaults(handler: MutableObject): void {
  if (isObject(handler['httpGet'])) fill(handler['httpGet'], { path: '/', scheme: 'HTTP' })
  if (isObject(handler['grpc'])) fill(handler['grpc'], { service: '' })
}

function setFieldRefDefaults(source: MutableObject | Readonly<Record<string, unknown>>): void {
  const reference = source['fieldRef']
  if (isObject(reference)) fill(reference, { apiVersion: 'v1' })
}

function setVolumeDefaults(volume: MutableObject): void {
  if (Object.keys(volume).length === 1) volume['emptyDir'] = {}
  for (const kind of ['secret', 'configMap', 'projected', 'downwardAPI']) {
    if (isObject(volume[kind])) fill(child(volume, kind), { defaultMode: fileMode })
  }
  if (isObject(volume['hostPath'])) fill(child(volume, 'hostPath'), { type: '' })
  if (isObject(volume['downwardAPI']))
    for (const item of items(child(volume, 'downwardAPI'), 'items')) setFieldRefDefaults(item)
  if (!isObject(volume['projected'])) return
  for (const source of items(child(volume, 'projected'), 'sources')) {
    if (isObject(source['serviceAccountToken']))
      fill(child(source, 'serviceAccountToken'), { expirationSeconds: 3600 })
    if (isObject(source['downwardAPI']))
      for (const item of items(child(source, 'downwardAPI'), 'items')) setFieldRefDefaults(item)
  }
}
