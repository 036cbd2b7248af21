/** Header compression of HTTP/2 (RFC 7541). */
export type HeaderField = readonly [name: string, value: string]
export type HeaderList = readonly HeaderField[]
