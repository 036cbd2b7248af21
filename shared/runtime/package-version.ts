/**
 * What runs, from the nearest package.json above: the project's own beside the sources; beside the compiled form the
 * one that the build writes, with the commit.
 */
import { readFileSync } from 'node:fs'

export function packageVersion(): string {
  return nearestPackage().version ?? 'unknown'
}

/** The commit that was compiled; unknown where the sources run, which may be edited. */
export function packageRevision(): string {
  return nearestPackage().gitHead ?? 'unknown'
}

function nearestPackage(): { readonly version?: string; readonly gitHead?: string } {
  const file = new URL('../../package.json', import.meta.url)
  return JSON.parse(readFileSync(file, 'utf8')) as { version?: string; gitHead?: string }
}
