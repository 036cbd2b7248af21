/** The folder of network configurations on the disk. A file is there as a whole or not at all. */
import { readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import path from 'node:path'
import { type Change, type ConfigurationFiles, isConfigurationName } from './chain.ts'
import { replaceFile } from './replace-file.ts'

/** The mode of a file that has no model. */
const defaultMode = 0o644
/** No network configuration is larger; a file that is would not be one. */
const maxBytes = 1 << 20

/** Every file that a runtime would look at. Throws when the folder cannot be read. */
export function readConfigurations(folder: string): ConfigurationFiles {
  const files = new Map<string, string>()
  for (const name of readdirSync(folder).filter(isConfigurationName)) {
    const text = readSmall(path.join(folder, name))
    if (text !== undefined) files.set(name, text)
  }
  return files
}

/** Does the changes in their order. */
export function applyChanges(folder: string, changes: readonly Change[]): void {
  for (const change of changes) {
    const file = path.join(folder, change.file)
    if (change.kind === 'remove') rmSync(file, { force: true })
    else replaceFile(file, change.text, modeOf(path.join(folder, change.like)))
  }
}

function readSmall(file: string): string | undefined {
  try {
    const state = statSync(file)
    return state.isFile() && state.size <= maxBytes ? readFileSync(file, 'utf8') : undefined
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined // removed since it was listed
    throw error
  }
}

function modeOf(file: string): number {
  return (statSync(file, { throwIfNoEntry: false })?.mode ?? defaultMode) & 0o777
}
