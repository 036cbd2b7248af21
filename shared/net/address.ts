/**
 * IP addresses, socket addresses and address blocks as values.
 * The only file that imports ipaddr.js.
 */
import ipaddr from 'ipaddr.js'

declare const brand: unique symbol

/** An IP address in canonical text: dotted quad, or RFC 5952 for IPv6. A v4-mapped v6 address is its IPv4 form. */
export type Ip = string & { readonly [brand]: 'Ip' }

/** An IP address and a TCP or UDP port (0 to 65535). */
export interface SocketAddress {
  readonly ip: Ip
  readonly port: number
}

/** An address block; `bytes` holds the network address, 4 or 16 bytes. */
export interface Cidr {
  readonly bytes: Uint8Array
  readonly length: number
}

export type Family = 4 | 6

const dottedQuad = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/

/** Reads an address in any usual form; undefined when it is none (also for "1.2", zone ids and hex quads). */
export function parseIp(text: string): Ip | undefined {
  if (dottedQuad.test(text)) return text as Ip
  if (!text.includes(':') || text.includes('%') || !ipaddr.IPv6.isValid(text)) return undefined
  const address = ipaddr.IPv6.parse(text)
  return (
    address.isIPv4MappedAddress() ? address.toIPv4Address().toString() : address.toRFC5952String()
  ) as Ip
}

/** As {@link parseIp}, for text that the caller knows to be an address; throws when it is not. */
export function ip(text: string): Ip {
  const parsed = parseIp(text)
  if (parsed === undefined) throw new Error(`not an IP address: ${JSON.stringify(text)}`)
  return parsed
}

export function ipFamily(address: Ip): Family {
  return address.includes(':') ? 6 : 4
}

/** 4 or 16 bytes in network order, as the Workload API carries addresses; undefined for any other length. */
export function ipFromBytes(bytes: Uint8Array): Ip | undefined {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}` as Ip
  if (bytes.length !== 16) return undefined
  return parseIp(ipaddr.fromByteArray([...bytes]).toString())
}

export function ipToBytes(address: Ip): Uint8Array {
  if (address.includes(':')) return Uint8Array.from(ipaddr.parse(address).toByteArray())
  const bytes = new Uint8Array(4)
  let part = 0
  let value = 0
  for (let index = 0; index < address.length; index += 1) {
    const unit = address.charCodeAt(index)
    if (unit === 46) {
      bytes[part++] = value
      value = 0
    } else value = value * 10 + unit - 48
  }
  bytes[part] = value
  return bytes
}

export function isLoopback(address: Ip): boolean {
  return address === '::1' || (address.startsWith('127.') && ipFamily(address) === 4)
}

/** Reads `1.2.3.4:80` or `[2001:db8::1]:80`; the port is mandatory. */
export function parseSocketAddress(text: string): SocketAddress | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text)
  if (match === null) return undefined
  const [, v6, v4, portText] = match
  const address = parseIp(v6 ?? v4 ?? '')
  const port = Number(portText)
  if (address === undefined || port > 65535) return undefined
  if (v6 !== undefined && !v6.includes(':')) return undefined // brackets are for IPv6
  return { ip: address, port }
}

export function formatSocketAddress(address: SocketAddress): string {
  return ipFamily(address.ip) === 6 ? `[${address.ip}]:${address.port}` : `${address.ip}:${address.port}`
}

export function sameSocketAddress(a: SocketAddress, b: SocketAddress): boolean {
  return a.port === b.port && a.ip === b.ip
}

/** Reads `10.0.0.0/8`; a bare address is a block of one. Host bits are kept out of the result. */
export function parseCidr(text: string): Cidr | undefined {
  const [addressText = '', lengthText, ...rest] = text.split('/')
  const address = parseIp(addressText)
  if (address === undefined || rest.length > 0) return undefined
  if (lengthText !== undefined && !/^\d{1,3}$/.test(lengthText)) return undefined
  const bytes = ipToBytes(address)
  return cidrFromBytes(bytes, lengthText === undefined ? bytes.length * 8 : Number(lengthText))
}

/** A block from a network address of 4 or 16 bytes and a prefix length in bits; undefined when they do not fit. */
export function cidrFromBytes(bytes: Uint8Array, length: number): Cidr | undefined {
  if ((bytes.length !== 4 && bytes.length !== 16) || length > bytes.length * 8 || length < 0) return undefined
  const network = bytes.map((byte, index) => byte & maskOfByte(length, index))
  return { bytes: network, length }
}

export function cidrContains(block: Cidr, address: Ip): boolean {
  const bytes = ipToBytes(address)
  if (bytes.length !== block.bytes.length) return false
  return bytes.every((byte, index) => (byte & maskOfByte(block.length, index)) === block.bytes[index])
}

export function formatCidr(block: Cidr): string {
  return `${ipFromBytes(block.bytes)}/${block.length}`
}

function maskOfByte(length: number, index: number): number {
  const bits = Math.max(0, Math.min(8, length - index * 8))
  return (0xff << (8 - bits)) & 0xff
}
