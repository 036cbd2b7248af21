/**
 * A signing certificate that the operator gives as files: `ca-cert.pem`, `ca-key.pem`, `cert-chain.pem`,
 * `root-cert.pem` as Istio's `cacerts` has them, or `tls.crt`, `tls.key`, `ca.crt` of a TLS secret.
 */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { splitPem } from '../../shared/identity/certificate.ts'
import { issuerOf, type Issuer } from '../../shared/identity/issue.ts'

interface Layout {
  readonly certificate: string
  readonly key: string
  readonly roots: string
  /** What leads from the certificate to a root; may be absent. */
  readonly chain: string | undefined
}

const layouts: readonly Layout[] = [
  { certificate: 'ca-cert.pem', key: 'ca-key.pem', roots: 'root-cert.pem', chain: 'cert-chain.pem' },
  { certificate: 'tls.crt', key: 'tls.key', roots: 'ca.crt', chain: undefined }
]

/** The revocation list beside the signing certificate; undefined when there is none. */
export async function crlFromFiles(folder: string): Promise<string | undefined> {
  return textOf(folder, 'ca-crl.pem')
}

/** Undefined when the folder holds neither layout; throws when one is there but cannot be used. */
export async function caFromFiles(folder: string): Promise<Issuer | undefined> {
  for (const layout of layouts) {
    const certificate = await textOf(folder, layout.certificate)
    if (certificate === undefined) continue
    const key = await textOf(folder, layout.key)
    const roots = await textOf(folder, layout.roots)
    if (key === undefined || roots === undefined) {
      throw new Error(
        `${folder} holds ${layout.certificate} but not ${key === undefined ? layout.key : layout.roots}`
      )
    }
    const chain = layout.chain === undefined ? '' : ((await textOf(folder, layout.chain)) ?? '')
    return issuerFromText(folder, { certificate, key, roots, chain })
  }
  return undefined
}

function issuerFromText(
  folder: string,
  texts: {
    readonly certificate: string
    readonly key: string
    readonly roots: string
    readonly chain: string
  }
): Issuer {
  const [certificatePem, ...above] = splitPem(texts.certificate)
  if (certificatePem === undefined) throw new Error(`${folder}: the signing certificate is not PEM`)
  const roots = new Set(splitPem(texts.roots))
  // Some chains repeat the signing certificate, some end with the root; neither belongs between the two.
  const between = [...above, ...splitPem(texts.chain)].filter(
    pem => pem !== certificatePem && !roots.has(pem)
  )
  try {
    return issuerOf({
      certificatePem,
      keyPem: texts.key,
      intermediatesPem: [...new Set(between)],
      rootsPem: texts.roots
    })
  } catch (cause) {
    throw new Error(`${folder}: the signing certificate cannot be used`, { cause })
  }
}

/** A file of a folder; undefined when it is not there. */
export async function textOf(folder: string, name: string): Promise<string | undefined> {
  try {
    return await readFile(path.join(folder, name), 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
