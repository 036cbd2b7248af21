/** The store's certificate authority and serving certificate, made anew at each start. */
import { generateKeyPairSync, randomBytes, type KeyObject } from 'node:crypto'
import { ipToBytes, parseIp } from '../../../shared/net/address.ts'
import {
  bits,
  boolean,
  extension,
  integer,
  oid,
  oids,
  organizationName,
  sequence,
  signatureAlgorithm,
  signed,
  smallInteger,
  subjectPublicKeyInfo,
  tagged,
  time,
  toPem,
  type Der
} from '../../../shared/identity/x509.ts'

export interface ServingCertificate {
  readonly caPem: string
  readonly certificatePem: string
  readonly keyPem: string
}

const basicConstraints = '2.5.29.19'
const extendedKeyUsage = '2.5.29.37'
const serverAuth = '1.3.6.1.5.5.7.3.1'
/** The lab lives for hours; clocks of its clients are its own. */
const lifetimeMs = 365 * 24 * 3600_000
const skewMs = 3600_000

/** A certificate for these DNS names and addresses, signed by an authority whose key is then forgotten. */
export function createServingCertificate(names: readonly string[], now: number): ServingCertificate {
  const authority = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const server = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const issuer = organizationName('underpass-lab-ca')
  const caPem = certificate(issuer, issuer, authority.publicKey, authority.privateKey, now, [
    extension(basicConstraints, true, sequence(boolean(true))),
    extension(oids.keyUsage, true, bits(Buffer.of(0x06), 1)) // keyCertSign, cRLSign
  ])
  const certificatePem = certificate(
    organizationName('underpass-lab-api'),
    issuer,
    server.publicKey,
    authority.privateKey,
    now,
    [
      extension(oids.keyUsage, true, bits(Buffer.of(0x80), 7)), // digitalSignature
      extension(extendedKeyUsage, false, sequence(oid(serverAuth))),
      extension(oids.subjectAltName, false, sequence(...names.map(generalName)))
    ]
  )
  const keyPem = server.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  return { caPem, certificatePem, keyPem }
}

/** RFC 5280, 4.2.1.6: [2] dNSName, [7] iPAddress. */
function generalName(name: string): Der {
  const address = parseIp(name)
  return address === undefined
    ? tagged(2, Buffer.from(name, 'latin1'))
    : tagged(7, Buffer.from(ipToBytes(address)))
}

function certificate(
  subject: Der,
  issuer: Der,
  publicKey: KeyObject,
  signer: KeyObject,
  now: number,
  extensions: readonly Der[]
): string {
  const body = sequence(
    tagged(0, [smallInteger(2)]), // version 3
    integer(randomBytes(16)),
    signatureAlgorithm(signer),
    issuer,
    sequence(time(now - skewMs), time(now + lifetimeMs)),
    subject,
    subjectPublicKeyInfo(publicKey),
    tagged(3, [sequence(...extensions)])
  )
  return toPem('CERTIFICATE', signed(body, signer))
}
