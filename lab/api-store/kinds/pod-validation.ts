/** What makes a pod's spec impossible to run, as far as the lab reads it. */
import { duplicate, invalidValue, required, unsupported, type Problem } from '../api-error.ts'
import { isObject, listOf, objectOf, textOf, type JsonObject } from '../json.ts'
import { checkName, checkPort, checkPortName, checkUnique } from './names.ts'

export function checkPodSpec(spec: JsonObject, field: string): Problem[] {
  const volumes = listOf(spec['volumes']).map(objectOf)
  const volumeNames = new Set(volumes.map(volume => textOf(volume['name'])))
  const containers = (list: string): Problem[] =>
    listOf(spec[list]).flatMap((item, index) =>
      checkContainer(objectOf(item), `${field}.${list}[${index}]`, volumeNames)
    )
  const named = ['initContainers', 'containers'].flatMap(list =>
    listOf(spec[list]).map((item, index) => ({
      field: `${field}.${list}[${index}].name`,
      value: textOf(objectOf(item)['name'])
    }))
  )
  return [
    ...volumes.flatMap((volume, index) => checkVolume(volume, `${field}.volumes[${index}]`)),
    ...checkUnique(
      volumes.map((volume, index) => ({
        field: `${field}.volumes[${index}].name`,
        value: textOf(volume['name'])
      }))
    ),
    ...(listOf(spec['containers']).length === 0 ? [required(`${field}.containers`)] : []),
    ...containers('containers'),
    ...containers('initContainers'),
    ...checkUnique(named.filter(({ value }) => value !== '')),
    ...checkChoice(`${field}.restartPolicy`, spec['restartPolicy'], ['Always', 'OnFailure', 'Never']),
    ...checkChoice(`${field}.dnsPolicy`, spec['dnsPolicy'], [
      'ClusterFirstWithHostNet',
      'ClusterFirst',
      'Default',
      'None'
    ]),
    ...checkNotNegative(`${field}.terminationGracePeriodSeconds`, spec['terminationGracePeriodSeconds']),
    ...(textOf(spec['hostname']) === ''
      ? []
      : checkName(`${field}.hostname`, textOf(spec['hostname']), 'label')),
    ...(textOf(spec['serviceAccountName']) === ''
      ? []
      : checkName(`${field}.serviceAccountName`, textOf(spec['serviceAccountName']), 'subdomain'))
  ]
}

function checkContainer(container: JsonObject, field: string, volumes: ReadonlySet<string>): Problem[] {
  const [name, image] = [textOf(container['name']), textOf(container['image'])]
  const ports = listOf(container['ports']).map(objectOf)
  return [
    ...(name === '' ? [required(`${field}.name`)] : checkName(`${field}.name`, name, 'label')),
    ...(image === '' ? [required(`${field}.image`)] : []),
    ...(image !== image.trim()
      ? [invalidValue(`${field}.image`, image, 'must not have leading or trailing whitespace')]
      : []),
    ...checkChoice(`${field}.imagePullPolicy`, container['imagePullPolicy'], [
      'Always',
      'IfNotPresent',
      'Never'
    ]),
    ...ports.flatMap((port, index) => checkContainerPort(port, `${field}.ports[${index}]`)),
    ...checkUnique(
      ports
        .map((port, index) => ({ field: `${field}.ports[${index}].name`, value: textOf(port['name']) }))
        .filter(({ value }) => value !== '')
    ),
    ...listOf(container['env']).flatMap((item, index) =>
      checkVariable(objectOf(item), `${field}.env[${index}]`)
    ),
    ...checkMounts(listOf(container['volumeMounts']), `${field}.volumeMounts`, volumes),
    ...['livenessProbe', 'readinessProbe', 'startupProbe'].flatMap(probe =>
      isObject(container[probe]) ? checkProbe(container[probe], `${field}.${probe}`) : []
    )
  ]
}

