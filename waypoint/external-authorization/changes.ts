/** What an authorizer makes of a request that it lets pass, and of its answer. */
import type { HeaderList } from '../http/header-list.ts'
import { pathOf, queryOf } from '../http/target.ts'
import { isFieldValue, isToken } from '../http1/characters.ts'

export interface Changes {
  readonly request: readonly HeaderEdit[]
  /** Names of headers that go, after the edits. */
  readonly remove: readonly string[]
  readonly query: QueryEdits
  readonly response: readonly HeaderEdit[]
}

export interface HeaderEdit {
  readonly how: 'set' | 'append' | 'add if absent' | 'set if present'
  /** In lower case. */
  readonly name: string
  readonly value: string
}

export interface QueryEdits {
  readonly set: readonly (readonly [name: string, value: string])[]
  readonly remove: readonly string[]
}

/** Says to those behind us that nobody was asked; only we may say it. */
export const failureHeader = 'x-envoy-auth-failure-mode-allowed'

export const noEdits: QueryEdits = { set: [], remove: [] }

/** Fields that say where a message ends or goes belong to whoever forwards it (RFC 9110 section 7.6). */
const ownHeaders = new Set([
  ...['host', 'content-length', 'transfer-encoding', 'connection', 'keep-alive', 'proxy-connection'],
  ...['upgrade', 'te', 'trailer', 'expect', 'x-forwarded-client-cert']
])

export function isOwnHeader(name: string): boolean {
  return ownHeaders.has(name) || name.startsWith(':')
}

/** Undefined for what an authorizer has no say in. Throws an Error where no message could carry it. */
export function headerEdit(how: HeaderEdit['how'], header: string, value: string): HeaderEdit | undefined {
  const name = header.toLowerCase()
  if (isOwnHeader(name)) return undefined
  if (!isToken(name)) throw new Error(`${JSON.stringify(header)} is no header name`)
  if (!isFieldValue(value)) throw new Error(`the value of ${name} has characters that a header cannot carry`)
  return { how, name, value }
}

/** Changes `headers` in place; returns the target. */
export function changeRequest(
  { request, remove, query }: Changes,
  headers: HeaderList,
  target: string
): string {
  editHeaders(headers, request)
  for (const name of remove) if (!isOwnHeader(name)) headers.remove(name)
  return editQuery(target, query)
}

export function changeResponse({ response }: Changes, headers: HeaderList): void {
  editHeaders(headers, response)
}

function editHeaders(headers: HeaderList, edits: readonly HeaderEdit[]): void {
  for (const { how, name, value } of edits) {
    if (how === 'append') headers.append(name, value)
    else if (how === 'set' || headers.has(name) === (how === 'set if present')) headers.set(name, value)
  }
}

/** The other parameters stay as they were written. */
function editQuery(target: string, { set, remove }: QueryEdits): string {
  if (set.length === 0 && remove.length === 0) return target
  const gone = new Set([...remove, ...set.map(([name]) => name)])
  const kept = queryOf(target)
    .split('&')
    .filter(part => part !== '' && !gone.has(nameOf(part)))
  const added = set.map(([name, value]) => `${encoded(name)}=${encoded(value)}`)
  const query = [...kept, ...added].join('&')
  return query === '' ? pathOf(target) : `${pathOf(target)}?${query}`
}

function encoded(text: string): string {
  return encodeURIComponent(text.toWellFormed())
}

/** As form decoders read it, so that no other spelling of a name stays behind. */
function nameOf(part: string): string {
  return new URLSearchParams(`&${part}`).keys().next().value ?? ''
}
