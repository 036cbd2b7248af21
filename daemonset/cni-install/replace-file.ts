/** Replaces a file in one step: whoever opens it gets the old one or the new one, and never a part. */
import { closeSync, fchmodSync, fsyncSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'

/** What an operator has to do before a file can be written, by what the system says. */
const remedies: Readonly<Record<string, string>> = {
  ENOSPC: 'make room on its disk',
  EDQUOT: 'raise the quota of root, or make room within it',
  EROFS: 'mount its file system writable'
}

/**
 * The new file has exactly this mode, whatever the process's mask. Throws with nothing left behind, and the old file as it was;
 * the text names the file and, where there is one, the remedy.
 */
export function replaceFile(file: string, content: string | Buffer, mode: number): void {
  const temporary = path.join(path.dirname(file), temporaryName(path.basename(file)))
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
  } catch (cause) {
    rmSync(temporary, { force: true })
    const remedy = remedies[(cause as NodeJS.ErrnoException).code ?? '']
    throw new Error(`${file} cannot be written${remedy === undefined ? '' : `; ${remedy}`}`, { cause })
  }
}

/** Whether a file of this name is one that is about to replace another. */
export function isTemporary(name: string): boolean {
  return /^\..+\.\d+\.tmp$/.test(name)
}

/** One that no container runtime reads as a network configuration, and that nobody takes for a plug-in. */
function temporaryName(name: string): string {
  return `.${name}.${process.pid}.tmp`
}
