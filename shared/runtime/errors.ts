/** Faults of the mesh: what a peer is told, what the metrics and the access log say, one row a code. */

/** Value of the label and log field `response_flags`; `-` is a connection that ended well. Source: Istio ztunnel. */
export type ResponseFlag =
  | '-'
  | 'DENY'
  | 'CONNECT'
  | 'TLS_FAILURE'
  | 'H2_HANDSHAKE_FAILURE'
  | 'NETWORK_POLICY'
  | 'IDENTITY_ERROR'
  | 'CERT_REVOKED'

interface Row {
  /** Status of the CONNECT response, for faults before the 200. */
  readonly httpStatus: 400 | 401 | 503
  readonly responseFlag: ResponseFlag
}

/** Every fault the data path knows. A test counts the rows and looks for each code in the sources. */
export const errorTable = {
  METHOD_NOT_CONNECT: { httpStatus: 400, responseFlag: 'CONNECT' },
  AUTHORITY_INVALID: { httpStatus: 400, responseFlag: 'CONNECT' },
  AUTHORITY_MISMATCH: { httpStatus: 400, responseFlag: 'CONNECT' },
  POLICY_REJECTED: { httpStatus: 401, responseFlag: 'DENY' },
  POLICY_CHANGED: { httpStatus: 401, responseFlag: 'DENY' },
  PEER_REVOKED: { httpStatus: 401, responseFlag: 'CERT_REVOKED' },
  WORKLOAD_UNKNOWN: { httpStatus: 503, responseFlag: 'CONNECT' },
  SERVICE_UNKNOWN: { httpStatus: 503, responseFlag: 'CONNECT' },
  PORT_UNKNOWN: { httpStatus: 503, responseFlag: 'CONNECT' },
  SERVICE_WITHOUT_ADDRESS: { httpStatus: 503, responseFlag: 'CONNECT' },
  RECURSIVE_CALL: { httpStatus: 503, responseFlag: 'CONNECT' },
  CONNECT_FAILED: { httpStatus: 503, responseFlag: 'CONNECT' },
  CONNECT_TIMEOUT_HBONE: { httpStatus: 503, responseFlag: 'NETWORK_POLICY' },
  TLS_FAILED: { httpStatus: 503, responseFlag: 'TLS_FAILURE' },
  HTTP2_FAILED: { httpStatus: 503, responseFlag: 'H2_HANDSHAKE_FAILURE' },
  HTTP_STATUS: { httpStatus: 503, responseFlag: 'CONNECT' },
  IDENTITY_FAILED: { httpStatus: 503, responseFlag: 'IDENTITY_ERROR' },
  STREAM_FAILED: { httpStatus: 503, responseFlag: 'CONNECT' },
  DRAINED: { httpStatus: 503, responseFlag: '-' },
  IDLE_TIMEOUT: { httpStatus: 503, responseFlag: '-' }
} as const satisfies Record<string, Row>

export type ErrorCode = keyof typeof errorTable

/** A fault with a text that tells an operator what to look at next. */
export class MeshError extends Error {
  static override readonly name = 'MeshError'
  readonly code: ErrorCode
  /** HTTP status by which the peer refused. */
  readonly peerStatus: number | undefined

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown; peerStatus?: number }) {
    super(message, options)
    this.name = 'MeshError'
    this.code = code
    this.peerStatus = options?.peerStatus
  }

  get httpStatus(): 400 | 401 | 503 {
    return errorTable[this.code].httpStatus
  }

  get responseFlag(): ResponseFlag {
    return errorTable[this.code].responseFlag
  }
}

/** The text of anything thrown, with its chain of causes; a cause that the text tells already is not repeated. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const cause = error.cause === undefined ? '' : messageOf(error.cause)
  return error.message.includes(cause) ? error.message : `${error.message}: ${cause}`
}
