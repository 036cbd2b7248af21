/**
 * Refusals as Kubernetes words them: `metav1.Status` with code, reason, and for invalid objects one cause a
 * field. Source: Kubernetes API conventions, "Response Status Kind" and "Errors".
 */
import type { JsonObject } from './json.ts'

export type Reason =
  | 'AlreadyExists'
  | 'BadRequest'
  | 'Conflict'
  | 'Expired'
  | 'Forbidden'
  | 'InternalError'
  | 'Invalid'
  | 'MethodNotAllowed'
  | 'NotAcceptable'
  | 'NotFound'
  | 'RequestEntityTooLarge'
  | 'ServiceUnavailable'
  | 'Timeout'
  | 'Unauthorized'
  | 'UnsupportedMediaType'

const codes = {
  AlreadyExists: 409,
  BadRequest: 400,
  Conflict: 409,
  Expired: 410,
  Forbidden: 403,
  InternalError: 500,
  Invalid: 422,
  MethodNotAllowed: 405,
  NotAcceptable: 406,
  NotFound: 404,
  RequestEntityTooLarge: 413,
  ServiceUnavailable: 503,
  Timeout: 504,
  Unauthorized: 401,
  UnsupportedMediaType: 415
} as const satisfies Record<Reason, number>

/** What an error is about, as `details` of the Status. */
export interface ErrorSubject {
  readonly group?: string | undefined
  /** The plural; for invalid objects the kind. */
  readonly kind?: string | undefined
  readonly name?: string | undefined
}

export interface Cause {
  readonly reason: string
  readonly message: string
  readonly field: string
}

export class ApiError extends Error {
  readonly code: number
  readonly reason: Reason
  readonly subject: ErrorSubject
  readonly causes: readonly Cause[]

  constructor(reason: Reason, message: string, subject: ErrorSubject = {}, causes: readonly Cause[] = []) {
    super(message)
    this.name = 'ApiError'
    this.code = codes[reason]
    this.reason = reason
    this.subject = subject
    this.causes = causes
  }

  toStatus(): JsonObject {
    const { group, kind, name } = this.subject
    return {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message: this.message,
      reason: this.reason,
      ...(kind === undefined && this.causes.length === 0
        ? {}
        : {
            details: {
              ...(name ? { name } : {}),
              ...(group ? { group } : {}),
              ...(kind ? { kind } : {}),
              ...(this.causes.length === 0 ? {} : { causes: this.causes })
            }
          }),
      code: this.code
    }
  }
}

/** A resource as error texts name it: `pods`, `deployments.apps`. */
export interface NamedResource {
  readonly group: string
  readonly plural: string
}

export function qualified({ group, plural }: NamedResource): string {
  return group === '' ? plural : `${plural}.${group}`
}

function subjectOf(resource: NamedResource, name: string): ErrorSubject {
  return { group: resource.group, kind: resource.plural, name }
}

export function notFound(resource: NamedResource, name: string): ApiError {
  return new ApiError('NotFound', `${qualified(resource)} "${name}" not found`, subjectOf(resource, name))
}

export function alreadyExists(resource: NamedResource, name: string): ApiError {
  const message = `${qualified(resource)} "${name}" already exists`
  return new ApiError('AlreadyExists', message, subjectOf(resource, name))
}

export function conflict(resource: NamedResource, name: string, why: string): ApiError {
  const message = `Operation cannot be fulfilled on ${qualified(resource)} "${name}": ${why}`
  return new ApiError('Conflict', message, subjectOf(resource, name))
}

export function forbidden(resource: NamedResource, name: string, why: string): ApiError {
  const message = `${qualified(resource)} "${name}" is forbidden: ${why}`
  return new ApiError('Forbidden', message, subjectOf(resource, name))
}

export function badRequest(message: string): ApiError {
  return new ApiError('BadRequest', message)
}

export function expired(message: string): ApiError {
  return new ApiError('Expired', message)
}

/** One thing wrong with one field. */
export interface Problem {
  /** As `spec.template.spec.containers[0].image`. */
  readonly field: string
  readonly reason: keyof typeof problemTexts
  readonly value?: unknown
  readonly detail?: string
}

const problemTexts = {
  FieldValueRequired: 'Required value',
  FieldValueInvalid: 'Invalid value',
  FieldValueTypeInvalid: 'Invalid value',
  FieldValueNotSupported: 'Unsupported value',
  FieldValueDuplicate: 'Duplicate value',
  FieldValueForbidden: 'Forbidden',
  FieldValueTooLong: 'Too long',
  FieldValueTooMany: 'Too many',
  FieldValueNotFound: 'Not found'
} as const

export function required(field: string, detail = ''): Problem {
  return { field, reason: 'FieldValueRequired', detail }
}

export function invalidValue(field: string, value: unknown, detail: string): Problem {
  return { field, reason: 'FieldValueInvalid', value, detail }
}

export function unsupported(field: string, value: unknown, supported: readonly string[]): Problem {
  const detail = `supported values: ${supported.map(text => JSON.stringify(text)).join(', ')}`
  return { field, reason: 'FieldValueNotSupported', value, detail }
}

export function duplicate(field: string, value: unknown): Problem {
  return { field, reason: 'FieldValueDuplicate', value }
}

export function forbiddenField(field: string, detail: string): Problem {
  return { field, reason: 'FieldValueForbidden', detail }
}

/** The text of a problem without its field. */
export function problemText({ reason, value, detail = '' }: Problem): string {
  const shown = value === undefined ? '' : `: ${show(value)}`
  return `${problemTexts[reason]}${shown}${detail === '' ? '' : `: ${detail}`}`
}

/** 422 for an object of `kind`; at least one problem. */
export function invalid(
  { group, kind }: { readonly group: string; readonly kind: string },
  name: string,
  problems: readonly Problem[]
): ApiError {
  const texts = problems.map(problem => `${problem.field}: ${problemText(problem)}`)
  const all = texts.length === 1 ? (texts[0] ?? '') : `[${texts.join(', ')}]`
  const message = `${group === '' ? kind : `${kind}.${group}`} "${name}" is invalid: ${all}`
  const causes = problems.map(problem => ({
    reason: problem.reason,
    message: problemText(problem),
    field: problem.field
  }))
  return new ApiError('Invalid', message, { group, kind, name }, causes)
}

/** A value in an error text, cut where it is long. */
function show(value: unknown): string {
  const text = JSON.stringify(value)
  return text.length > 400 ? `${text.slice(0, 400)}…` : text
}
