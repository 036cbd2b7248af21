/** Bodies that hold an object: JSON, YAML, or Kubernetes' protobuf form. */
import { ApiError, badRequest } from '../api-error.ts'
import type { JsonObject } from '../json.ts'
import { expectObject, parseJson, type Exchange } from './exchange.ts'

const protobufType = 'application/vnd.kubernetes.protobuf'

/** The object in the body; `empty` where there is none and that is allowed. Throws 415 for an unknown form. */
export async function readBodyObject(exchange: Exchange, empty?: JsonObject): Promise<JsonObject> {
  const bytes = await exchange.readBody()
  if (bytes.length === 0) {
    if (empty !== undefined) return empty
    throw badRequest('the body is empty')
  }
  switch (exchange.contentType) {
    case '':
    case 'application/json':
      return expectObject(parseJson(bytes))
    case 'application/yaml': {
      const { parseYaml, YamlError } = await import('../../../shared/kube/yaml.ts')
      try {
        return expectObject(parseYaml(bytes.toString('utf8'), 'body'))
      } catch (error) {
        if (error instanceof YamlError) throw badRequest(error.message)
        throw error
      }
    }
    case protobufType: {
      const { decodeProtobuf } = await import('./protobuf.ts')
      return decodeProtobuf(bytes)
    }
    default:
      throw new ApiError(
        'UnsupportedMediaType',
        `the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, ${protobufType}`
      )
  }
}
