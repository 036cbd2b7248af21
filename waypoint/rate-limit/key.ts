/** What requests are told apart by. */
import { createHash } from 'node:crypto'
import { spiffeParts } from '../../shared/identity/spiffe-id.ts'
import type { Fields } from '../../shared/mesh/yaml-fields.ts'
import { isToken } from '../http1/characters.ts'
import { claimText } from '../jwt/claims.ts'
import type { CountedRequest, KeyPart } from './rate-limit.ts'

/** Characters; what is longer is kept as its digest, so that clients cannot fill the memory. */
const longestKey = 256

const plain = {
  Principal: { name: 'principal', value: ({ peer }) => peer },
  Namespace: { name: 'namespace', value: ({ peer }) => peer && spiffeParts(peer).namespace },
  ServiceAccount: { name: 'service_account', value: ({ peer }) => peer && accountOf(peer) },
  SourceIp: { name: 'remote_address', value: ({ clientIp }) => clientIp },
  Service: { name: 'service', value: ({ service }) => service },
  Path: { name: 'path', value: ({ http }) => http?.path },
  Method: { name: 'method', value: ({ http }) => http?.method },
  Host: { name: 'host', value: ({ http }) => http?.authority.toLowerCase() }
} as const satisfies Record<string, KeyPart>

const kinds = [...(Object.keys(plain) as (keyof typeof plain)[]), 'Header', 'Claim', 'Constant'] as const

/** An entry of `key`. */
export function readKeyPart(fields: Fields): KeyPart {
  const type = fields.choice('type', kinds)
  const part = partOf(type, fields)
  fields.end()
  return part
}

function partOf(type: (typeof kinds)[number], fields: Fields): KeyPart {
  switch (type) {
    case 'Header': {
      const name = fields.text('name').toLowerCase()
      if (!isToken(name)) fields.problems.add(`${fields.path}.name`, 'is no name of a header')
      return { name: `header.${name}`, value: ({ http }) => headerOf(http, name) }
    }
    case 'Claim': {
      const name = fields.text('name')
      const names = name.split('.')
      if (names.includes('')) {
        fields.problems.add(
          `${fields.path}.name`,
          'expected the name of a claim, or several with dots between'
        )
      }
      return {
        name: `claim.${name}`,
        value: ({ http }) => (http?.claims === undefined ? undefined : claimText(http.claims, names))
      }
    }
    case 'Constant': {
      const value = fields.text('value')
      return { name: 'generic_key', value: () => value }
    }
    default:
      return plain[type]
  }
}

/**
 * Under which a request counts. What it does not have is as if it were empty: leaving a header out does not lead around a
 * limit, but all who do so share one.
 */
export function keyOf(parts: readonly KeyPart[], request: CountedRequest): string {
  if (parts.length === 0) return ''
  // Joined, as a part of the bytes that came would keep all of them in memory.
  const key = ['', ...parts.map(({ value }) => value(request) ?? '')].join('\n')
  return key.length > longestKey ? createHash('sha256').update(key).digest('base64') : key
}

function accountOf(peer: NonNullable<CountedRequest['peer']>): string {
  const { namespace, serviceAccount } = spiffeParts(peer)
  return `${namespace}/${serviceAccount}`
}

function headerOf(http: CountedRequest['http'], name: string): string | undefined {
  return http?.headers.has(name) === true ? http.headers.all(name).join(',') : undefined
}
