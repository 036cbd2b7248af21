/**
 * Objects in Kubernetes' protobuf form, as typed Go clients send them, read into their JSON form. Answers are
 * always JSON, which those clients accept too. Source: Kubernetes, "Kubernetes Protobuf encoding".
 */
import { badRequest } from '../api-error.ts'
import { define, isObject, textOf, type JsonObject, type MutableObject } from '../json.ts'
import { readData } from '../schema/schema.ts'

/**
 * JSON name, type, and how often: `pointer` is a scalar of which zero is a value, `optional` one of which zero
 * means absent, `inline` a message whose fields stand in the outer object.
 */
type Field = readonly [
  name: string,
  type: string,
  label: 'optional' | 'pointer' | 'repeated' | 'map' | 'inline'
]
type Messages = Readonly<Record<string, Readonly<Record<string, Field>>>>

let messages: Messages | undefined

function messageFields(type: string): Readonly<Record<string, Field>> {
  messages ??= readData('builtin/messages.json.gz') as Messages
  return messages[type] ?? {}
}

const magic = Buffer.from('k8s\0')
const unknownMessage = 'k8s.io.apimachinery.pkg.runtime.Unknown'

/** Throws 400 for bytes that are not such an object, or of a kind whose form is not known. */
export function decodeProtobuf(bytes: Buffer): JsonObject {
  if (!bytes.subarray(0, 4).equals(magic))
    throw badRequest('the body does not start as Kubernetes protobuf does')
  try {
    const envelope = decodeMessage(bytes.subarray(4), unknownMessage) as MutableObject
    const { apiVersion = '', kind = '' } = isObject(envelope['typeMeta']) ? envelope['typeMeta'] : {}
    const type = messageOf(textOf(apiVersion), textOf(kind))
    if (type === undefined)
      throw badRequest(`protobuf is not understood for ${textOf(kind)} of ${textOf(apiVersion)}`)
    const raw = Buffer.from(textOf(envelope['raw']), 'base64')
    return { apiVersion, kind, ...(decodeMessage(raw, type) as JsonObject) }
  } catch (error) {
    if (error instanceof RangeError)
      throw badRequest(`the protobuf body is cut off or broken: ${error.message}`)
    throw error
  }
}

function messageOf(apiVersion: string, kind: string): string | undefined {
  messageFields('')
  const [group = '', version = ''] = apiVersion.includes('/')
    ? apiVersion.split('/', 2)
    : ['core', apiVersion]
  const places = [
    `k8s.io.api.${group.split('.')[0]}.${version}`,
    'k8s.io.apimachinery.pkg.apis.meta.v1',
    `k8s.io.apiextensions_apiserver.pkg.apis.${group.split('.')[0]}.${version}`
  ]
  return places.map(place => `${place}.${kind}`).find(name => messages?.[name] !== undefined)
}

function decodeMessage(bytes: Buffer, type: string): unknown {
  const fields = messageFields(type)
  const object: MutableObject = {}
  const reader = new WireReader(bytes)
  while (!reader.ended) {
    const { number, value } = reader.field()
    const field = fields[number]
    if (field === undefined) continue
    const [name, fieldType, label] = field
    if (label === 'map') addMapEntry(object, name, fieldType, value)
    else if (label === 'repeated') addItem(object, name, decodeValue(value, fieldType))
    else if (label === 'inline') Object.assign(object, decodeValue(value, fieldType))
    else {
      const decoded = decodeValue(value, fieldType)
      const zero = decoded === '' || decoded === 0 || decoded === false
      if (decoded !== undefined && (label === 'pointer' || !zero)) define(object, name, decoded)
    }
  }
  return plainForm(type, object)
}

function addItem(object: MutableObject, name: string, item: unknown): void {
  const list = object[name]
  if (Array.isArray(list)) list.push(item)
  else object[name] = [item]
}

function addMapEntry(object: MutableObject, name: string, type: string, entry: WireValue): void {
  const reader = new WireReader(bytesOf(entry))
  let [key, value]: [string, unknown] = ['', type === 'string' ? '' : undefined]
  while (!reader.ended) {
    const { number, value: part } = reader.field()
    if (number === 1) key = bytesOf(part).toString('utf8')
    else if (number === 2) value = decodeValue(part, type)
  }
  if (!isObject(object[name])) object[name] = {}
  define(object[name] as MutableObject, key, value)
}

