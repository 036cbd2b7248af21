/** Values that a Telemetry gives to labels, as expressions in CEL: a text, or one attribute of the request. */
import type { RequestHead } from '../../http/exchange.ts'
import { pathOf } from '../../http/target.ts'

/** `head`: undefined for a connection that is carried as it is. */
export type TagValue =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'attribute'; readonly read: (head: RequestHead | undefined, status: number) => string }

const attributes: Readonly<Record<string, (head: RequestHead, status: number) => string | undefined>> = {
  'request.host': ({ authority }) => authority,
  'request.method': ({ method }) => method,
  'request.url_path': ({ target }) => pathOf(target),
  'request.useragent': ({ headers }) => headers.get('user-agent'),
  'response.code': (_, status) => String(status)
}

const quoted = /^(?:"([^"\\]*)"|'([^'\\]*)')$/
const header = /^request\.headers\[(?:"([\w-]+)"|'([\w-]+)')\]$/

/** Undefined: more than is understood here. */
export function readTagValue(expression: string): TagValue | undefined {
  const text = quoted.exec(expression.trim())
  if (text !== null) return { kind: 'text', text: text[1] ?? text[2] ?? '' }
  const [, double, single] = header.exec(expression.trim()) ?? []
  const name = (double ?? single)?.toLowerCase()
  const read =
    name === undefined ? attributes[expression.trim()] : ({ headers }: RequestHead) => headers.get(name)
  if (read === undefined) return undefined
  return {
    kind: 'attribute',
    read: (head, status) => (head === undefined ? undefined : read(head, status)) || 'unknown'
  }
}
