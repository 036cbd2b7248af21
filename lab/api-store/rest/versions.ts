/**
 * The order of API versions: stable ones first, then beta, then alpha, higher numbers first; other names last.
 * Source: Kubernetes, "Versions in CustomResourceDefinitions", version priority.
 */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [rank(a), rank(b)]
  if (left === undefined || right === undefined) {
    return left === right ? (a < b ? -1 : 1) : left === undefined ? 1 : -1
  }
  return right.stability - left.stability || right.major - left.major || right.minor - left.minor
}

function rank(version: string): { stability: number; major: number; minor: number } | undefined {
  const [, major, stage, minor = '0'] = /^v(\d+)(?:(alpha|beta)(\d+))?$/.exec(version) ?? []
  if (major === undefined) return undefined
  const stability = stage === undefined ? 3 : stage === 'beta' ? 2 : 1
  return { stability, major: Number(major), minor: Number(minor) }
}
