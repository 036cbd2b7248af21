/** Why a message is not taken. Nothing of it was passed on, and the connection it came on cannot be used any further. */
export interface Refusal {
  readonly kind: 'refused'
  /** What a client is answered; a server that sends such a message is answered for with 502. */
  readonly status: 400 | 417 | 431 | 501 | 505
  readonly reason: string
}

export function refused(reason: string, status: Refusal['status'] = 400): Refusal {
  return { kind: 'refused', status, reason }
}
