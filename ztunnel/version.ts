/** What runs, as `version` prints it and config_dump carries it; the keys are those that istioctl expects. */
import { packageRevision, packageVersion } from '../shared/runtime/package-version.ts'

export function versionOf(istioVersion: string): Record<string, string> {
  return {
    version: packageVersion(),
    gitRevision: packageRevision(),
    rustVersion: 'none',
    nodeVersion: process.versions.node,
    buildProfile: import.meta.filename.endsWith('.ts') ? 'source' : 'release',
    buildStatus: 'unknown',
    istioVersion,
    cryptoProvider: `openssl ${process.versions.openssl}`
  }
}
