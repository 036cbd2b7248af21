/**
 * WebSocket's handshake belongs to HTTP/1.1; extended CONNECT has none (RFC 8441 section 5). A request that came as
 * extended CONNECT gets a key, one that goes out as it loses its key, and the answer tells what the key's owner expects:
 * so the two versions can be joined either way.
 */
import { createHash, randomBytes } from 'node:crypto'
import type { HeaderList } from '../http/header-list.ts'

const key = 'sec-websocket-key'
const accept = 'sec-websocket-accept'
/** RFC 6455 section 1.3. */
const salt = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'

export function addKey(headers: HeaderList): void {
  headers.set(key, randomBytes(16).toString('base64'))
}

export function withoutHandshake(headers: HeaderList): HeaderList {
  if (!headers.has(key) && !headers.has(accept)) return headers
  const left = headers.copy()
  left.remove(key)
  left.remove(accept)
  return left
}

/** `request`: the headers of the request that `answer` agrees to. */
export function addAccept(answer: HeaderList, request: HeaderList): void {
  const asked = request.get(key)
  if (asked !== undefined)
    answer.set(
      accept,
      createHash('sha1')
        .update(asked + salt)
        .digest('base64')
    )
}
