/** Names that the server makes up. */

/** Letters and digits of generated names: none that could spell a word. */
const suffixAlphabet = 'bcdfghjklmnpqrstvwxz2456789'

/** Five letters and digits. */
export function randomSuffix(): string {
  return Array.from(
    { length: 5 },
    () => suffixAlphabet[Math.floor(Math.random() * suffixAlphabet.length)]
  ).join('')
}
