/** What a client is told where its request was denied: the authorizer's words, as far as a local reply can carry them. */
import type { HeaderList } from '../http/header-list.ts'
import type { Outcome } from './check.ts'

/** Bytes of its body; what is longer is cut. */
export const maxBody = 64 * 1024

const ofWholeBody = ['content-md5', 'digest', 'content-digest', 'etag']
const ofBody = ['content-type', 'content-encoding']

export interface DenialBody {
  readonly body: Uint8Array
  readonly whole: boolean
}

/** Local replies carry text: a body that is none is left out, with those of the `headers` that speak of it. */
export function denial(status: number, headers: HeaderList, { body, whole }: DenialBody): Outcome {
  const cut = body.subarray(0, maxBody)
  const complete = whole && cut.length === body.length
  const text = headers.has('content-encoding') ? undefined : textOf(cut, complete)
  if (text === undefined || !complete) for (const name of ofWholeBody) headers.remove(name)
  if (text === undefined) for (const name of ofBody) headers.remove(name)
  const bodiless = status === 204 || status === 304
  return { kind: 'denied', status, headers, body: bodiless ? '' : (text ?? '') }
}

/** Undefined for what is no UTF-8; the last character may have been cut in two where it is not complete. */
function textOf(bytes: Uint8Array, complete: boolean): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes, { stream: !complete })
  } catch {
    return undefined // it has bytes that are none
  }
}
