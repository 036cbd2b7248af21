/**
 * Regular expressions of routes and policies: RE2's, whole text, in time linear in the text. Node's own could be held
 * up for hours by a request that fits an unlucky expression.
 */
import { RE2JS } from 're2js'

export interface RegularExpression {
  /** Whether all of the text matches. */
  matches(text: string): boolean
}

/** Puts something else in the place of whatever an expression finds. */
export interface Replacement {
  apply(text: string): string
}

/** Throws an Error with what is wrong. */
export function regularExpression(source: string): RegularExpression {
  const compiled = compile(source)
  const beginning = beginningOf(source)
  return { matches: text => text.startsWith(beginning) && compiled.matches(text) }
}

/** What every text that matches begins with, as far as that is plain to see: most texts are told apart by it. */
function beginningOf(source: string): string {
  if (source.includes('|')) return ''
  const [, plain = '', next = ''] = /^\^?([\w/-]*)(.?)/s.exec(source) ?? []
  return '?*{'.includes(next) && next !== '' ? plain.slice(0, -1) : plain
}

/**
 * In the substitution `\1` to `\9` stand for what the groups have found, `\0` for all of it and `\\` for a backslash.
 * Throws an Error with what is wrong. Source: RE2's published GlobalReplace.
 */
export function replacement(source: string, substitution: string): Replacement {
  const compiled = compile(source)
  const parts = substitution.split(/(\\.?)/s).map(part => partOf(part, compiled.groupCount()))
  return {
    apply: text =>
      compiled
        .matcher(text)
        .replaceAll((...found: readonly unknown[]) =>
          parts.map(part => (typeof part === 'number' ? textOf(found[part]) : part)).join('')
        )
  }
}

/** The number of a group, or text. */
function partOf(part: string, groups: number): number | string {
  if (!part.startsWith('\\')) return part
  if (part === '\\\\') return '\\'
  const group = /^\\\d$/.test(part) ? Number(part[1]) : Infinity
  if (group <= groups) return group
  throw new Error(`${JSON.stringify(part)} stands for nothing: there are ${groups} groups`)
}

/** A group that took no part in it has found nothing. */
function textOf(found: unknown): string {
  return typeof found === 'string' ? found : ''
}

function compile(source: string): RE2JS {
  try {
    return RE2JS.compile(source)
  } catch (cause) {
    throw new Error(`${JSON.stringify(source)} is no regular expression of RE2`, { cause })
  }
}
