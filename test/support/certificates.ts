/**
 * Certificates for tests, written byte by byte so that they can be wrong in one chosen way: dates, usages,
 * names, signer. DER as in X.690 and RFC 5280; P-256 keys from node:crypto.
 */
import { createHash, generateKeyPairSync, randomBytes, sign, type KeyObject } from 'node:crypto'
import type { WorkloadCertificate } from '../../shared/identity/certificate.ts'
import { spiffeId, type SpiffeId } from '../../shared/identity/spiffe-id.ts'

const day = 86_400_000

export interface TestAuthority {
  readonly pem: string
  /** Signs a leaf; `certificate` is what a workload of this authority holds. */
  issue(wishes?: LeafWishes): TestCredentials
}

export interface LeafWishes {
  readonly trustDomain?: string
  readonly namespace?: string
  readonly serviceAccount?: string
  /** In place of the identity; `[]` = no SAN at all. */
  readonly uris?: readonly string[]
  /** Beside the URIs. */
  readonly hostnames?: readonly string[]
  /** Milliseconds since the epoch. */
  readonly notBefore?: number
  readonly notAfter?: number
  /** OIDs; default server and client authentication. */
  readonly usages?: readonly string[]
}

export interface TestCredentials {
  readonly certificate: WorkloadCertificate
  readonly identity: SpiffeId
  readonly certPem: string
  readonly keyPem: string
}

export const serverAuth = '1.3.6.1.5.5.7.3.1'
export const clientAuth = '1.3.6.1.5.5.7.3.2'

/** A self-signed root. Two calls make two roots that share a name but no key, as after a rotation. */
export function testAuthority(name = 'Test Root'): TestAuthority {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const issuer = distinguishedName(name)
  const pem = certificatePem({
    issuer,
    subject: issuer,
    publicKey,
    signer: privateKey,
    notBefore: Date.now() - day,
    notAfter: Date.now() + 3650 * day,
    extensions: [
      extension('2.5.29.19', true, sequence(boolean(true))),
      extension('2.5.29.15', true, bitString(Buffer.from([0x06]), 1)), // keyCertSign, cRLSign
      extension('2.5.29.14', false, octets(keyId(publicKey)))
    ]
  })
  const issue = (wishes: LeafWishes = {}): TestCredentials => {
    const { trustDomain = 'cluster.local', namespace = 'default', serviceAccount = 'client' } = wishes
    const identity = spiffeId({ trustDomain, namespace, serviceAccount })
    const { uris = [identity], hostnames = [], usages = [serverAuth, clientAuth] } = wishes
    const { notBefore = Date.now() - 60_000, notAfter = Date.now() + day } = wishes
    const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const extensions = [
      extension('2.5.29.15', true, bitString(Buffer.from([0x80]), 7)), // digitalSignature
      extension('2.5.29.37', false, sequence(...usages.map(oid))),
      extension('2.5.29.19', true, sequence()),
      extension('2.5.29.35', false, sequence(tagged(0x80, keyId(publicKey))))
    ]
    if (uris.length + hostnames.length > 0) {
      const names = [
        ...hostnames.map(name => tagged(0x82, Buffer.from(name, 'latin1'))),
        ...uris.map(uri => tagged(0x86, Buffer.from(uri, 'latin1')))
      ]
      extensions.push(extension('2.5.29.17', true, sequence(...names)))
    }
    const serialNumber = randomBytes(8)
    const certPem = certificatePem({
      issuer,
      subject: sequence(),
      publicKey: keys.publicKey,
      signer: privateKey,
      notBefore,
      notAfter,
      extensions,
      serialNumber
    })
    const keyPem = keys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
    const certificate: WorkloadCertificate = {
      identity,
      chainPem: [certPem],
      keyPem,
      rootsPem: [pem],
      notBefore,
      notAfter,
      serial: serialNumber.readBigUInt64BE().toString()
    }
    return { certificate, identity, certPem, keyPem }
  }
  return { pem, issue }
}

interface Parts {
  readonly issuer: Buffer
  readonly subject: Buffer
  readonly publicKey: KeyObject
  readonly signer: KeyObject
  readonly notBefore: number
  readonly notAfter: number
  readonly extensions: readonly Buffer[]
  readonly serialNumber?: Buffer
}

function certificatePem(parts: Parts): string {
  const algorithm = sequence(oid('1.2.840.10045.4.3.2')) // ecdsa-with-SHA256
  const body = sequence(
    tagged(0xa0, integer(Buffer.from([2]))),
    integer(parts.serialNumber ?? randomBytes(8)),
    algorithm,
    parts.issuer,
    sequence(time(parts.notBefore), time(parts.notAfter)),
    parts.subject,
    parts.publicKey.export({ type: 'spki', format: 'der' }),
    tagged(0xa3, sequence(...parts.extensions))
  )
  const signature = sign('sha256', body, parts.signer)
  const der = sequence(body, algorithm, bitString(signature, 0))
  const lines = der.toString('base64').replaceAll(/.{64}/g, '$&\n').trimEnd()
  return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`
}

function keyId(key: KeyObject): Buffer {
  return createHash('sha1')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest()
}

function distinguishedName(commonName: string): Buffer {
  return sequence(tagged(0x31, sequence(oid('2.5.4.3'), tagged(0x0c, Buffer.from(commonName, 'utf8')))))
}

function extension(id: string, critical: boolean, value: Buffer): Buffer {
  return sequence(oid(id), ...(critical ? [boolean(true)] : []), octets(value))
}

function tagged(tag: number, content: Buffer): Buffer {
  if (content.length < 0x80) return Buffer.concat([Buffer.from([tag, content.length]), content])
  const length = Buffer.from(content.length.toString(16).padStart(4, '0'), 'hex')
  return Buffer.concat([Buffer.from([tag, 0x80 | length.length]), length, content])
}

function sequence(...items: Buffer[]): Buffer {
  return tagged(0x30, Buffer.concat(items))
}

function octets(content: Buffer): Buffer {
  return tagged(0x04, content)
}

function boolean(value: boolean): Buffer {
  return tagged(0x01, Buffer.from([value ? 0xff : 0]))
}

function integer(bytes: Buffer): Buffer {
  const minimal = bytes.subarray(bytes.findIndex(byte => byte !== 0)) // DER allows no padding: X.690, 8.3.2
  const positive = (minimal[0] ?? 0) & 0x80 ? Buffer.concat([Buffer.from([0]), minimal]) : minimal
  return tagged(0x02, positive)
}

function bitString(bits: Buffer, unused: number): Buffer {
  return tagged(0x03, Buffer.concat([Buffer.from([unused]), bits]))
}

function time(ms: number): Buffer {
  const text = new Date(ms).toISOString().replaceAll(/[-:T]|\.\d+/g, '')
  return tagged(0x18, Buffer.from(text, 'latin1'))
}

function oid(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number)
  const bytes = [first * 40 + second]
  for (const part of rest) {
    const groups = [part & 0x7f]
    for (let high = part >>> 7; high > 0; high >>>= 7) groups.unshift((high & 0x7f) | 0x80)
    bytes.push(...groups)
  }
  return tagged(0x06, Buffer.from(bytes))
}
