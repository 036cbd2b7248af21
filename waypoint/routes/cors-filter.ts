/** Source: Gateway API v1, HTTPCORSFilter. */
import type { Fields, Problems } from '../../shared/mesh/yaml-fields.ts'
import { parseOrigin } from '../cors.ts'
import { isToken } from '../http1/characters.ts'
import type { AllowedOrigin, CorsPolicy } from './route.ts'

/** Seconds, where the policy does not say. */
const defaultMaxAge = 5

/** What no answer can carry is told to `faults`. */
export function readCors(fields: Fields, faults: Problems): CorsPolicy {
  const names = (list: string): readonly string[] =>
    texts(fields, list, (text, path) => {
      if (!isToken(text)) faults.add(path, `${JSON.stringify(text)} is no name and no *`)
      return text
    })
  const policy: CorsPolicy = {
    origins: texts(fields, 'allowOrigins', (text, path) => allowedOrigin(text, path, faults)),
    methods: names('allowMethods'),
    headers: names('allowHeaders'),
    exposed: names('exposeHeaders'),
    credentials: fields.flag('allowCredentials', false),
    maxAgeSeconds: fields.integer('maxAge', defaultMaxAge, 2 ** 31 - 1)
  }
  fields.end()
  return policy
}

function texts<T>(fields: Fields, list: string, read: (text: string, path: string) => T | undefined): T[] {
  return fields.list(list, (value, path) => {
    if (typeof value === 'string') return read(value, path)
    fields.problems.add(path, 'expected text')
    return undefined
  })
}

/** A `*` alone, or as the first label of a host, which it stands for with all to the left of it. */
function allowedOrigin(text: string, path: string, faults: Problems): AllowedOrigin | undefined {
  if (text === '*') return { kind: 'any' }
  const origin = parseOrigin(text)
  const [label, ...rest] = origin?.host.split('.') ?? []
  if (origin !== undefined && !origin.host.includes('*')) return { kind: 'one', ...origin }
  if (origin !== undefined && label === '*' && !rest.join('.').includes('*')) {
    return { kind: 'ending', ...origin, host: origin.host.slice(1) }
  }
  faults.add(path, `${JSON.stringify(text)} is no origin such as https://shop.example or https://*.example`)
  return undefined
}
