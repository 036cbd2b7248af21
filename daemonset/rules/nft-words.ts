/**
 * nft's JSON of chains and rules as one line of text each, in words close to nft's own. Forms that mean the same give
 * the same words, so that a comparison holds across versions of nft.
 */
export type Json = string | number | null | JsonObject | readonly Json[]
export interface JsonObject {
  readonly [key: string]: Json
}

/** Chains first, then the rules by chain in their order; other objects are left out. */
export function nftLines(objects: readonly (JsonObject | undefined)[]): string[] {
  const chains: string[] = []
  const rules = new Map<string, string[]>()
  for (const object of objects) {
    const { chain, rule } = object ?? {}
    if (isObject(chain)) {
      const [name, type, hook, priority, policy] = ['name', 'type', 'hook', 'prio', 'policy'].map(key =>
        field(chain, key)
      )
      chains.push(`chain ${name}: type ${type} hook ${hook} priority ${priority} policy ${policy}`)
    } else if (isObject(rule)) {
      const parts = (Array.isArray(rule['expr']) ? rule['expr'] : []) as readonly Json[]
      const words = parts.filter(part => !(isObject(part) && 'counter' in part)).map(wordsOf)
      const name = field(rule, 'chain')
      const lines = rules.get(name) ?? []
      rules.set(name, [...lines, `${name}: ${words.join(' ')} # ${field(rule, 'comment')}`])
    }
  }
  const byName = [...rules].toSorted(([a], [b]) => (a < b ? -1 : 1))
  return [...chains.toSorted(), ...byName.flatMap(([, lines]) => lines)]
}

function wordsOf(part: Json | undefined): string {
  if (part === undefined || part === null) return ''
  if (typeof part !== 'object') return String(part)
  if (!isObject(part)) return part.map(wordsOf).toSorted().join(',')
  const [kind = '', value] = Object.entries(part)[0] ?? []
  if (!isObject(value))
    return Array.isArray(value) ? operatorWords(kind, value) : value === null ? kind : JSON.stringify(part)
  switch (kind) {
    case 'match': {
      const op = field(value, 'op')
      const left = wordsOf(value['left'])
      const right = left.includes('mark') ? numberWords(value['right']) : wordsOf(value['right'])
      return `${left} ${op === '==' || op === 'in' ? '' : `${op} `}${right}`
    }
    case 'mangle':
      return `${wordsOf(value['key'])} set ${wordsOf(value['value'])}`
    case 'meta':
    case 'ct':
      return `${kind} ${field(value, 'key')}`
    case 'payload':
      return `${field(value, 'protocol')} ${field(value, 'field')}`
    case 'prefix':
      return `${field(value, 'addr')}/${field(value, 'len')}`
    case 'tproxy':
    case 'redirect':
      return `${kind} to :${field(value, 'port')}`
    default:
      return JSON.stringify(part)
  }
}

function operatorWords(operator: string, operands: readonly Json[]): string {
  const [left, right] = operands
  if (operator === '&') return `${wordsOf(left)} & ${numberWords(right)}`
  if (operator !== '|') return operands.map(wordsOf).join(` ${operator} `)
  if (typeof right !== 'number') return operands.map(wordsOf).join(',').split(',').toSorted().join(',')
  // `mark & kept | bits`: versions of nft differ in whether they list the bits among the kept ones.
  const masked = isObject(left) ? left['&'] : undefined
  const [key, kept] = (Array.isArray(masked) ? masked : []) as readonly Json[]
  if (typeof kept !== 'number') return `${wordsOf(left)} | ${numberWords(right)}`
  return `${wordsOf(key)} & ${numberWords((kept & ~right) >>> 0)} | ${numberWords(right)}`
}

function numberWords(part: Json | undefined): string {
  return typeof part === 'number' ? `0x${part.toString(16)}` : wordsOf(part)
}

function field(object: JsonObject, key: string): string {
  const value = object[key]
  return typeof value === 'string' || typeof value === 'number' ? String(value) : ''
}

function isObject(part: Json | undefined): part is JsonObject {
  return typeof part === 'object' && part !== null && !Array.isArray(part)
}
