/** The environment of a container, as the kubelet makes it. Pure: what it reads is handed in. */
import type { ConfigMap, Secret, Service } from '../shared/kube/core-api.ts'
import { namespaceOf, type EnvironmentVariable, type LabContainer, type LabPod } from './kinds.ts'

export interface EnvironmentSources {
  configMap(namespace: string, name: string): ConfigMap | undefined
  secret(namespace: string, name: string): Secret | undefined
  /** Services of a namespace. */
  services(namespace: string): readonly Service[]
  readonly podIps: readonly string[]
  readonly hostIp: string
}

/** A container that cannot start yet: what it needs is not there. Its text becomes the waiting message. */
export class MissingReference extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'MissingReference'
  }
}

/** Throws {@link MissingReference}. */
export function environmentOf(
  pod: LabPod,
  container: LabContainer,
  sources: EnvironmentSources
): ReadonlyMap<string, string> {
  const environment = new Map<string, string>([
    ['PATH', '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
    ['HOSTNAME', pod.spec?.hostname ?? pod.metadata.name],
    ['HOME', '/'],
    ...serviceVariables(pod, sources)
  ])
  for (const [name, value] of importedVariables(pod, container, sources)) environment.set(name, value)
  for (const variable of container.env ?? []) {
    const value =
      variable.valueFrom === undefined
        ? expand(variable.value ?? '', environment)
        : referencedValue(pod, container, variable, sources)
    if (value !== undefined) environment.set(variable.name, value)
  }
  return environment
}

/** Replaces `$(NAME)` by the variable's value; `$$(NAME)` stands for the text itself. */
export function expand(text: string, environment: ReadonlyMap<string, string>): string {
  return text.replaceAll(/\$\$|\$\(([^)]+)\)/g, (whole, name: string | undefined) =>
    name === undefined ? '$' : (environment.get(name) ?? whole)
  )
}

/** The value of a pod's field as the downward API names it; undefined for a field it does not know. */
export function podField(
  pod: LabPod,
  fieldPath: string,
  { podIps, hostIp }: Pick<EnvironmentSources, 'podIps' | 'hostIp'>
): string | undefined {
  const { metadata, spec } = pod
  const [, kind, key] = /^metadata\.(labels|annotations)\['([^']+)'\]$/.exec(fieldPath) ?? []
  if (kind === 'labels') return metadata.labels?.[key ?? ''] ?? ''
  if (kind === 'annotations') return metadata.annotations?.[key ?? ''] ?? ''
  switch (fieldPath) {
    case 'metadata.name':
      return metadata.name
    case 'metadata.namespace':
      return metadata.namespace
    case 'metadata.uid':
      return metadata.uid
    case 'metadata.labels':
      return quotedLines(metadata.labels)
    case 'metadata.annotations':
      return quotedLines(metadata.annotations)
    case 'spec.nodeName':
      return spec?.nodeName ?? ''
    case 'spec.serviceAccountName':
      return spec?.serviceAccountName ?? 'default'
    case 'status.podIP':
      return podIps[0] ?? ''
    case 'status.podIPs':
      return podIps.join(',')
    case 'status.hostIP':
    case 'status.hostIPs':
      return hostIp
    default:
      return undefined
  }
}

function quotedLines(map: Readonly<Record<string, string>> = {}): string {
  return Object.entries(map)
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    .join('\n')
}

/** `<SERVICE>_SERVICE_HOST` and the like, for the pod's namespace and for `kubernetes`. */
function serviceVariables(pod: LabPod, sources: EnvironmentSources): [string, string][] {
  const namespace = namespaceOf(pod)
  const kubernetes = sources.services('default').filter(({ metadata }) => metadata.name === 'kubernetes')
  const own = pod.spec?.enableServiceLinks === false ? [] : sources.services(namespace)
  return [...kubernetes, ...own].flatMap(service => {
    const { clusterIP = '', ports = [] } = service.spec ?? {}
    const [first] = ports
    if (clusterIP === '' || clusterIP === 'None' || first === undefined) return []
    const prefix = service.metadata.name.toUpperCase().replaceAll('-', '_')
    const host = clusterIP.includes(':') ? `[${clusterIP}]` : clusterIP
    const variables: [string, string][] = [
      [`${prefix}_SERVICE_HOST`, clusterIP],
      [`${prefix}_SERVICE_PORT`, String(first.port)],
      [`${prefix}_PORT`, `${(first.protocol ?? 'TCP').toLowerCase()}://${host}:${first.port}`]
    ]
    for (const { name, port, protocol = 'TCP' } of ports) {
      const kind = protocol.toLowerCase()
      const base = `${prefix}_PORT_${port}_${protocol}`
      if (name !== undefined && name !== '') {
        variables.push([`${prefix}_SERVICE_PORT_${name.toUpperCase().replaceAll('-', '_')}`, String(port)])
      }
      variables.push(
        [base, `${kind}://${host}:${port}`],
        [`${base}_PROTO`, kind],
        [`${base}_PORT`, String(port)],
        [`${base}_ADDR`, clusterIP]
      )
    }
    return variables
  })
}

