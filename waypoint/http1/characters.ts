/** Classes of bytes by which HTTP/1.1 is read: RFC 9110 section 5.6.2 (token), 5.5 (field content), RFC 3986 (targets). */

function table(accepts: (code: number) => boolean): Uint8Array {
  return Uint8Array.from({ length: 256 }, (_, code) => (accepts(code) ? 1 : 0))
}

function among(letters: string): (code: number) => boolean {
  return code => letters.includes(String.fromCharCode(code))
}

const alphanumeric = (code: number): boolean => /[0-9A-Za-z]/.test(String.fromCharCode(code))
const mark = among("!#$%&'*+-.^_`|~")
const space = among(' \t')

const tokenCodes = table(code => alphanumeric(code) || mark(code))
/** Visible characters, obs-text, and the blanks between them; no control character, NUL, CR or LF. */
const valueCodes = table(code => (code > 0x20 && code !== 0x7f) || space(code))
/** What a request target may hold: RFC 3986 without the fragment, and what clients leave unencoded all the same. */
const targetCodes = table(code => alphanumeric(code) || among('-._~:/?[]@!$&\'()*+,;=%|{}^`"<>\\')(code))
const hostCodes = table(code => alphanumeric(code) || among("-._~:[]!$&'()*+,;=%")(code))

export const isToken = (text: string): boolean => text !== '' && consistsOf(text, tokenCodes)
export const isFieldValue = (text: string): boolean => consistsOf(text, valueCodes)
export const isTarget = (text: string): boolean => text !== '' && consistsOf(text, targetCodes)
/** A host with an optional port, as RFC 9110 section 7.2 has it; empty is allowed there. */
export const isHost = (text: string): boolean => consistsOf(text, hostCodes) && portIsNumber.test(text)

const portIsNumber = /^(?:\[[^\]]*\]|[^:[\]]*)(?::\d*)?$/

/** Of texts that did not come through a reader of ours: what does not fit into a byte would be cut when it is written. */
export const isHeaderText = (text: string): boolean =>
  !/[^\t\x20-\x7e\x80-\xff]/.test(text) && text.trim() === text

function consistsOf(text: string, codes: Uint8Array): boolean {
  for (let at = 0; at < text.length; at++) if (codes[text.charCodeAt(at)] !== 1) return false
  return true
}
