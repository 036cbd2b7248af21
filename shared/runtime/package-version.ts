/** The version of this software: that of the nearest package.json above; sources and compiled form lie at different depths. */
import { readFileSync } from 'node:fs'

export function packageVersion(): string {
  for (const up of ['../../package.json', '../../../package.json']) {
    try {
      const parsed = JSON.parse(readFileSync(new URL(up, import.meta.url), 'utf8')) as { version?: string }
      if (parsed.version !== undefined) return parsed.version
    } catch {
      // not at this depth
    }
  }
  return 'unknown'
}
