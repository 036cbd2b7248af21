/** What runs, as `version` prints it and config_dump carries it; the keys are those that istioctl expects. */
import { readFileSync } from 'node:fs'

export function versionOf(istioVersion: string): Record<string, string> {
  return {
    version: packageVersion(),
    gitRevision: 'unknown',
    rustVersion: 'none',
    nodeVersion: process.versions.node,
    buildProfile: import.meta.filename.endsWith('.ts') ? 'source' : 'release',
    buildStatus: 'unknown',
    istioVersion,
    cryptoProvider: `openssl ${process.versions.openssl}`
  }
}

/** Of the nearest package.json above: the sources and the compiled form lie at different depths. */
function packageVersion(): string {
  for (const up of ['../package.json', '../../package.json']) {
    try {
      const parsed = JSON.parse(readFileSync(new URL(up, import.meta.url), 'utf8')) as { version?: string }
      if (parsed.version !== undefined) return parsed.version
    } catch {
      // not at this depth
    }
  }
  return 'unknown'
}
