/** How long a body is, as far as its head says. */
export type Framing =
  | { readonly kind: 'none' }
  | { readonly kind: 'length'; readonly bytes: number }
  /** Of a length that its end will tell, with trailers perhaps. */
  | { readonly kind: 'chunked' }
  /** HTTP/1 responses only: the body ends with the connection. */
  | { readonly kind: 'until close' }

export type HttpVersion = 'HTTP/1.0' | 'HTTP/1.1' | 'HTTP/2'
