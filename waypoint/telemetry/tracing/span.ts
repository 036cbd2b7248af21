/** A piece of work of a trace, when it is over. */
export interface Span {
  /** 32 and 16 hexadecimal digits; `parentId` is empty where the trace begins. */
  readonly traceId: string
  readonly spanId: string
  readonly parentId: string
  /** `tracestate` of the request. */
  readonly state: string
  readonly kind: 'server' | 'client'
  readonly name: string
  /** Milliseconds since the epoch. */
  readonly startMs: number
  readonly endMs: number
  readonly failed: boolean
  readonly attributes: readonly Attribute[]
}

export type Attribute = readonly [key: string, value: string]
