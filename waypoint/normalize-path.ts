/**
 * One form for paths that mean the same, before policies and routes look at them; what they saw is forwarded.
 * MeshConfig.pathNormalization of Istio's API (mesh/v1alpha1), RFC 3986 section 6.2.2.
 */
import { pathOf } from './http/target.ts'

export const pathNormalizations = ['NONE', 'BASE', 'MERGE_SLASHES', 'DECODE_AND_MERGE_SLASHES'] as const

export type PathNormalization = (typeof pathNormalizations)[number]

/**
 * The query is left as it is, and so is a target without a path, such as `*`. Undefined where a percent sign does not begin an encoded byte,
 * or begins NUL: whoever reads such a path next may read another one. Applied twice it changes nothing more.
 */
export function normalizePath(target: string, how: PathNormalization): string | undefined {
  if (how === 'NONE' || !target.startsWith('/')) return target
  const path = pathOf(target)
  const normalized = isPlain(path) ? path : normalizedPath(path, how)
  return normalized === undefined ? undefined : normalized + target.slice(path.length)
}

/** Most paths: nothing in them could be written in another way. */
function isPlain(path: string): boolean {
  return !/[%\\]|\/\/|\/\.{1,2}(?:\/|$)/.test(path)
}

function normalizedPath(path: string, how: PathNormalization): string | undefined {
  if (/%(?![0-9A-Fa-f]{2})|%00/.test(path)) return undefined
  const slashes = how === 'DECODE_AND_MERGE_SLASHES'
  const decoded = path
    .replaceAll(/%[0-9A-Fa-f]{2}/g, encoded => decodedByte(encoded, slashes))
    .replaceAll('\\', '/')
  const straight = withoutDotSegments(decoded)
  return how === 'BASE' ? straight : straight.replaceAll(/\/{2,}/g, '/')
}

/** Unreserved characters (RFC 3986 section 2.3) mean the same encoded; `/` and `\` do not, unless it is asked for. */
function decodedByte(encoded: string, slashes: boolean): string {
  const character = String.fromCharCode(Number.parseInt(encoded.slice(1), 16))
  return /[A-Za-z0-9\-._~]/.test(character) || (slashes && /[/\\]/.test(character)) ? character : encoded
}

/** RFC 3986 section 5.2.4; `..` above the root is dropped. */
function withoutDotSegments(path: string): string {
  const kept: string[] = []
  const segments = path.split('/').slice(1)
  for (const [at, segment] of segments.entries()) {
    const last = at === segments.length - 1
    if (segment === '..') kept.pop()
    if (segment !== '.' && segment !== '..') kept.push(segment)
    else if (last) kept.push('')
  }
  return `/${kept.join('/')}`
}
