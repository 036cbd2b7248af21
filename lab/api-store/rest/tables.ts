/** Objects as rows of a `meta.k8s.io/v1` Table, and as bare metadata. */
import { isObject, scalarText, type JsonObject } from '../json.ts'
import type { ApiObject } from '../object.ts'
import type { PrinterColumn, Resource } from '../resources.ts'
import { builtinColumns, customColumns, defaultColumns, type Column } from './columns.ts'
import { age } from './duration.ts'
import { valuesAt } from './json-path.ts'

/** What each row carries of its object. */
export type Include = 'None' | 'Metadata' | 'Object'

export function table(
  resource: Resource,
  objects: readonly ApiObject[],
  include: Include,
  withColumns: boolean
): JsonObject {
  const columns = columnsOf(resource)
  const now = Date.now()
  return {
    kind: 'Table',
    apiVersion: 'meta.k8s.io/v1',
    metadata: {},
    columnDefinitions: withColumns
      ? columns.map(({ name, type, format, priority }) => ({ name, type, format, description: '', priority }))
      : null,
    rows: objects.map(object => ({
      cells: columns.map(column => column.cell(object, now) ?? ''),
      ...(include === 'None' ? {} : { object: include === 'Object' ? object : metadataOnly(object) })
    }))
  }
}

export function metadataOnly(object: ApiObject): ApiObject {
  return { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata: object.metadata }
}

function columnsOf(resource: Resource): readonly Column[] {
  if (resource.origin === 'builtin')
    return builtinColumns[`${resource.group}/${resource.plural}`] ?? defaultColumns
  return customColumns(resource.columns?.map(customColumn))
}

function customColumn(column: PrinterColumn): Column {
  const type =
    column.type === 'integer' || column.type === 'boolean' || column.type === 'date' ? column.type : 'string'
  return {
    name: column.name,
    type,
    format: '',
    priority: column.priority ?? 0,
    cell: (object, now) => {
      const values = valuesAt(object, column.jsonPath).filter(value => value !== undefined && value !== null)
      const [value] = values
      if (value === undefined) return null
      if (column.type === 'date') return age(value, now)
      if (values.length > 1) return JSON.stringify(values)
      if (isObject(value) || Array.isArray(value)) return JSON.stringify(value)
      return column.type === 'string' ? scalarText(value) : value
    }
  }
}
