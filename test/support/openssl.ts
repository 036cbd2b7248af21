/** The openssl program as a second opinion on what we write. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

/** Runs openssl with the given files in its working directory; returns its two outputs, and whether it was content. */
export function openssl(
  args: readonly string[],
  files: Readonly<Record<string, string>> = {}
): { ok: boolean; output: string } {
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-openssl-'))
  try {
    for (const [name, text] of Object.entries(files)) writeFileSync(path.join(folder, name), text)
    const { status, stdout, stderr } = spawnSync('openssl', args, { cwd: folder, encoding: 'utf8' })
    return { ok: status === 0, output: `${stdout}${stderr}` }
  } finally {
    rmSync(folder, { recursive: true })
  }
}
