/** `loadBalancer.consistentHash`. Source: Istio's published ConsistentHashLB. */
import { Fields } from '../../shared/mesh/yaml-fields.ts'
import { isHeaderText, isToken } from '../http1/characters.ts'
import type { Balancing, HashKey, HashTable } from '../traffic-policy.ts'
import { readDuration, readInner } from './read-part.ts'

/** Without a key any pod will do. */
export function readConsistentHash(fields: Fields): Balancing {
  const table = readTable(fields)
  const keys = readKeys(fields)
  if (keys.length > 1) fields.problems.add(fields.path, 'has more than one key: choose one')
  const [key] = keys
  return key === undefined ? { kind: 'random' } : { kind: 'consistent-hash', key, table }
}

function readKeys(fields: Fields): readonly HashKey[] {
  const header = fields.text('httpHeaderName', '').toLowerCase()
  if (header !== '') checkToken(fields, 'httpHeaderName', header)
  const query = fields.text('httpQueryParameterName', '')
  const cookie = readInner(fields, 'httpCookie', readCookie)
  return [
    ...(header === '' ? [] : [{ from: 'header', name: header } as const]),
    ...(query === '' ? [] : [{ from: 'query', name: query } as const]),
    ...(fields.flag('useSourceIp', false) ? [{ from: 'source-ip' } as const] : []),
    ...(cookie === undefined ? [] : [cookie])
  ]
}

/** What is written into `Set-Cookie` may not end its part of it (RFC 6265 section 4.1.1). */
function readCookie(fields: Fields): HashKey {
  const { problems } = fields
  const name = fields.text('name')
  checkToken(fields, 'name', name)
  const path = fields.text('path', '')
  checkCookieText(fields, 'path', path)
  const names = new Set<string>()
  const attributes = fields.list('attributes', (value, at) => {
    const entry = new Fields(value, at, problems)
    const pair = [entry.text('name'), entry.text('value', '')] as const
    entry.end()
    checkToken(entry, 'name', pair[0])
    checkCookieText(entry, 'value', pair[1])
    if (names.has(pair[0])) problems.add(`${at}.name`, `${pair[0]} is said twice`)
    names.add(pair[0])
    return pair
  })
  return { from: 'cookie', name, path, ttlMs: readDuration(fields, 'ttl', 0), attributes }
}

function checkToken(fields: Fields, field: string, text: string): void {
  if (isToken(text)) return
  fields.problems.add(`${fields.path}.${field}`, `${JSON.stringify(text)} has characters that no name has`)
}

function checkCookieText(fields: Fields, field: string, text: string): void {
  if (isHeaderText(text) && !text.includes(';')) return
  fields.problems.add(`${fields.path}.${field}`, 'has characters that a cookie cannot carry')
}

const usualRing = 1024
/** Envoy's limit. */
const largestRing = 8 * 1024 * 1024
const usualTable = 65_537
const largestTable = 5_000_010

function readTable(fields: Fields): HashTable {
  const { path, problems } = fields
  const older = fields.integer('minimumRingSize', 0, largestRing)
  const ring = readInner(fields, 'ringHash', inner => inner.integer('minimumRingSize', 0, largestRing))
  const maglev = readInner(fields, 'maglev', inner => {
    const size = inner.integer('tableSize', 0, largestTable) || usualTable
    if (!isPrime(size)) problems.add(`${inner.path}.tableSize`, `${size} is no prime number`)
    return size
  })
  if (ring !== undefined && maglev !== undefined) {
    problems.add(`${path}.maglev`, 'is given together with ringHash: choose one')
  }
  if (older !== 0 && (ring !== undefined || maglev !== undefined)) {
    problems.add(`${path}.minimumRingSize`, 'is given together with ringHash or maglev: leave it out')
  }
  if (maglev !== undefined) return { kind: 'maglev', size: maglev }
  return { kind: 'ring', minimumSize: ring || older || usualRing }
}

function isPrime(size: number): boolean {
  for (let factor = 2; factor * factor <= size; factor++) if (size % factor === 0) return false
  return size > 1
}
