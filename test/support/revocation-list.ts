/** Certificate revocation lists, made by the openssl program. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fakeIssuer } from '../../shared/identity/fake-ca.ts'
import type { SigningPair } from '../../shared/identity/issue.ts'

/** A list signed by this CA that takes these certificates (PEM) back; `der` for the other form. */
export function crlBy(
  t: { teardown(fn: () => unknown): unknown },
  ca: SigningPair,
  revoked: readonly string[],
  extra = ''
): { pem: string; der: Buffer } {
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-crl-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const file = (name: string, text: string): void => writeFileSync(path.join(folder, name), text)
  const run = (...args: string[]): Buffer => {
    const { status, stdout, stderr } = spawnSync('openssl', args, { cwd: folder })
    if (status !== 0) throw new Error(String(stderr))
    return stdout
  }
  file('index.txt', '')
  file('crlnumber', '01')
  file('ca.pem', ca.certificatePem)
  file('ca.key', ca.keyPem)
  file(
    'ca.cnf',
    `[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=crlnumber\ndefault_md=sha256\ndefault_crl_days=1\ncrl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid\n${extra}\n`
  )
  for (const pem of revoked) {
    file('leaf.pem', pem)
    run('ca', '-config', 'ca.cnf', '-keyfile', 'ca.key', '-cert', 'ca.pem', '-revoke', 'leaf.pem')
  }
  const pem = run('ca', '-config', 'ca.cnf', '-keyfile', 'ca.key', '-cert', 'ca.pem', '-gencrl').toString()
  file('crl.pem', pem)
  return { pem, der: run('crl', '-in', 'crl.pem', '-outform', 'DER') }
}

/** A list of the CA behind `FAKE_CA=true`, PEM. */
export function fakeCaCrl(t: { teardown(fn: () => unknown): unknown }, revoked: readonly string[]): string {
  const { signerPem, key } = fakeIssuer()
  const keyPem = key.export({ type: 'pkcs8', format: 'pem' }).toString()
  return crlBy(t, { certificatePem: signerPem, keyPem }, revoked).pem
}
