/** What a route of a VirtualService makes of requests and answers. Source: Istio's published HTTPRoute (networking.istio.io/v1). */
import { Fields } from '../../shared/mesh/yaml-fields.ts'
import { readDuration, readInner, readText } from '../destination-rules/read-part.ts'
import { parseOrigin } from '../cors.ts'
import { isToken } from '../http1/characters.ts'
import { noFilters } from '../routes/filters.ts'
import type { AllowedOrigin, CorsPolicy, Filters, Mirror, Rewrite } from '../routes/route.ts'
import { readDirectResponse, readRedirect, readRewrite } from './read-answers.ts'
import { readDestination, readDestinationFields } from './read-destination.ts'
import { readHeaders } from './read-headers.ts'
import { readShare, shareOf, type Reading } from './reading.ts'
import { readStringMatch } from './string-match.ts'

/** Of an `http` entry, but for what it has unsupported. */
export function readRuleFilters(fields: Fields, reading: Reading): Omit<Filters, 'unsupported'> {
  const headers = readHeaders(fields, reading)
  const rewrite = readInner(fields, 'rewrite', inner => readRewrite(inner, reading))
  return {
    ...noFilters,
    cors: readInner(fields, 'corsPolicy', inner => readCors(inner, reading)),
    mirrors: readMirrors(fields, reading),
    requestHeaders: headers.request,
    responseHeaders: headers.response,
    rewrite: withAuthority(rewrite, headers.authority),
    ownAnswer:
      readInner(fields, 'redirect', inner => readRedirect(inner, reading)) ??
      readInner(fields, 'directResponse', inner => readDirectResponse(inner, reading))
  }
}

/** Of an entry of `route`. */
export function readDestinationFilters(fields: Fields, reading: Reading): Filters {
  const { request, response, authority } = readHeaders(fields, reading)
  const rewrite = withAuthority(undefined, authority)
  if (request === undefined && response === undefined && rewrite === undefined) return noFilters
  return { ...noFilters, requestHeaders: request, responseHeaders: response, rewrite }
}

/** A rewrite says more plainly what is meant than a header does. */
function withAuthority(rewrite: Rewrite | undefined, authority: string | undefined): Rewrite | undefined {
  if (authority === undefined || rewrite?.hostname !== undefined) return rewrite
  return { path: rewrite?.path, hostname: authority }
}

function readMirrors(fields: Fields, { place }: Reading): readonly Mirror[] {
  const mirror = fields.inner('mirror')
  const percentage = fields.inner('mirrorPercentage')
  const percent = fields.integer('mirrorPercent', 100, 100) // its older form
  const share = percentage === undefined ? shareOf(percent) : readShare(percentage)
  const several = fields.list('mirrors', (value, path): Mirror => {
    const entry = new Fields(value, path, fields.problems)
    const backend = readDestination(entry, place)
    const part = entry.inner('percentage')
    const made = { backend, share: part === undefined ? 1 : readShare(part), shadowHost: true } as const
    entry.end()
    return made
  })
  if (mirror === undefined) return several
  if (several.length > 0) fields.problems.add(fields.path, 'has mirror and mirrors; keep one of them')
  return [{ backend: readDestinationFields(mirror, place), share, shadowHost: true }]
}

function readCors(fields: Fields, { unsupported }: Reading): CorsPolicy {
  const names = (list: string): readonly string[] =>
    fields.list(list, (value, path) => {
      const text = readText(value, path, fields.problems) ?? '*'
      if (!isToken(text)) unsupported.add(path, `${JSON.stringify(text)} is no name and no *`)
      return text
    })
  const origins = fields.list('allowOrigins', (value, path) =>
    allowedOrigin(new Fields(value, path, fields.problems))
  )
  const older = fields.list('allowOrigin', (value, path) =>
    originOf(readText(value, path, fields.problems) ?? '')
  )
  const maxAgeMs = readDuration(fields, 'maxAge', 0)
  const others = fields.choice('unmatchedPreflights', ['UNSPECIFIED', 'FORWARD', 'IGNORE'], 'UNSPECIFIED')
  return {
    origins: [...origins, ...older],
    methods: names('allowMethods'),
    headers: names('allowHeaders'),
    exposed: names('exposeHeaders'),
    credentials: fields.flag('allowCredentials', false),
    maxAgeSeconds: maxAgeMs === undefined ? undefined : Math.floor(maxAgeMs / 1000),
    ...(others === 'IGNORE' ? {} : { forwardsOthers: true })
  }
}

function allowedOrigin(fields: Fields): AllowedOrigin {
  const text = readStringMatch(fields)
  if (text.kind === 'exact') return originOf(text.value)
  return text.kind === 'present' ? { kind: 'any' } : { kind: 'written', text }
}

/** In its parts, so that a port that the scheme means need not be written. */
function originOf(text: string): AllowedOrigin {
  if (text === '*') return { kind: 'any' }
  const origin = parseOrigin(text)
  return origin === undefined
    ? { kind: 'written', text: { kind: 'exact', value: text } }
    : { kind: 'one', ...origin }
}
