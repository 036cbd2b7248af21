/** JSON values as `google.protobuf.Struct`. */

export interface StructMessage {
  readonly fields: Readonly<Record<string, ValueMessage>>
}

export type ValueMessage =
  | { readonly nullValue: 0 }
  | { readonly numberValue: number }
  | { readonly stringValue: string }
  | { readonly boolValue: boolean }
  | { readonly structValue: StructMessage }
  | { readonly listValue: { readonly values: readonly ValueMessage[] } }

/** What is undefined, and what JSON cannot hold, is left out or null, as JSON.stringify does. */
export function toStruct(object: Readonly<Record<string, unknown>>): StructMessage {
  const entries = Object.entries(object).filter(([, value]) => value !== undefined)
  return { fields: Object.fromEntries(entries.map(([name, value]) => [name, toValue(value)])) }
}

function toValue(value: unknown): ValueMessage {
  switch (typeof value) {
    case 'string':
      return { stringValue: value }
    case 'number':
      return { numberValue: value }
    case 'boolean':
      return { boolValue: value }
    case 'object':
      if (value === null) return { nullValue: 0 }
      if (Array.isArray(value)) return { listValue: { values: value.map(toValue) } }
      return { structValue: toStruct(value as Record<string, unknown>) }
    default:
      return { nullValue: 0 }
  }
}

/** The object that a message stands for; a value that says nothing is null. */
export function fromStruct({ fields }: StructMessage): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, fromValue(value)]))
}

function fromValue(value: ValueMessage): unknown {
  if ('stringValue' in value) return value.stringValue
  if ('numberValue' in value) return value.numberValue
  if ('boolValue' in value) return value.boolValue
  if ('structValue' in value) return fromStruct(value.structValue)
  return 'listValue' in value ? value.listValue.values.map(fromValue) : null
}
