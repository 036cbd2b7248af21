/** Replaces a file in one step: whoever opens it gets the old one or the new one, and never a part. */
import { closeSync, fchmodSync, fsyncSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'

/** The new file has exactly this mode, whatever the process's mask. Throws with nothing left behind. */
export function replaceFile(file: string, content: string | Buffer, mode: number): void {
  // A name that no container runtime reads as a network configuration, and that nobody takes for a plug-in.
  const temporary = path.join(path.dirname(file), `.${path.basename(file)}.${process.pid}.tmp`)
  try {
    const fd = openSync(temporary, 'w', 0o600)
    try {
      writeFileSync(fd, content)
      fchmodSync(fd, mode)
      fsyncSync(fd) // after a power cut an empty file would stand under the name
    } finally {
      closeSync(fd)
    }
    renameSync(temporary, file)
  } catch (error) {
    rmSync(temporary, { force: true })
    throw error
  }
}
