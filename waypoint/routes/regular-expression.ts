/**
 * Regular expressions of routes and policies: RE2's, whole text, in time linear in the text. Node's own could be held
 * up for hours by a request that fits an unlucky expression.
 */
import { RE2JS } from 're2js'

export interface RegularExpression {
  /** Whether all of the text matches. */
  matches(text: string): boolean
}

/** Throws an Error with what is wrong. */
export function regularExpression(source: string): RegularExpression {
  try {
    const compiled = RE2JS.compile(source)
    return { matches: text => compiled.matches(text) }
  } catch (cause) {
    throw new Error(`${JSON.stringify(source)} is no regular expression of RE2`, { cause })
  }
}