function decodeValue(value: WireValue, type: string): unknown {
  switch (type) {
    case 'string':
      return bytesOf(value).toString('utf8')
    case 'bytes':
      return bytesOf(value).toString('base64')
    case 'bool':
      return numberOf(value) !== 0n
    case 'int32':
    case 'int64':
    case 'uint32':
    case 'uint64':
      return Number(BigInt.asIntN(64, numberOf(value)))
    case 'double':
      return bytesOf(value).readDoubleLE(0)
    default:
      return decodeMessage(bytesOf(value), type)
  }
}

/** Types whose JSON is not an object of their fields. */
function plainForm(type: string, object: MutableObject): unknown {
  const { seconds = 0, nanos = 0 } = object
  switch (type.slice(type.lastIndexOf('.') + 1)) {
    case 'Time':
      // the zero time is none
      return Object.keys(object).length === 0
        ? undefined
        : `${new Date(Number(seconds) * 1000).toISOString().slice(0, 19)}Z`
    case 'MicroTime': {
      const micros = String(Math.floor(Number(nanos) / 1000)).padStart(6, '0')
      return Object.keys(object).length === 0
        ? undefined
        : `${new Date(Number(seconds) * 1000).toISOString().slice(0, 19)}.${micros}Z`
    }
    case 'Duration':
      return `${Number(object['duration'] ?? 0) / 1e9}s`
    case 'Quantity':
      return object['string'] ?? '0'
    case 'IntOrString':
      return object['type'] === 1 ? (object['strVal'] ?? '') : (object['intVal'] ?? 0)
    case 'RawExtension':
    case 'JSON':
    case 'FieldsV1':
      return parseRaw(object['raw'] ?? object['Raw'])
    case 'ExtraValue':
    case 'Verbs':
      return object['items'] ?? []
    case 'JSONSchemaPropsOrBool':
      return object['schema'] ?? object['allows'] === true
    case 'JSONSchemaPropsOrArray':
      return object['schema'] ?? object['jSONSchemas'] ?? []
    case 'JSONSchemaPropsOrStringArray':
      return object['schema'] ?? object['property'] ?? []
    default:
      return object
  }
}

function parseRaw(raw: unknown): unknown {
  const text = Buffer.from(typeof raw === 'string' ? raw : '', 'base64').toString('utf8')
  if (text === '') return undefined
  try {
    return JSON.parse(text) as unknown
  } catch {
    throw badRequest('a raw value inside the protobuf body is not JSON')
  }
}

type WireValue = bigint | Buffer

function bytesOf(value: WireValue): Buffer {
  if (typeof value === 'bigint') throw new RangeError('expected bytes, found a number')
  return value
}

function numberOf(value: WireValue): bigint {
  if (typeof value !== 'bigint') throw new RangeError('expected a number, found bytes')
  return value
}

/** The wire format of protobuf: fields as number, wire type and value. */
class WireReader {
  readonly #bytes: Buffer
  #offset = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get ended(): boolean {
    return this.#offset >= this.#bytes.length
  }

  field(): { number: number; value: WireValue } {
    const key = Number(this.#varint())
    const number = key >>> 3
    switch (key & 7) {
      case 0:
        return { number, value: this.#varint() }
      case 1:
        return { number, value: this.#take(8) }
      case 2:
        return { number, value: this.#take(Number(this.#varint())) }
      case 5:
        return { number, value: this.#take(4) }
      default:
        throw new RangeError(`wire type ${key & 7} is not used`)
    }
  }

  #varint(): bigint {
    let value = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.#bytes[this.#offset]
      if (byte === undefined) throw new RangeError('a number is cut off')
      this.#offset += 1
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return value
    }
    throw new RangeError('a number is longer than 64 bits')
  }

  #take(length: number): Buffer {
    const end = this.#offset + length
    if (end > this.#bytes.length) throw new RangeError('a value is longer than the body')
    const taken = this.#bytes.subarray(this.#offset, end)
    this.#offset = end
    return taken
  }
}
