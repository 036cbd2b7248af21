/** Heads and chunks as they are sent. Names and values must have come through our own readers or be known to be clean. */
import { STATUS_CODES } from 'node:http'
import type { HeaderList } from '../http/header-list.ts'

/** Latin1, with the empty line. */
export function requestHeadText(
  method: string,
  target: string,
  authority: string,
  headers: HeaderList
): string {
  return `${method} ${target} HTTP/1.1\r\nhost: ${authority}\r\n${fieldLines(headers)}\r\n`
}

/** Latin1, with the empty line. */
export function responseHeadText(status: number, headers: HeaderList): string {
  return `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n${fieldLines(headers)}\r\n`
}

/** What stands before the data of a chunk; `\r\n` follows the data. */
export function chunkStart(bytes: number): string {
  return `${bytes.toString(16)}\r\n`
}

export function lastChunk(trailers?: HeaderList): string {
  return `0\r\n${trailers === undefined ? '' : fieldLines(trailers)}\r\n`
}

function fieldLines(headers: HeaderList): string {
  let text = ''
  for (const [name, value] of headers) text += `${name}: ${value}\r\n`
  return text
}
