/** Changes of headers. Source: Istio's published Headers. */
import type { Fields } from '../../shared/mesh/yaml-fields.ts'
import { readInner, readText } from '../destination-rules/read-part.ts'
import { isHeaderText, isHost } from '../http1/characters.ts'
import { headerName } from '../routes/filters.ts'
import type { HeaderChange } from '../routes/route.ts'
import type { Reading } from './reading.ts'

export interface Headers {
  readonly request: HeaderChange | undefined
  readonly response: HeaderChange | undefined
  /** In place of the request's. */
  readonly authority: string | undefined
}

const noHeaders: Headers = { request: undefined, response: undefined, authority: undefined }

/** Of `headers` in a holder. */
export function readHeaders(holder: Fields, reading: Reading): Headers {
  const made = readInner(holder, 'headers', fields => {
    const request = readInner(fields, 'request', inner => operations(inner, reading, authorityNames))
    const response = readInner(fields, 'response', inner => operations(inner, reading, none))
    return { request: request?.change, response: response?.change, authority: request?.authority }
  })
  return made ?? noHeaders
}

/** Written as headers, though they are none to us. */
const authorityNames: ReadonlySet<string> = new Set(['host', ':authority'])
const none: ReadonlySet<string> = new Set()

type Pair = readonly [name: string, value: string]

interface Operations {
  readonly change: HeaderChange
  readonly authority: string | undefined
}

function operations(fields: Fields, reading: Reading, authorities: ReadonlySet<string>): Operations {
  let authority: string | undefined
  const pairs = (name: string): readonly Pair[] =>
    fields.map(name, (key, value, path): Pair | undefined => {
      const text = literal(readText(value, path, fields.problems) ?? '', path, reading)
      if (!authorities.has(key.toLowerCase())) return [headerName(key, path, reading.unsupported), text]
      if (!isHost(text)) reading.unsupported.add(path, `${JSON.stringify(text)} is no host`)
      authority = text
      return undefined
    })
  const set = pairs('set')
  const add = pairs('add')
  const removed = fields.list('remove', (value, path) =>
    headerName(readText(value, path, fields.problems) ?? 'x', path, reading.unsupported)
  )
  return { change: inOrder(set, add, removed), authority }
}

/** What is removed was there before the others come: to remove and to add is to set. */
function inOrder(set: readonly Pair[], add: readonly Pair[], removed: readonly string[]): HeaderChange {
  const anew = add.filter(([name]) => removed.includes(name))
  const written = new Set([...set, ...anew].map(([name]) => name))
  return {
    set: [...set, ...anew],
    add: add.filter(pair => !anew.includes(pair)),
    remove: removed.filter(name => !written.has(name))
  }
}

/** `%%` is a percent sign; other signs are for what Envoy would put there. */
function literal(text: string, path: string, { unsupported }: Reading): string {
  if (!isHeaderText(text)) unsupported.add(path, 'has characters that a header cannot carry')
  if (text.replaceAll('%%', '').includes('%')) {
    unsupported.add(path, `${JSON.stringify(text)} has a variable of Envoy; write %% for a percent sign`)
  }
  return text.replaceAll('%%', '%')
}
