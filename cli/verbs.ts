/** All verbs, with what `underpass --help` says of them; a verb's own file is loaded when it is used. */
import type { CommandSpec } from './command.ts'

export interface Verb {
  readonly name: string
  readonly aliases: readonly string[]
  readonly summary: string
  readonly load: () => Promise<{ readonly command: CommandSpec }>
}

export const verbs: readonly Verb[] = [
  {
    name: 'install',
    aliases: [],
    summary: 'install the mesh, or take over one part of another mesh',
    load: () => import('./commands/install.ts')
  },
  {
    name: 'upgrade',
    aliases: [],
    summary: 'bring an installed mesh to the version of this program',
    load: () => import('./commands/upgrade.ts')
  },
  {
    name: 'uninstall',
    aliases: [],
    summary: 'take the mesh away; pods go on working',
    load: () => import('./commands/uninstall.ts')
  },
  {
    name: 'check',
    aliases: [],
    summary: 'find what keeps the mesh from working, with the remedy',
    load: () => import('./commands/check.ts')
  },
  {
    name: 'enroll',
    aliases: [],
    summary: 'bring a namespace or a pod into the mesh',
    load: async () => ({ command: (await import('./commands/enroll.ts')).enroll })
  },
  {
    name: 'unenroll',
    aliases: [],
    summary: 'take a namespace or a pod out of the mesh',
    load: async () => ({ command: (await import('./commands/enroll.ts')).unenroll })
  },
  {
    name: 'status',
    aliases: [],
    summary: 'the mesh on one screen: programs, nodes, pods, certificates',
    load: () => import('./commands/status.ts')
  },
  {
    name: 'pods',
    aliases: [],
    summary: 'which pods are in the mesh, and why the others are not',
    load: () => import('./commands/pods.ts')
  },
  {
    name: 'config',
    aliases: ['zc', 'ztunnel-config'],
    summary: 'what the agents hold: workloads, services, policies, certificates, connections',
    load: () => import('./commands/config.ts')
  },
  {
    name: 'explain',
    aliases: [],
    summary: 'the path of a connection and what each policy on it decides',
    load: () => import('./commands/explain.ts')
  },
  {
    name: 'tap',
    aliases: [],
    summary: 'connections as they open, close and are refused',
    load: () => import('./commands/tap.ts')
  },
  {
    name: 'node',
    aliases: [],
    summary: 'capture rules of a pod on a node: desired and actual',
    load: () => import('./commands/node.ts')
  },
  {
    name: 'proxy-status',
    aliases: ['ps'],
    summary: 'whether the agents have what the control plane sent',
    load: () => import('./commands/proxy-status.ts')
  },
  {
    name: 'log',
    aliases: [],
    summary: 'show or set log levels of all agents, or of the control plane',
    load: () => import('./commands/log.ts')
  },
  {
    name: 'logs',
    aliases: [],
    summary: 'what all programs of the mesh wrote, in one stream',
    load: () => import('./commands/logs.ts')
  },
  {
    name: 'bug-report',
    aliases: [],
    summary: 'one archive of all that somebody else needs to see, without secrets',
    load: () => import('./commands/bug-report.ts')
  },
  {
    name: 'lab',
    aliases: [],
    summary: 'the whole mesh on this machine, from Kubernetes manifests',
    load: () => import('./commands/lab.ts')
  },
  {
    name: 'version',
    aliases: [],
    summary: 'versions of this program, the control plane and the agents',
    load: () => import('./commands/version.ts')
  },
  {
    name: 'completion',
    aliases: [],
    summary: 'completion for bash, zsh or fish',
    load: async () => {
      const { completion } = await import('./commands/completion.ts')
      return { command: completion(verbs) }
    }
  }
]

export function findVerb(name: string): Verb | undefined {
  return verbs.find(verb => verb.name === name || verb.aliases.includes(name))
}
