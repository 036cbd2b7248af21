/** The DER codec of node-forge alone, as far as x509.ts uses it; the whole package would cost a ztunnel 6 MB. */
declare module 'node-forge/lib/asn1.js' {
  interface Asn1 {
    readonly tagClass: number
    readonly type: number
    readonly constructed: boolean
    /** Bytes as a Latin-1 string, or the items of a constructed value. */
    readonly value: string | Asn1[]
  }
  interface Bytes {
    getBytes(): string
  }
  interface DecodeOptions {
    readonly strict: boolean
    readonly parseAllBytes: boolean
    readonly decodeBitStrings: boolean
  }
  const asn1: {
    readonly Class: { readonly UNIVERSAL: number; readonly CONTEXT_SPECIFIC: number }
    readonly Type: Readonly<
      Record<
        | 'BOOLEAN'
        | 'INTEGER'
        | 'BITSTRING'
        | 'OCTETSTRING'
        | 'NULL'
        | 'OID'
        | 'UTF8'
        | 'SEQUENCE'
        | 'SET'
        | 'UTCTIME'
        | 'GENERALIZEDTIME',
        number
      >
    >
    create(tagClass: number, type: number, constructed: boolean, value: string | Asn1[]): Asn1
    fromDer(bytes: string, options: DecodeOptions): Asn1
    toDer(value: Asn1): Bytes
    oidToDer(dotted: string): Bytes
    derToOid(bytes: string): string
    integerToDer(value: number): Bytes
  }
  export type { Asn1 }
  export default asn1
}
