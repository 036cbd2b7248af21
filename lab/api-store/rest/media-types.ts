/** Content negotiation: the forms in which an answer may be wanted. */
import { ApiError } from '../api-error.ts'

export type Form = 'object' | 'table' | 'metadata'

const json = 'application/json'
/** Forms of the answer by the `as` parameter of the Accept header. */
const forms: ReadonlyMap<string, Form> = new Map([
  ['Table', 'table'],
  ['PartialObjectMetadata', 'metadata'],
  ['PartialObjectMetadataList', 'metadata']
])

interface MediaRange {
  readonly type: string
  readonly parameters: Readonly<Record<string, string>>
}

export function readAccept(header: string | undefined): readonly MediaRange[] {
  if (header === undefined || header.trim() === '') return [{ type: '*/*', parameters: {} }]
  return header.split(',').map(part => {
    const [type = '', ...parameters] = part.split(';').map(piece => piece.trim())
    return {
      type,
      parameters: Object.fromEntries(parameters.map(piece => piece.split('=', 2))) as Record<string, string>
    }
  })
}

/** The first form that is asked for and can be given. Throws 406. */
export function chooseForm(accept: string | undefined): Form {
  for (const { type, parameters } of readAccept(accept)) {
    if (![json, 'application/*', '*/*'].includes(type)) continue
    if (parameters['as'] === undefined) return 'object'
    const form = forms.get(parameters['as'])
    if (form !== undefined && parameters['g'] === 'meta.k8s.io' && parameters['v'] === 'v1') return form
  }
  throw new ApiError('NotAcceptable', `only the following media types are accepted: ${json}`)
}

/** Whether the client wants discovery in one document. */
export function wantsAggregated(accept: string | undefined): boolean {
  return readAccept(accept).some(
    ({ type, parameters }) =>
      type === json &&
      parameters['g'] === 'apidiscovery.k8s.io' &&
      parameters['v'] === 'v2' &&
      parameters['as'] === 'APIGroupDiscoveryList'
  )
}