function importedVariables(
  pod: LabPod,
  container: LabContainer,
  sources: EnvironmentSources
): [string, string][] {
  return (container.envFrom ?? []).flatMap(({ prefix = '', configMapRef, secretRef }) => {
    const entries =
      configMapRef === undefined
        ? secretRef === undefined
          ? []
          : Object.entries(secretOf(pod, secretRef, sources)?.data ?? {}).map(
              ([key, value]) => [key, decode(value)] as const
            )
        : Object.entries(configMapOf(pod, configMapRef, sources)?.data ?? {})
    return entries.map(([key, value]): [string, string] => [`${prefix}${key}`, value])
  })
}

function referencedValue(
  pod: LabPod,
  container: LabContainer,
  { name, valueFrom = {} }: EnvironmentVariable,
  sources: EnvironmentSources
): string | undefined {
  const { fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef } = valueFrom
  if (fieldRef !== undefined) {
    const value = podField(pod, fieldRef.fieldPath, sources)
    if (value === undefined) {
      throw new MissingReference(`variable ${name}: there is no field ${fieldRef.fieldPath}`)
    }
    return value
  }
  if (resourceFieldRef !== undefined) return resourceValue(container, resourceFieldRef)
  if (configMapKeyRef !== undefined) {
    const value = configMapOf(pod, configMapKeyRef, sources)?.data?.[configMapKeyRef.key]
    return required(
      value,
      configMapKeyRef.optional,
      `ConfigMap ${configMapKeyRef.name} has no key ${configMapKeyRef.key}`
    )
  }
  if (secretKeyRef !== undefined) {
    const value = secretOf(pod, secretKeyRef, sources)?.data?.[secretKeyRef.key]
    const found = required(
      value,
      secretKeyRef.optional,
      `Secret ${secretKeyRef.name} has no key ${secretKeyRef.key}`
    )
    return found === undefined ? undefined : decode(found)
  }
  return undefined
}

function configMapOf(
  pod: LabPod,
  { name, optional }: { readonly name: string; readonly optional?: boolean },
  sources: EnvironmentSources
): ConfigMap | undefined {
  return required(sources.configMap(namespaceOf(pod), name), optional, `there is no ConfigMap ${name}`)
}

function secretOf(
  pod: LabPod,
  { name, optional }: { readonly name: string; readonly optional?: boolean },
  sources: EnvironmentSources
): Secret | undefined {
  return required(sources.secret(namespaceOf(pod), name), optional, `there is no Secret ${name}`)
}

function required<T>(value: T | undefined, optional: boolean | undefined, message: string): T | undefined {
  if (value === undefined && optional !== true) throw new MissingReference(message)
  return value
}

function decode(base64: string): string {
  return Buffer.from(base64, 'base64').toString()
}

/** Whole cores or bytes, rounded up, in units of the divisor; a container without limits sees one core and 1 GiB. */
function resourceValue(
  container: LabContainer,
  { resource, divisor = '1' }: { readonly resource: string; readonly divisor?: string }
): string {
  const [kind = 'limits', name = ''] = resource.split('.')
  const { limits = {}, requests = {} } = container.resources ?? {}
  const given = kind === 'requests' ? requests[name] : limits[name]
  const amount = quantity(given ?? (name === 'cpu' ? '1' : '1Gi'))
  return String(Math.ceil(amount / (quantity(divisor) || 1)))
}

/** A Kubernetes quantity such as `250m` or `64Mi` as a number. */
export function quantity(text: string): number {
  const [, number = '0', suffix = ''] = /^([0-9.]+)([a-zA-Z]*)$/.exec(text) ?? []
  const factors: Readonly<Record<string, number>> = {
    '': 1,
    m: 1e-3,
    k: 1e3,
    M: 1e6,
    G: 1e9,
    Ki: 2 ** 10,
    Mi: 2 ** 20,
    Gi: 2 ** 30
  }
  return Number(number) * (factors[suffix] ?? 1)
}
