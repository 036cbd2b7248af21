/** What `/version` says: the Kubernetes version whose behaviour the store follows. */
export const version = {
  major: '1',
  minor: '36',
  gitVersion: 'v1.36.1+underpass-lab',
  gitCommit: '',
  gitTreeState: '',
  buildDate: '1970-01-01T00:00:00Z',
  goVersion: '',
  compiler: '',
  platform: `linux/${process.arch === 'x64' ? 'amd64' : process.arch}`
} as const
