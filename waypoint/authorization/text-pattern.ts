/** Values of policies as tests of a text. Source: Istio's published AuthorizationPolicy (exact, prefix, suffix, presence). */

export type TextTest = (text: string) => boolean

const notEmpty: TextTest = text => text !== ''

/** `*` at one end stands for anything, alone for anything but the empty text; elsewhere it is a character. */
export function textPattern(value: string): TextTest {
  if (value === '*') return notEmpty
  if (value.startsWith('*')) {
    const suffix = value.slice(1)
    return text => text.endsWith(suffix)
  }
  if (value.endsWith('*')) {
    const prefix = value.slice(0, -1)
    return text => text.startsWith(prefix)
  }
  return text => text === value
}

/** Each `*` stands for any characters, also none. In time linear in the text times the number of stars. */
export function globPattern(value: string): TextTest {
  const [first = '', ...rest] = value.split('*')
  const last = rest.pop()
  if (last === undefined) return text => text === value
  return text => {
    if (!text.startsWith(first) || text.length < first.length + last.length || !text.endsWith(last))
      return false
    const end = text.length - last.length
    let at = first.length
    for (const part of rest) {
      const found = text.indexOf(part, at)
      if (found < 0 || found + part.length > end) return false
      at = found + part.length
    }
    return true
  }
}
