/** `underpass lab …`: hands everything to the lab's own program. */
import path from 'node:path'
import { existsSync } from 'node:fs'
import type { LeafCommand } from '../command.ts'

export const command: LeafCommand = {
  name: 'lab',
  summary: 'the whole mesh on this machine, from Kubernetes manifests',
  description: `Runs a whole mesh in network namespaces of this machine: API store, control plane, two nodes with agent and
ztunnel, and the pods of your manifests. What follows "lab" goes to the lab; "underpass lab --help" shows what it takes.`,
  arguments: [
    {
      name: 'words',
      help: 'command of the lab and its arguments',
      variadic: true,
      offered: ['up', 'status', 'exec', 'kubectl', 'kubeconfig', 'demo', 'check', 'down']
    }
  ],
  options: [],
  passThrough: true,
  examples: [
    { what: 'Bring it up with your manifests', command: 'lab up -f shop.yaml' },
    { what: 'Run a command in a pod', command: 'lab exec -n shop deploy/web -- curl -s http://cart/' },
    { what: 'Take it down', command: 'lab down' }
  ],
  run: async ({ io, args }) => {
    const root = path.resolve(import.meta.dirname, '../..')
    const main = ['lab/main.ts', 'lab/main.js'].map(file => path.join(root, file)).find(existsSync)
    if (main === undefined) {
      io.err('error: this installation has no lab\n')
      return 1
    }
    return io.spawn(process.execPath, ['--disable-warning=ExperimentalWarning', main, ...args])
  }
}
