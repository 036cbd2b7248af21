/**
 * The trace that a request is part of, as its headers say it. Source: W3C Trace Context, level 1 (traceparent,
 * tracestate); openzipkin/b3-propagation (`b3`, `x-b3-…`). Where both are there, W3C's counts.
 */
import type { HeaderList } from '../../http/header-list.ts'

export interface TraceContext {
  /** 32 hexadecimal digits; empty: the caller has decided, but there is no trace yet. */
  readonly traceId: string
  /** Of the caller's span: 16 hexadecimal digits, or empty. */
  readonly spanId: string
  /** Undefined: the caller leaves it to us. */
  readonly sampled: boolean | undefined
}

const w3c = /^([\da-f]{2})-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})(-.*)?$/
const b3Ids = /^((?:[\da-f]{16}){1,2})-([\da-f]{16})(?:-([01d])(?:-[\da-f]{16})?)?$/
const zeros = /^0+$/

/** Undefined: the headers name no trace that can be followed. */
export function readTraceContext(headers: HeaderList): TraceContext | undefined {
  return readW3c(headers) ?? readB3(headers.get('b3')) ?? readB3Fields(headers)
}

/** In W3C's form, and in those of B3 that the request came with. */
export function writeTraceContext(
  headers: HeaderList,
  { traceId, spanId, parentId, sampled }: TraceContext & { readonly parentId: string }
): void {
  if (readW3c(headers) === undefined) headers.remove('tracestate') // of a trace that is not continued
  headers.set('traceparent', `00-${traceId}-${spanId}-${sampled === true ? '01' : '00'}`)
  const decision = sampled === true ? '1' : '0'
  if (headers.has('b3')) {
    headers.set('b3', `${traceId}-${spanId}-${decision}${parentId === '' ? '' : `-${parentId}`}`)
  }
  if (!headers.has('x-b3-traceid') && !headers.has('x-b3-sampled')) return
  headers.set('x-b3-traceid', traceId)
  headers.set('x-b3-spanid', spanId)
  headers.set('x-b3-sampled', decision)
  if (parentId === '') headers.remove('x-b3-parentspanid')
  else headers.set('x-b3-parentspanid', parentId)
}

function readW3c(headers: HeaderList): TraceContext | undefined {
  const text = headers.get('traceparent')
  if (text === undefined) return undefined
  const [, version = '', traceId = '', spanId = '', flags = '', more] = w3c.exec(text) ?? []
  // A later version may say more, the first one may not.
  if (version === '' || version === 'ff' || (version === '00' && more !== undefined)) return undefined
  if (zeros.test(traceId) || zeros.test(spanId)) return undefined
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 }
}

function readB3(text: string | undefined): TraceContext | undefined {
  if (text === undefined) return undefined
  if (text === '0' || text === '1' || text === 'd') return { ...noTrace, sampled: text !== '0' }
  const [, traceId = '', spanId = '', decision] = b3Ids.exec(text.toLowerCase()) ?? []
  const sampled = decision === undefined ? undefined : decision !== '0'
  return contextOf(traceId, spanId, sampled)
}

function readB3Fields(headers: HeaderList): TraceContext | undefined {
  const sampled = decisionOf(headers.get('x-b3-sampled'), headers.get('x-b3-flags'))
  const traceId = headers.get('x-b3-traceid')?.toLowerCase() ?? ''
  const spanId = headers.get('x-b3-spanid')?.toLowerCase() ?? ''
  const readable = b3Ids.test(`${traceId}-${spanId}`) ? contextOf(traceId, spanId, sampled) : undefined
  if (readable !== undefined) return readable
  return sampled === undefined ? undefined : { ...noTrace, sampled }
}

const noTrace = { traceId: '', spanId: '' }

function contextOf(traceId: string, spanId: string, sampled: boolean | undefined): TraceContext | undefined {
  if (traceId === '' || zeros.test(traceId) || zeros.test(spanId)) return undefined
  return { traceId: traceId.padStart(32, '0'), spanId, sampled }
}

function decisionOf(sampled: string | undefined, flags: string | undefined): boolean | undefined {
  if (flags === '1') return true // debug
  if (sampled === '1' || sampled === 'true') return true
  return sampled === '0' || sampled === 'false' ? false : undefined
}
