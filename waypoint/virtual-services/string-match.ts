/** Source: Istio's published StringMatch. */
import type { Fields } from '../../shared/mesh/yaml-fields.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import { regularExpression } from '../routes/regular-expression.ts'
import type { StringMatch } from '../routes/route.ts'

/** No text that anybody writes. */
const unsaid = '\0'

/** Without any condition, with an empty prefix and with the expression `*` the text has only to be there. */
export function readStringMatch(fields: Fields): StringMatch {
  const [exact, prefix, regex] = [
    fields.text('exact', unsaid),
    fields.text('prefix', unsaid),
    fields.text('regex', unsaid)
  ]
  fields.end()
  const said = [exact, prefix, regex].filter(text => text !== unsaid)
  if (said.length > 1) fields.problems.add(fields.path, 'has more than one of exact, prefix and regex')
  if (exact !== unsaid) return { kind: 'exact', value: exact }
  if (prefix !== unsaid && prefix !== '') return { kind: 'prefix', value: prefix }
  if (regex === unsaid || regex === '*') return { kind: 'present' }
  try {
    return { kind: 'regex', value: regularExpression(regex) }
  } catch (error) {
    fields.problems.add(`${fields.path}.regex`, messageOf(error))
    return { kind: 'exact', value: regex }
  }
}

export function textHolds(match: StringMatch, text: string | undefined): boolean {
  if (text === undefined) return false
  switch (match.kind) {
    case 'present':
      return true
    case 'exact':
      return match.value === text
    case 'prefix':
      return text.startsWith(match.value)
    case 'regex':
      return match.value.matches(text)
    default:
      return match satisfies never
  }
}
