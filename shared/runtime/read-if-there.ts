/** Files that need not be there: a missing one is undefined, every other fault is thrown. */
import { readFileSync } from 'node:fs'

export function readIfThere(file: string): Buffer | undefined {
  try {
    return readFileSync(file)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** As UTF-8. */
export function textIfThere(file: string): string | undefined {
  return readIfThere(file)?.toString()
}