function checkContainerPort(port: JsonObject, field: string): Problem[] {
  const name = textOf(port['name'])
  return [
    ...(name === '' ? [] : checkPortName(`${field}.name`, name)),
    ...checkPort(`${field}.containerPort`, port['containerPort']),
    ...(port['hostPort'] === undefined ? [] : checkPort(`${field}.hostPort`, port['hostPort'])),
    ...checkChoice(`${field}.protocol`, port['protocol'], ['SCTP', 'TCP', 'UDP'])
  ]
}

function checkVariable(variable: JsonObject, field: string): Problem[] {
  const name = textOf(variable['name'])
  if (name === '') return [required(`${field}.name`)]
  if (textOf(variable['value']) !== '' && variable['valueFrom'] !== undefined) {
    return [invalidValue(`${field}.valueFrom`, '', 'may not be specified when `value` is not empty')]
  }
  if (/^[ -<>-~]+$/.test(name)) return []
  return [
    invalidValue(
      `${field}.name`,
      name,
      "a valid environment variable name must consist only of printable ASCII characters other than '='"
    )
  ]
}

function checkMounts(mounts: readonly unknown[], field: string, volumes: ReadonlySet<string>): Problem[] {
  const paths = new Set<string>()
  return mounts.flatMap((item, index) => {
    const mount = objectOf(item)
    const at = `${field}[${index}]`
    const [name, path] = [textOf(mount['name']), textOf(mount['mountPath'])]
    const problems: Problem[] = []
    if (name === '') problems.push(required(`${at}.name`))
    else if (!volumes.has(name))
      problems.push({ field: `${at}.name`, reason: 'FieldValueNotFound', value: name })
    if (path === '') problems.push(required(`${at}.mountPath`))
    else if (paths.has(path)) problems.push(invalidValue(`${at}.mountPath`, path, 'must be unique'))
    paths.add(path)
    return problems
  })
}

function checkProbe(probe: JsonObject, field: string): Problem[] {
  const handlers = ['exec', 'httpGet', 'tcpSocket', 'grpc'].filter(name => probe[name] !== undefined)
  if (handlers.length === 0) return [required(field, 'must specify a handler type')]
  if (handlers.length > 1) {
    return handlers.slice(1).map(name => ({
      field: `${field}.${name}`,
      reason: 'FieldValueForbidden' as const,
      detail: 'may not specify more than 1 handler type'
    }))
  }
  const [handler = ''] = handlers
  const port = objectOf(probe[handler])['port']
  const checkedPort =
    handler === 'exec'
      ? []
      : typeof port === 'string'
        ? checkPortName(`${field}.${handler}.port`, port)
        : checkPort(`${field}.${handler}.port`, port)
  return [
    ...checkedPort,
    ...[
      'initialDelaySeconds',
      'timeoutSeconds',
      'periodSeconds',
      'successThreshold',
      'failureThreshold'
    ].flatMap(name => checkNotNegative(`${field}.${name}`, probe[name]))
  ]
}

function checkVolume(volume: JsonObject, field: string): Problem[] {
  const name = textOf(volume['name'])
  const sources = Object.keys(volume).filter(key => key !== 'name')
  return [
    ...(name === '' ? [required(`${field}.name`)] : checkName(`${field}.name`, name, 'label')),
    ...sources.slice(1).map(source => ({
      field: `${field}.${source}`,
      reason: 'FieldValueForbidden' as const,
      detail: 'may not specify more than 1 volume type'
    }))
  ]
}

export function checkChoice(field: string, value: unknown, choices: readonly string[]): Problem[] {
  if (value === undefined || choices.includes(textOf(value))) return []
  return [unsupported(field, value, choices)]
}

export function checkNotNegative(field: string, value: unknown): Problem[] {
  if (value === undefined || (typeof value === 'number' && value >= 0)) return []
  return [invalidValue(field, value, 'must be greater than or equal to 0')]
}

export function checkDuplicatePorts(ports: readonly JsonObject[], field: string): Problem[] {
  const seen = new Set<string>()
  return ports.flatMap((port, index) => {
    const { port: number, protocol } = port
    const key = `${String(number)}/${String(protocol)}`
    if (seen.has(key)) return [duplicate(`${field}[${index}]`, { port: number, protocol })]
    seen.add(key)
    return []
  })
}
