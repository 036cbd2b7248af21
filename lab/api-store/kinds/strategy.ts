/** What one kind does beyond what all kinds do. */
import type { Problem } from '../api-error.ts'
import type { MutableObject } from '../json.ts'
import type { ApiObject } from '../object.ts'
import type { NameForm } from './names.ts'

/** What the rules of a kind may look at beside the object. */
export interface KindContext {
  readonly find: (collection: string, namespace: string, name: string) => ApiObject | undefined
  readonly all: (collection: string) => Iterable<ApiObject>
  /** Milliseconds since the epoch. */
  readonly now: number
}

export interface Strategy {
  /** How objects may be called; default subdomain. */
  readonly nameForm?: NameForm
  /** `metadata.generation` counts changes of the spec. */
  readonly generation?: boolean
  /** PUT creates the object where there is none. */
  readonly createOnUpdate?: boolean
  /** Fills in what the client left out; runs at every write. */
  readonly setDefaults?: (object: MutableObject) => void
  /** Fills in what only the server can know, or refuses with an ApiError; runs after the defaults at creation. */
  readonly prepareCreate?: (object: MutableObject, context: KindContext) => void
  /** As prepareCreate, for a change. */
  readonly prepareUpdate?: (object: MutableObject, old: ApiObject, context: KindContext) => void
  readonly validate?: (object: ApiObject) => Problem[]
  readonly validateUpdate?: (object: ApiObject, old: ApiObject) => Problem[]
}

/** Sets the fields that are absent. */
export function fill(object: MutableObject, values: MutableObject): void {
  for (const [field, value] of Object.entries(values)) if (object[field] === undefined) object[field] = value
}

/** The object in `field`, made when it is absent. */
export function child(object: MutableObject, field: string): MutableObject {
  const known = object[field]
  if (typeof known === 'object' && known !== null && !Array.isArray(known)) return known as MutableObject
  const made: MutableObject = {}
  object[field] = made
  return made
}

/** The objects of a list field; none when it is absent. */
export function items(object: MutableObject, field: string): readonly MutableObject[] {
  const list = object[field]
  if (!Array.isArray(list)) return []
  return list.filter((item): item is MutableObject => typeof item === 'object' && item !== null)
}
