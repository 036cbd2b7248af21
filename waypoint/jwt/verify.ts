/** Whether a token was signed by a key. The only file that imports jose. */
import { compactVerify } from 'jose'
import type { Jwk } from './key-set.ts'
import type { Token } from './token.ts'

/** By one of the keys: those that cannot be used did not sign it. */
export async function isSigned({ text, algorithm }: Token, keys: readonly Jwk[]): Promise<boolean> {
  for (const key of keys) {
    try {
      await compactVerify(text, key, { algorithms: [algorithm] })
      return true
    } catch {
      // Another key, a key that is broken or too weak, or a token that was changed: in each case not by this one.
    }
  }
  return false
}
