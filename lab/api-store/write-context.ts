/** How a write came in, and what became of it. */
import type { ApiObject } from './object.ts'

/** How a write came in. */
export interface WriteContext {
  /** Name for `managedFields`. */
  readonly manager: string
  readonly subresource: '' | 'status' | 'scale'
  readonly dryRun: boolean
  /** What happens to fields that the kind does not have. */
  readonly fieldValidation: 'Strict' | 'Warn' | 'Ignore'
  /** Called with texts for the client's user. */
  readonly warn: (text: string) => void
}

export interface Written {
  readonly object: ApiObject
  readonly created: boolean
}

export interface Deleted {
  readonly object: ApiObject
  /** False while finalizers, containers or contents are still to end. */
  readonly gone: boolean
}
