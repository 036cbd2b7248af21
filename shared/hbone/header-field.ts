/** Header fields as HPACK carries them. */

/** Names are in lower case. Values are one character a byte (latin1). */
export type HeaderField = readonly [name: string, value: string]
export type HeaderList = readonly HeaderField[]
