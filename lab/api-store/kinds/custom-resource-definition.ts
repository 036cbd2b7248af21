/** CustomResourceDefinitions: what a definition must say before resources can be served from it. */
import { invalidValue, required, unsupported, type Problem } from '../api-error.ts'
import { at, isObject, listOf, objectOf, textOf, type JsonObject, type MutableObject } from '../json.ts'
import { timestamp, type ApiObject } from '../object.ts'
import { immutableField } from './metadata.ts'
import { checkName } from './names.ts'
import { child, fill, items, type Strategy } from './strategy.ts'

export const customResourceDefinitionStrategy: Strategy = {
  generation: true,
  setDefaults: definition => {
    const spec = child(definition, 'spec')
    fill(spec, { conversion: { strategy: 'None' } })
    const names = child(spec, 'names')
    if (textOf(names['kind']) !== '') {
      fill(names, { singular: textOf(names['kind']).toLowerCase(), listKind: `${textOf(names['kind'])}List` })
    }
    for (const version of items(spec, 'versions')) {
      for (const column of items(version, 'additionalPrinterColumns')) fill(column, { name: '', type: '' })
    }
  },
  prepareCreate: (definition, context) => {
    const names = at(definition, 'spec', 'names')
    const now = timestamp(context.now)
    const condition = (type: string, reason: string, message: string): JsonObject => ({
      type,
      status: 'True',
      lastTransitionTime: now,
      reason,
      message
    })
    definition['status'] = {
      conditions: [
        condition('NamesAccepted', 'NoConflicts', 'no conflicts found'),
        condition('Established', 'InitialNamesAccepted', 'the initial names have been accepted')
      ],
      acceptedNames: names,
      storedVersions: [storageVersionOf(objectOf(definition['spec']))]
    }
  },
  prepareUpdate: (definition, old) => {
    const status: MutableObject = { ...objectOf(old['status']) }
    const storage = storageVersionOf(objectOf(definition['spec']))
    const stored = listOf(status['storedVersions'])
    status['storedVersions'] = stored.includes(storage) ? stored : [...stored, storage]
    status['acceptedNames'] = at(definition, 'spec', 'names')
    definition['status'] = status
  },
  validate: checkDefinition,
  validateUpdate: (definition, old) => [
    ...immutableField('spec.group', at(definition, 'spec', 'group'), at(old, 'spec', 'group')),
    ...immutableField('spec.scope', at(definition, 'spec', 'scope'), at(old, 'spec', 'scope')),
    ...immutableField(
      'spec.names.plural',
      at(definition, 'spec', 'names', 'plural'),
      at(old, 'spec', 'names', 'plural')
    ),
    ...immutableField(
      'spec.names.kind',
      at(definition, 'spec', 'names', 'kind'),
      at(old, 'spec', 'names', 'kind')
    )
  ]
}

function storageVersionOf(spec: JsonObject): string {
  const versions = listOf(spec['versions']).map(objectOf)
  return textOf(versions.find(version => version['storage'] === true)?.['name'])
}

function checkDefinition(definition: ApiObject): Problem[] {
  const spec = objectOf(definition['spec'])
  const names = objectOf(spec['names'])
  const [group, plural] = [textOf(spec['group']), textOf(names['plural'])]
  const versions = listOf(spec['versions']).map(objectOf)
  const wantedName = `${plural}.${group}`
  return [
    ...(group === '' ? [required('spec.group')] : checkName('spec.group', group, 'subdomain')),
    ...(plural === ''
      ? [required('spec.names.plural')]
      : checkName('spec.names.plural', plural, 'label-1035')),
    ...(textOf(names['kind']) === '' ? [required('spec.names.kind')] : []),
    ...(['Cluster', 'Namespaced'].includes(textOf(spec['scope']))
      ? []
      : [
          spec['scope'] === undefined
            ? required('spec.scope')
            : unsupported('spec.scope', spec['scope'], ['Cluster', 'Namespaced'])
        ]),
    ...(definition.metadata.name === wantedName
      ? []
      : [
          invalidValue('metadata.name', definition.metadata.name, `must be spec.names.plural+"."+spec.group`)
        ]),
    ...(versions.length === 0
      ? [required('spec.versions', 'must have exactly one version marked as storage version')]
      : []),
    ...(versions.length > 0 && versions.filter(version => version['storage'] === true).length !== 1
      ? [
          invalidValue(
            'spec.versions',
            versions.map(version => version['name']),
            'must have exactly one version marked as storage version'
          )
        ]
      : []),
    ...versions.flatMap((version, index) => checkVersion(version, `spec.versions[${index}]`))
  ]
}

function checkVersion(version: JsonObject, field: string): Problem[] {
  const schema = at(version, 'schema', 'openAPIV3Schema')
  const path = `${field}.schema.openAPIV3Schema`
  return [
    ...(textOf(version['name']) === ''
      ? [required(`${field}.name`)]
      : checkName(`${field}.name`, textOf(version['name']), 'label-1035')),
    ...(isObject(schema) ? [] : [required(path, 'schemas are required')]),
    ...(isObject(schema) && schema['type'] !== 'object'
      ? [invalidValue(`${path}.type`, schema['type'] ?? '', 'must be object at the root')]
      : []),
    ...(isObject(schema) ? checkStructural(schema, path) : [])
  ]
}

const types = ['array', 'boolean', 'integer', 'number', 'object', 'string']

/** A structural schema says the type of every value, so that unknown fields can be pruned and defaults found. */
function checkStructural(schema: JsonObject, field: string): Problem[] {
  const { type, properties, additionalProperties, items: item } = schema
  const free =
    schema['x-kubernetes-int-or-string'] === true || schema['x-kubernetes-preserve-unknown-fields'] === true
  const nested: [unknown, string][] = [
    ...Object.entries(objectOf(properties)).map(([name, inner]): [unknown, string] => [
      inner,
      `${field}.properties[${name}]`
    ]),
    [additionalProperties, `${field}.additionalProperties`],
    [item, `${field}.items`]
  ]
  return [
    ...(type === undefined && !free
      ? [required(`${field}.type`, 'must not be empty for specified object fields')]
      : []),
    ...(type !== undefined && !types.includes(textOf(type))
      ? [unsupported(`${field}.type`, type, types)]
      : []),
    ...(type === 'array' && !isObject(item) ? [required(`${field}.items`, 'must be specified')] : []),
    ...nested.flatMap(([inner, path]) => (isObject(inner) ? checkStructural(inner, path) : []))
  ]
}
