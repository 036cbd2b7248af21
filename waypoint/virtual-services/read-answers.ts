/** Answers and targets that a route of a VirtualService makes up. Source: Istio's published HTTPRedirect, HTTPDirectResponse and HTTPRewrite. */
import type { Fields } from '../../shared/mesh/yaml-fields.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import { readInner } from '../destination-rules/read-part.ts'
import { isHost, isTarget } from '../http1/characters.ts'
import { replacement } from '../routes/regular-expression.ts'
import type { OwnAnswer, PathChange, Rewrite } from '../routes/route.ts'
import type { Reading } from './reading.ts'

const redirects = [301, 302, 303, 307, 308]

export function readRedirect(fields: Fields, reading: Reading): OwnAnswer {
  const status = fields.integer('redirectCode', 301, 599) || 301
  if (!redirects.includes(status)) {
    fields.problems.add(`${fields.path}.redirectCode`, `expected one of ${redirects.join(', ')}`)
  }
  const port = fields.integer('port', 0, 65_535)
  const derived = fields.choice(
    'derivePort',
    ['FROM_PROTOCOL_DEFAULT', 'FROM_REQUEST_PORT'],
    'FROM_PROTOCOL_DEFAULT'
  )
  const scheme = fields.text('scheme', '')
  if (!/^(?:[a-z][a-z0-9+.-]*)?$/i.test(scheme)) {
    fields.problems.add(`${fields.path}.scheme`, `${JSON.stringify(scheme)} is no scheme`)
  }
  const [uri, prefix] = [target(fields, 'uri', reading), target(fields, 'prefixRewrite', reading)]
  if (uri !== undefined && prefix !== undefined) {
    fields.problems.add(fields.path, 'has uri and prefixRewrite; keep one of them')
  }
  return {
    kind: 'redirect',
    status,
    scheme: scheme === '' ? undefined : scheme.toLowerCase(),
    authority: authorityOf(fields, reading),
    uri,
    prefix,
    port: port > 0 ? port : derived === 'FROM_REQUEST_PORT' ? 'request' : undefined
  }
}

/** Bytes. */
const longestBody = 1 << 20

export function readDirectResponse(fields: Fields, { unsupported }: Reading): OwnAnswer {
  const status = fields.integer('status', 0, 599)
  if (status < 200) fields.problems.add(`${fields.path}.status`, 'expected a status from 200 to 599')
  const body = readInner(fields, 'body', inner => {
    const text = inner.text('string', '')
    const bytes = Buffer.from(inner.text('bytes', ''), 'base64')
    if (text !== '' && bytes.length > 0) inner.problems.add(inner.path, 'has string and bytes; keep one')
    if (!Buffer.from(bytes.toString()).equals(bytes)) {
      unsupported.add(`${inner.path}.bytes`, 'are not text in UTF-8')
    }
    return text === '' ? bytes.toString() : text
  })
  if (Buffer.byteLength(body ?? '') > longestBody) {
    fields.problems.add(`${fields.path}.body`, `is longer than ${longestBody} bytes`)
  }
  return { kind: 'direct', status, body: body ?? '' }
}

export function readRewrite(fields: Fields, reading: Reading): Rewrite {
  const uri = target(fields, 'uri', reading)
  const expression = readInner(fields, 'uriRegexRewrite', inner => expressionOf(inner))
  if (uri !== undefined && expression !== undefined) {
    fields.problems.add(fields.path, 'has uri and uriRegexRewrite; keep one of them')
  }
  const path = expression ?? (uri === undefined ? undefined : ({ kind: 'text', value: uri } as const))
  return { hostname: authorityOf(fields, reading), path }
}

function expressionOf(fields: Fields): PathChange | undefined {
  const match = fields.text('match')
  const substitution = fields.text('rewrite', '')
  try {
    return { kind: 'expression', value: replacement(match, substitution) }
  } catch (error) {
    fields.problems.add(fields.path, messageOf(error))
    return undefined
  }
}

function authorityOf(fields: Fields, { unsupported }: Reading): string | undefined {
  const text = fields.text('authority', '')
  if (!isHost(text)) unsupported.add(`${fields.path}.authority`, `${JSON.stringify(text)} is no host`)
  return text === '' ? undefined : text
}

function target(fields: Fields, name: string, { unsupported }: Reading): string | undefined {
  const text = fields.text(name, '')
  if (text === '') return undefined
  if (!isTarget(text)) {
    unsupported.add(
      `${fields.path}.${name}`,
      `${JSON.stringify(text)} has characters that must be percent-encoded`
    )
  }
  return text
}
