/**
 * How a rule keeps clients at one pod. Source: Gateway API, SessionPersistence (experimental): of v1.6, with
 * `sessionName` and `cookieConfig`, and its later form, with `cookie` and `header`.
 */
import { hashOf } from '../../shared/mesh/hash.ts'
import type { Fields } from '../../shared/mesh/yaml-fields.ts'
import { parseDuration } from '../../shared/runtime/env.ts'
import { isHeaderText, isToken } from '../http1/characters.ts'
import { headerName } from './filters.ts'
import type { SessionCarrier, SessionPersistence } from './route.ts'

/** `rule`: what no other rule is called. Everything that is wrong is told to the problems of `fields`. */
export function readSessionPersistence(fields: Fields, rule: string): SessionPersistence {
  const { problems, path } = fields
  const type = fields.choice('type', ['Cookie', 'Header'], 'Cookie')
  const name = fields.text('sessionName', '')
  const made: SessionPersistence = {
    rule,
    carrier: type === 'Cookie' ? cookie(fields, name, rule) : header(fields, name, rule),
    absoluteTimeoutMs: timeout(fields)
  }
  if (made.carrier.kind === 'cookie' && made.carrier.permanent && made.absoluteTimeoutMs === undefined) {
    problems.add(`${path}.absoluteTimeout`, 'is required for a cookie of lifetimeType Permanent')
  }
  fields.text('idleTimeout', '') // the status of the route says that it has no effect
  fields.end()
  return made
}

const longestPath = 1024

function cookie(fields: Fields, sessionName: string, rule: string): SessionCarrier {
  const { problems } = fields
  const form = fields.inner('cookie')
  const older = fields.inner('cookieConfig')
  const name = form?.text('name', '') ?? sessionName
  const path = form?.text('path', '/') ?? '/'
  const lifetime = (form ?? older)?.choice('lifetimeType', ['Session', 'Permanent'], 'Session')
  form?.end()
  older?.end()
  if (name !== '' && !isToken(name)) {
    problems.add(nameOf(fields, form), `${JSON.stringify(name)} is no name of a cookie`)
  }
  if (!path.startsWith('/') || path.length > longestPath || path.includes(';') || !isHeaderText(path)) {
    problems.add(`${form?.path}.path`, `${JSON.stringify(path)} is no path of a cookie, such as /shop`)
  }
  return { kind: 'cookie', name: name || ownName(rule), path, permanent: lifetime === 'Permanent' }
}

function ownName(rule: string): string {
  return `session-${hashOf(rule).toString(16).padStart(8, '0')}`
}

function header(fields: Fields, sessionName: string, rule: string): SessionCarrier {
  const form = fields.inner('header')
  const name = (form?.text('name', '') ?? sessionName) || ownName(rule)
  form?.end()
  const at = nameOf(fields, form)
  const lower = headerName(name, at, fields.problems)
  if (lower === 'cookie' || lower === 'set-cookie') fields.problems.add(at, 'is for cookies; use type Cookie')
  return { kind: 'header', name: lower }
}

function nameOf(fields: Fields, form: Fields | undefined): string {
  return form === undefined ? `${fields.path}.sessionName` : `${form.path}.name`
}

/** Milliseconds; undefined where nobody said. */
function timeout(fields: Fields): number | undefined {
  const text = fields.text('absoluteTimeout', '')
  if (text === '') return undefined
  const ms = parseDuration(text)
  if (ms === undefined || ms <= 0) {
    fields.problems.add(
      `${fields.path}.absoluteTimeout`,
      `expected a duration above 0, such as 1h, found ${JSON.stringify(text)}`
    )
  }
  return ms
}
