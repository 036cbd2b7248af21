/** JSON Patch, RFC 6902, over JSON Pointer, RFC 6901. */
import { ApiError, badRequest } from '../api-error.ts'
import { clone, define, equal, has, isObject, type MutableObject } from '../json.ts'

/** Operations in one patch; more are refused as the API server does. */
const maxOperations = 10_000

/** Applies the operations to a copy. Throws 400 for a malformed patch, 422 where an operation does not fit. */
export function applyJsonPatch(target: unknown, patch: unknown): unknown {
  if (!Array.isArray(patch)) throw badRequest('a JSON patch is a list of operations')
  if (patch.length > maxOperations) {
    throw new ApiError(
      'RequestEntityTooLarge',
      `The allowed maximum operations in a JSON patch is ${maxOperations}`
    )
  }
  let document = clone(target)
  for (const operation of patch) document = applyOperation(document, operation)
  return document
}

function applyOperation(document: unknown, operation: unknown): unknown {
  if (!isObject(operation)) throw badRequest('each operation of a JSON patch is an object')
  const { op, value } = operation
  const path = pointer(operation['path'], 'path')
  switch (op) {
    case 'add':
      return add(document, path, clone(given(operation, value)))
    case 'replace':
      return replace(document, path, clone(given(operation, value)))
    case 'remove':
      return remove(document, path)
    case 'move': {
      const from = pointer(operation['from'], 'from')
      if (path.length > from.length && from.every((step, index) => path[index] === step)) {
        throw unprocessable(`cannot move ${text(from)} below itself`)
      }
      const moved = read(document, from)
      return add(remove(document, from), path, moved)
    }
    case 'copy':
      return add(document, path, clone(read(document, pointer(operation['from'], 'from'))))
    case 'test':
      if (
        !equal(readOptional(document, path), given(operation, value) ?? undefined) &&
        !isNullTest(document, path, value)
      ) {
        throw unprocessable(`testing value ${text(path)} failed`)
      }
      return document
    default:
      throw badRequest(`Unexpected kind: ${String(op)}`)
  }
}

function isNullTest(document: unknown, path: readonly string[], value: unknown): boolean {
  return value === null && (readOptional(document, path) ?? null) === null
}

function given(operation: Readonly<Record<string, unknown>>, value: unknown): unknown {
  if (!Object.hasOwn(operation, 'value')) throw badRequest('the operation has no value')
  return value
}

function pointer(value: unknown, name: string): readonly string[] {
  if (typeof value !== 'string' || (value !== '' && !value.startsWith('/'))) {
    throw badRequest(`${name} is not a JSON pointer: ${String(value)}`)
  }
  return value === ''
    ? []
    : value
        .slice(1)
        .split('/')
        .map(step => step.replaceAll('~1', '/').replaceAll('~0', '~'))
}

function read(document: unknown, path: readonly string[]): unknown {
  const value = readOptional(document, path)
  if (value === undefined) throw missing(path)
  return value
}

function readOptional(document: unknown, path: readonly string[]): unknown {
  let value = document
  for (const step of path) {
    if (Array.isArray(value)) value = /^(0|[1-9]\d*)$/.test(step) ? value[Number(step)] : undefined
    else value = isObject(value) && has(value, step) ? value[step] : undefined
  }
  return value
}

function add(document: unknown, path: readonly string[], value: unknown): unknown {
  const last = path.at(-1)
  if (last === undefined) return value
  const parent = readOptional(document, path.slice(0, -1))
  if (Array.isArray(parent)) {
    const index = last === '-' ? parent.length : itemIndex(last, parent.length, path)
    parent.splice(index, 0, value)
  } else if (isObject(parent)) define(parent, last, value)
  else throw missing(path)
  return document
}

/** As the API server does, a field that is not there is added; an item that is not there is an error. */
function replace(document: unknown, path: readonly string[], value: unknown): unknown {
  const exists = path.length > 0 && readOptional(document, path) !== undefined
  return add(exists ? remove(document, path) : document, path, value)
}

function remove(document: unknown, path: readonly string[]): unknown {
  const last = path.at(-1)
  if (last === undefined) return undefined
  read(document, path)
  const parent = readOptional(document, path.slice(0, -1))
  if (Array.isArray(parent)) parent.splice(itemIndex(last, parent.length - 1, path), 1)
  else delete (parent as MutableObject)[last]
  return document
}

function itemIndex(step: string, max: number, path: readonly string[]): number {
  const index = /^(0|[1-9]\d*)$/.test(step) ? Number(step) : -1
  if (index < 0 || index > max) throw unprocessable(`there is no place ${text(path)} in the list`)
  return index
}

function missing(path: readonly string[]): ApiError {
  return unprocessable(`the path ${text(path)} does not exist`)
}

function unprocessable(why: string): ApiError {
  return new ApiError('Invalid', `the server rejected our request due to an error in our request: ${why}`)
}

function text(path: readonly string[]): string {
  return (
    path.map(step => `/${step.replaceAll('~', '~0').replaceAll('/', '~1')}`).join('') || 'of the whole object'
  )
}
